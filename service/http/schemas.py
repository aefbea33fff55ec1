"""The documents the API speaks, for the OpenAPI page and for routes that are not hot."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from isoserve.models.card import DecideBy, ModelCard, ScoreKind
from isoserve.models.combination import View
from isoserve.service.repository.shadow import Dropped, Rejected
from isoserve.service.repository.versions import State


class _Document(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class Prediction(_Document):
    """A class and how probable it is, given that the image is of one of the classes."""

    label: str = Field(examples=["cat"])
    index: int = Field(ge=0, examples=[3])
    probability: float = Field(ge=0, le=1, examples=[0.93])


class OOD(_Document):
    """Whether the image is like what the model was trained on."""

    is_ood: bool = Field(
        description="The p-value that decides is at most alpha, both as float32.", examples=[False]
    )
    p_value: float = Field(
        description="Share of calibration images at most as in-distribution as this one.",
        gt=0,
        le=1,
        examples=[0.41],
    )
    class_p_value: float = Field(
        description="The same among calibration images of the predicted class.",
        gt=0,
        le=1,
        examples=[0.38],
    )
    decided_by: DecideBy = Field(description="The p-value that decides: the operator's choice.")
    score: ScoreKind = Field(description="What the p-values are of; the model file's choice.")
    ood_score: float = Field(
        description="The score that the p-values are of; higher = more in-distribution.",
        examples=[-2.1],
    )
    entropic_score: float = Field(
        description="Minus the entropy, in nats; higher = more in-distribution.", examples=[-1.62]
    )
    entropic_p_value: float = Field(
        description="As p_value, of the entropic score.", gt=0, le=1, examples=[0.44]
    )
    boundary_score: float | None = Field(
        description="Distance of the features to the nearest class boundary; none in model files "
        "of schema 1.",
        examples=[0.8],
    )
    density_score: float | None = Field(
        description="Minus the Mahalanobis distance of the features to a class; likewise.",
        examples=[-9.3],
    )
    reason: View | None = Field(
        description="Which of the views spoke most against an image that is out-of-distribution."
    )
    alpha: float = Field(
        description="About this share of in-distribution images is rejected.",
        gt=0,
        lt=1,
        examples=[0.05],
    )


class NearPrototype(_Document):
    """A class whose prototype is near."""

    label: str = Field(examples=["cat"])
    index: int = Field(ge=0, examples=[3])
    distance: float = Field(examples=[0.7])


class Explanation(_Document):
    """What the model saw, for a person to look at."""

    seen: str = Field(
        description="The image at the model's size, as a PNG data URI.",
        examples=["data:image/png;base64,iVBORw0KGgo="],
    )
    reason: View = Field(description="Which of the views speaks most against the image.")
    why: str = Field(
        description="The same in words; it matters where the image is out-of-distribution.",
        examples=["unlike any training image"],
    )
    nearest: list[NearPrototype] = Field(description="The two nearest prototypes, nearest first.")
    distances: list[float] = Field(
        description="To each class's prototype, by class index; diagnostics, never a score.",
        examples=[[1.9, 0.7]],
    )


class Verdict(_Document):
    """The answer on one image."""

    id: str = Field(description="The request's id: X-Request-ID, or one made here.")
    model: str = Field(examples=["cifar10"])
    version: int = Field(examples=[1])
    prediction: Prediction
    top_k: list[Prediction] = Field(description="Most probable first.")
    ood: OOD
    explanation: Explanation | None = Field(None, description="Only where explain=true asked.")


class ProblemDocument(_Document):
    """RFC 9457: what was wrong with the request."""

    type: str = Field("about:blank")
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    reason: str = Field(description="A stable slug a program may switch on.")
    detail: str = Field(description="A sentence for a person.")
    id: str = Field(description="The request's id.")


class BatchAnswer(_Document):
    """One verdict or one problem for each image, in the order they were sent."""

    id: str
    model: str
    version: int
    results: list[Verdict | ProblemDocument]


class ComparisonDocument(_Document):
    """A shadow beside the version that answers; counts are of this process since it was loaded."""

    share: float = Field(description="Part of the images that the shadow sees.")
    live_version: int | None = Field(description="The version that answers, if one does.")
    images: int = Field(description="Images that both judged.")
    class_agrees: int = Field(description="Those of them that both call by the same class.")
    rejected: dict[Rejected, int] = Field(description="Images by which of the two rejected them.")
    dropped: dict[Dropped, int] = Field(description="Images that it did not see, by reason.")
    failed: int = Field(description="Images that it failed on.")


class VersionDocument(_Document):
    """One version of a model, as the repository knows it."""

    version: int
    state: State
    reason: str = Field(description="Why it was refused; empty otherwise.")
    detail: str = Field(description="The same in words.")
    since: datetime = Field(description="When it entered this state.")
    sha256: str = Field(description="Of the file; empty until it has been loaded.")
    card: ModelCard | None = Field(description="What the file says of itself.")
    engine: str = Field(description="What computes it: onnxruntime or openvino; empty as above.")
    precision: str = Field(description="In which arithmetic; empty as above.")
    shadow: bool = Field(description="Whether the settings name it as the model's shadow.")
    comparison: ComparisonDocument | None = Field(
        description="How it compares; null unless it is a shadow in memory."
    )


class ModelDocument(_Document):
    """A model: the version that answers, and every version on disk."""

    name: str
    serving: int | None = Field(description="The version that answers; null when none does.")
    versions: list[VersionDocument] = Field(description="Highest first.")


class ModelList(_Document):
    """Every model of the repository, by name."""

    models: list[ModelDocument]


class Health(_Document):
    """A probe's answer."""

    status: str = Field(examples=["ready"])
