"""How short the graph is behind the features, and graphs of former forms that are fitted again."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from isoserve.models.heads import IsoMax2Head
from isoserve.models.served_model import FEATURES, Verdict
from isoserve.training.onnx_model.calibrate import set_calibration_rows
from isoserve.training.onnx_model.export import to_onnx
from isoserve.training.onnx_model.fit_score import set_view_scales


def test_what_follows_the_features_is_short() -> None:
    """Each node costs a batch of one image about a thousandth of a small network's time."""
    head = IsoMax2Head(32, 10)
    torch.nn.init.normal_(head.prototypes)
    verdict = Verdict(head, "combined").eval()
    graph = to_onnx(verdict, torch.zeros(2, 32), verdict.output_names, FEATURES).graph
    assert len(graph.node) <= 60
    assert [output.name for output in graph.output] == list(verdict.output_names)


@pytest.mark.parametrize("counted", [True, False])
def test_an_older_graph_keeps_its_way_to_count_the_image_itself(counted: bool) -> None:
    former = [[-np.inf, 0.25]] if counted else [[0.25, 0.5]]
    model = _with_constants(calibration_scores=former)
    set_calibration_rows(model, "calibration_scores", np.array([[0.1, 0.2, 0.3]]))
    found = numpy_helper.to_array(model.graph.initializer[0])[0]
    np.testing.assert_allclose(found, [-np.inf, 0.1, 0.2, 0.3][0 if counted else 1 :])


@pytest.mark.parametrize(
    "names", [("view_centres", "view_spreads"), ("view_factors", "view_offsets")]
)
def test_an_older_graph_keeps_its_form_of_the_views_scales(names: tuple[str, str]) -> None:
    model = _with_constants(**{name: [1.0, 1.0, 1.0] for name in names})
    centres, spreads = np.array([-1.5, 2.0, -16.0]), np.array([0.1, 0.5, 1.5])
    set_view_scales(model, centres, spreads)
    first, second = (numpy_helper.to_array(each) for each in model.graph.initializer)
    scores, weights = np.array([-1.4, 1.0, -20.0]), np.array([1.0, 1.0, 1.5])
    expected = weights * np.exp(-1.5 * (scores - centres) / spreads)
    if names[0] == "view_centres":
        np.testing.assert_allclose(first, centres)
        np.testing.assert_allclose(second, spreads)
    else:
        np.testing.assert_allclose(np.exp(first * scores + second), expected, rtol=1e-5)


def _with_constants(**values: list[Any]) -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(np.array(value, dtype=np.float32), name)
        for name, value in values.items()
    ]
    return onnx.helper.make_model(onnx.helper.make_graph([], "constants", [], [], constants))
