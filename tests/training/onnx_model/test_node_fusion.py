"""Fewer nodes give the same numbers."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from isoserve.models.heads import IsoMax2Head
from isoserve.models.openvino_engine import computes_bfloat16, is_installed, open_sessions
from isoserve.models.served_model import Verdict
from isoserve.training.onnx_model.export import to_onnx
from isoserve.training.onnx_model.feature_statistics import fit_statistics


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Tensor) -> Tensor:
        return self.function(rows)


def squares(rows: Tensor) -> Tensor:
    return (rows * rows).sum(dim=-1)


def squares_seen_twice(rows: Tensor) -> Tensor:
    product = rows * rows
    return product.sum(dim=-1) + product[:, 0]


def products(rows: Tensor) -> Tensor:
    return (rows * rows.flip(1)).sum(dim=-1)


def largest(rows: Tensor) -> Tensor:
    return torch.tensor([1.0, 2.0, 4.0, 8.0]).index_select(0, rows.argmax(dim=1))


@pytest.mark.parametrize(
    ("function", "there", "gone"),
    [
        (squares, "ReduceSumSquare", "Mul"),
        (squares_seen_twice, "Mul", "ReduceSumSquare"),
        (products, "Mul", "ReduceSumSquare"),
        (largest, "ArgMax", "Reshape"),
    ],
)
def test_a_form_is_replaced_only_where_the_numbers_stay(
    function: Callable[[Tensor], Tensor], there: str, gone: str
) -> None:
    model = to_onnx(Function(function).eval(), torch.ones(2, 4), ("out",), "rows")
    operators = {node.op_type for node in model.graph.node}
    assert there in operators
    assert gone not in operators
    used = {name for node in model.graph.node for name in node.input}
    assert {each.name for each in model.graph.initializer} <= used
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    rows[0] = 0
    rows[1] = 1e-3
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"rows": rows})
    np.testing.assert_allclose(found, function(torch.from_numpy(rows)).numpy(), rtol=1e-6)


@pytest.mark.skipif(
    not (is_installed() and computes_bfloat16()), reason="OpenVINO or bfloat16 is not there"
)
def test_openvino_in_bfloat16_gives_the_density_of_many_features() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(600) % 4
    features = random.random((4, 320))[labels] + 1.5 * random.random((600, 320))
    verdict = Verdict(IsoMax2Head(320, 4), "entropic").eval()
    for name, value in fit_statistics(features, labels, 4).tensors().items():
        setattr(verdict, name, value)
    assert verdict.density_offset is not None
    model = to_onnx(verdict, torch.zeros(2, 320), verdict.output_names, "features")
    session = open_sessions(model.SerializeToString(), 1, "bfloat16")[0]
    rows = features.astype(np.float32)
    for batch in (rows[:1], rows[1:8], rows[8:]):
        (found,) = session.run(["density_score"], {"features": batch})
        expected = verdict(torch.from_numpy(batch))[verdict.output_names.index("density_score")]
        assert np.abs(found - expected.detach().numpy()).max() < 0.05 * float(expected.abs().max())


def test_the_verdict_of_many_features_takes_few_nodes() -> None:
    verdict = Verdict(IsoMax2Head(1280, 10), "combined").eval()
    model = to_onnx(verdict, torch.zeros(2, 1280), verdict.output_names, "features")
    # At batch 1 each node costs about two microseconds: a thousandth of the default network.
    assert len(model.graph.node) <= 64
