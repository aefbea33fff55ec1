"""What goes into the network and what it says, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import DecideBy

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network says of a batch; higher score and p-value = more in-distribution."""

    probabilities: Floats
    """float32 [N, C], calibrated class probabilities."""
    entropic_score: Floats
    """float32 [N], minus the entropy in nats, in [-ln C, 0]."""
    ood_score: Floats
    """float32 [N], the score that decides: in files of schema 1 the entropic one."""
    p_value: Floats
    """float32 [N], conformal, of ``ood_score``, in (0, 1]."""
    entropic_p_value: Floats
    """float32 [N], the same of ``entropic_score``."""
    class_p_value: Floats
    """float32 [N], of ``ood_score`` among calibration images of the predicted class."""
    distances: Floats
    """float32 [N, C], diagnostics only."""
    boundary_score: Floats | None = None
    """float32 [N], distance of the features to the nearest class boundary; none in schema 1."""
    density_score: Floats | None = None
    """float32 [N], minus the distance to the nearest class's training images; likewise."""
    decide_by: DecideBy = "p_value"
    """Which p-value the operator decides on."""
    predicted: list[int] = field(init=False)
    """[N], the most probable class of each image, found once for all: NumPy lets go of the
    interpreter for every reduction, which costs more than a hundred of these do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "predicted", self.probabilities.argmax(axis=-1).tolist())

    @property
    def deciding_p_value(self) -> Floats:
        """float32 [N], the p-value that alpha is compared with."""
        return self.class_p_value if self.decide_by == "class_p_value" else self.p_value

    @classmethod
    def of_graph(cls, found: Mapping[str, Floats], decide_by: DecideBy = "p_value") -> Outputs:
        """The outputs of a file of any schema, by name."""
        if "ood_score" in found:
            return cls(**found, decide_by=decide_by)
        score, p_value = found["entropic_score"], found["p_value"]
        return cls(ood_score=score, entropic_p_value=p_value, **found, decide_by=decide_by)
