"""What the server answers, as frozen typed values with the names of its JSON."""

from __future__ import annotations

import base64
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
    """p_value <= alpha."""
    p_value: float
    """In (0, 1]; uniform on in-distribution images, small = unlike them."""
    class_p_value: float
    """The same among calibration images of the predicted class."""
    entropic_score: float
    """In nats; higher = more in-distribution."""
    alpha: float
    """About this share of in-distribution images is rejected."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> OOD:
        """From the server's JSON."""
        return cls(**{name: document[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the model saw, for a person to look at."""

    seen: bytes = field(repr=False)
    """The image at the model's size, as the bytes of a PNG file."""
    distances: tuple[float, ...]
    """To each class's prototype, by class index; diagnostics, never a score."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Explanation:
        """From the server's JSON, where ``seen`` is a data URI."""
        seen = base64.b64decode(document["seen"].partition(",")[2], validate=True)
        return cls(seen, tuple(document["distances"]))


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
