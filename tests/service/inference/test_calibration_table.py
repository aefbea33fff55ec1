"""A file whose calibration table is not its card's is refused when it is loaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_model import tiny_model

from isoserve.service.inference.model import ModelRefused, load_model

Table = NDArray[np.float32]


def _replaced(**values: Callable[[Table], Table]) -> bytes:
    proto = tiny_model()
    for each in proto.graph.initializer:
        if each.name in values:
            changed = values[each.name](numpy_helper.to_array(each))
            each.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), each.name))
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        _replaced(calibration_scores=lambda table: np.full_like(table, -50)),
        _replaced(calibration_scores=lambda table: table - 1),
        _replaced(  # what an export starts with
            calibration_scores=lambda _: np.zeros((1, 1)),
            n_plus_one=lambda _: np.array(2),
            of_class=lambda table: table[:, :1],
        ),
    ],
    ids=["of another model", "moved", "missing"],
)
def test_another_calibration_table_is_refused(content: bytes) -> None:
    with pytest.raises(ModelRefused, match="another calibration table than its card, or none"):
        load_model("m", 1, content, 1, 4)


def test_its_own_table_is_served() -> None:
    model = load_model("m", 1, tiny_model().SerializeToString(), 1, 4)
    assert model.card.calibration.n > 0
