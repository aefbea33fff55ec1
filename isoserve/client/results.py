"""What the server answers, as frozen typed values with the names of its JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from isoserve.models.card import ModelCard


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class and how probable it is, given that the image is of one of the classes."""

    label: str
    index: int
    probability: float

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Prediction:
        """From the server's JSON; members this client does not know are left out."""
        return cls(document["label"], document["index"], document["probability"])


@dataclass(frozen=True, slots=True)
class OOD:
    """Whether the image is like what the model was trained on."""

    is_ood: bool
    """Whether the p-value that decides is at most alpha."""
    p_value: float
    """In (0, 1]; uniform on in-distribution images, small = unlike them."""
    class_p_value: float
    """The same among calibration images of the predicted class."""
    entropic_score: float
    """In nats; higher = more in-distribution."""
    alpha: float
    """About this share of in-distribution images is rejected."""
    decided_by: str = "p_value"
    """Which of the two p-values alpha was compared with."""
    score: str = "entropic"
    """What the p-values are of: ``entropic``, or ``combined`` of all views."""
    ood_score: float = math.nan
    """The score that the p-values are of; higher = more in-distribution."""
    entropic_p_value: float = math.nan
    """As ``p_value``, of the entropic score."""
    boundary_score: float | None = None
    """Distance of the features to the nearest class boundary; None in old model files."""
    density_score: float | None = None
    """Minus the distance of the features to the nearest class's training images; likewise."""
    reason: str | None = None
    """What spoke most against an image that is_ood: ``entropic``, ``boundary`` or ``density``."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> OOD:
        """From the server's JSON."""
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the model saw, for a person to look at."""

    seen: bytes = field(repr=False)
    """The image at the model's size, as the bytes of a PNG file."""
    distances: tuple[float, ...]
    """To each class's prototype, by class index; diagnostics, never a score."""
    reason: str = ""
    """Which view speaks most against the image: ``entropic``, ``boundary`` or ``density``."""
    why: str = ""
    """The same in words."""
    nearest: tuple[str, ...] = ()
    """The classes of the two nearest prototypes, the nearest first."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Explanation:
        """From the server's JSON, where ``seen`` is a data URI."""
        seen = base64.b64decode(document["seen"].partition(",")[2], validate=True)
        nearest = tuple(each["label"] for each in document.get("nearest", ()))
        why = (document.get("reason", ""), document.get("why", ""))
        return cls(seen, tuple(document["distances"]), *why, nearest)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer on one image."""

    id: str
    model: str
    version: int
    prediction: Prediction
    top_k: tuple[Prediction, ...]
    """Most probable first."""
    ood: OOD
    explanation: Explanation | None
    """Only where ``explain=True`` asked."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Verdict:
        """From the server's JSON."""
        return cls(
            document["id"],
            document["model"],
            document["version"],
            Prediction.parse(document["prediction"]),
            tuple(Prediction.parse(entry) for entry in document["top_k"]),
            OOD.parse(document["ood"]),
            Explanation.parse(found) if (found := document.get("explanation")) else None,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no verdict: the members of the server's ``application/problem+json``."""

    status: int
    reason: str
    """A stable slug a program may switch on."""
    detail: str
    """A sentence for a person."""
    id: str
    """The request's id, which the server's log names too; empty where no answer came."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Problem:
        """From the server's JSON."""
        return cls(document["status"], document["reason"], document["detail"], document["id"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a shadow compares with the version that answers, as one process of the server counts."""

    share: float
    live_version: int | None
    images: int
    class_agrees: int
    rejected: Mapping[str, int]
    """Images by who rejected them: both, live, shadow or neither."""
    dropped: Mapping[str, int]
    """Images that the shadow did not see, by reason."""
    failed: int

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Comparison:
        """From the server's JSON; members this client does not know are left out."""
        return cls(**{member.name: document[member.name] for member in fields(cls)})


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model on the server's disk."""

    version: int
    state: str
    """available, serving, shadow, refused or unloaded."""
    reason: str
    detail: str
    since: datetime
    sha256: str
    card: ModelCard | None
    engine: str
    precision: str
    shadow: bool
    comparison: Comparison | None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ModelVersion:
        """From the server's JSON."""
        card, comparison = document["card"], document["comparison"]
        return cls(
            document["version"],
            document["state"],
            document["reason"],
            document["detail"],
            datetime.fromisoformat(document["since"]),
            document["sha256"],
            None if card is None else ModelCard.model_validate(card),
            document.get("engine", ""),
            document.get("precision", ""),
            document["shadow"],
            None if comparison is None else Comparison.parse(comparison),
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model: the version that answers (None when none does), and every version on disk."""

    name: str
    serving: int | None
    versions: tuple[ModelVersion, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ModelInfo:
        """From the server's JSON."""
        versions = tuple(ModelVersion.parse(entry) for entry in document["versions"])
        return cls(document["name"], document["serving"], versions)
