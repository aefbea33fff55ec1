"""The model card: what an exported ``model.onnx`` says of itself.

The card travels as JSON in the ONNX file's ``metadata_props`` under :data:`CARD_KEY`. It is the
hand-over between training (which writes it) and serving (which refuses a file without a valid
one), so this module imports neither torch nor onnx.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from isoserve.models.errors import InputError

CARD_KEY = "isoserve.card"

INPUT_NAME = "images"
"""uint8 [N, H, W, 3], RGB, already at the model's height and width."""

SCHEMA_1_OUTPUTS = ("probabilities", "entropic_score", "p_value", "class_p_value", "distances")
"""float32 [N, C], [N], [N], [N], [N, C]; higher score and p-value = more in-distribution."""

SCHEMA_2_OUTPUTS = (
    "probabilities",
    "entropic_score",
    "boundary_score",
    "density_score",
    "ood_score",
    "p_value",
    "entropic_p_value",
    "class_p_value",
    "distances",
)
"""float32, [N] but for probabilities and distances, which are [N, C]; ``p_value`` and
``class_p_value`` are of ``ood_score``, the score that decides."""

OUTPUTS_BY_SCHEMA = {1: SCHEMA_1_OUTPUTS, 2: SCHEMA_2_OUTPUTS}

ScoreKind = Literal["entropic", "combined"]
"""Which score decides."""

DEFAULT_ALPHA = 0.05
"""Share of in-distribution images that may be rejected; the papers' TPR 95."""

DEFAULT_DELTA = 0.05
"""Chance that the realised rejection share exceeds alpha at ``guaranteed_alpha``."""

DecideBy = Literal["p_value", "class_p_value"]
"""Which p-value alpha is compared with: of all images, or of those predicted as the same class."""

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Loss = Literal["softmax", "isomax", "isomax+", "isomax2", "custom"]


class CardError(InputError):
    """The file carries no valid card; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class InputSpec(_Part):
    """The pixels the network takes and how any image is brought to them."""

    height: int = Field(gt=0, le=4096, description="Rows of the input, in pixels.")
    width: int = Field(gt=0, le=4096, description="Columns of the input, in pixels.")
    resize: Literal["fit-bicubic"] = Field(
        "fit-bicubic",
        description="Centre crop to the input's aspect ratio, then antialiased bicubic resize.",
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of both sides of that crop which the input shows, from its middle.",
    )


class DataSummary(_Part):
    """Which images the model was trained and calibrated on."""

    name: str = Field(description="Data set or folder name.")
    digest: str = Field(
        description="SHA-256 over training pixels and labels, in order; empty if not known."
    )
    training_images: int = Field(ge=0, description="0 if not known.")
    calibration_images: int = Field(ge=0, description="Held out of the training data.")
    note: str = Field("", description="How the images were compressed or resized beforehand.")


class Calibration(_Part):
    """Conformal calibration on held-out in-distribution images, through the exported graph."""

    n: int = Field(ge=1, description="Calibration images.")
    class_counts: list[int] = Field(description="Calibration images predicted as each class.")
    alpha: OpenShare = Field(DEFAULT_ALPHA, description="Reject where p_value <= alpha.")
    delta: OpenShare = Field(DEFAULT_DELTA, description="See guaranteed_alpha.")
    threshold: float = Field(description="Deciding score at alpha: scores below it are rejected.")
    guaranteed_alpha: OpenShare = Field(
        description="Reject at this p-value instead and, with confidence 1 - delta, no more than "
        "the share alpha of in-distribution images is rejected."
    )
    score_quantiles: list[float] = Field(
        min_length=101, max_length=101, description="Deciding score at 0, 1, ... 100 %."
    )
    temperature: float = Field(gt=0.0, description="Divides the cold logits; fitted by NLL.")
    engine: Literal["onnxruntime", "openvino"] = Field(
        "onnxruntime", description="What computed the calibration scores."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="In which arithmetic it computed what the file has in float32."
    )


class ClassResult(_Part):
    """Held-out images of one class."""

    n: int = Field(ge=0)
    accuracy: Share | None = Field(description="None where there are no images of it.")
    rejected: Share | None = Field(description="Share with p_value <= alpha.")


class ViewScale(_Part):
    """What a view gives for an ordinary in-distribution image; makes the views comparable."""

    centre: float = Field(description="Median of the view's score.")
    spread: float = Field(gt=0.0, description="Half of its middle 68 %: 1 deviation if Gaussian.")


class Statistics(_Part):
    """Of the features of training images, behind the density score."""

    n: int = Field(ge=1, description="Images behind the class means and the covariance.")
    shrinkage: Share = Field(description="Ledoit and Wolf's share of the identity in it.")


class Combination(_Part):
    """How the combined score was made; fixed before calibration."""

    entropic: ViewScale
    boundary: ViewScale
    density: ViewScale
    n: int = Field(ge=1, description="Images the scales were found on; never calibration images.")
    fitted_on: Literal["held-out", "training"] = Field(
        description="Held-out images set aside, or training images where those are too few."
    )


class ClassRejections(_Part):
    """Share of the images predicted as a class that is rejected at alpha."""

    n: int = Field(ge=0, description="Images predicted as the class.")
    rejected: Share | None = Field(description="By p_value; none without images.")
    class_rejected: Share | None = Field(description="By class_p_value.")


class HeldOut(_Part):
    """Classification on images the weights have never seen."""

    split: Literal["calibration", "test"]
    n: int = Field(ge=1)
    accuracy: Share
    ece: Share = Field(description="Expected calibration error, 15 equal-width bins.")
    nll: float = Field(description="Mean negative log-likelihood of the true class, in nats.")
    rejected: Share = Field(description="Share with p_value <= alpha.")
    classes: list[ClassResult] = Field(default_factory=list, description="By output index.")
    confusion: list[list[int]] = Field(
        default_factory=list,
        description="Images by true class (rows) and predicted class; empty of over 100 classes.",
    )
    class_rejected: Share | None = Field(None, description="Share with class_p_value <= alpha.")
    by_class: list[ClassRejections] = Field(
        default_factory=list, description="The same for each predicted class, by output index."
    )


class OODResult(_Part):
    """How well the deciding score tells the test images from one out-distribution."""

    out_distribution: str
    n: int = Field(ge=1)
    tnr_at_tpr95: Share
    auroc: Share
    dtacc: Share
    rejected: Share = Field(description="Share with p_value <= alpha: the recall in service.")
    note: str = ""


class ModelCard(_Part):
    """Everything a server or a reader needs to know of a ``model.onnx``."""

    schema_version: Literal[1, 2] = 1
    score: ScoreKind = Field("entropic", description="Which score decides.")
    combination: Combination | None = Field(
        None, description="Of the combined score; none where the entropic score decides."
    )
    statistics: Statistics | None = Field(None, description="None in files of schema 1.")
    name: ModelName
    classes: list[str] = Field(min_length=2, description="Class names, by output index.")
    input: InputSpec
    network: str = Field(description="Backbone name, as the registry of networks knows it.")
    precision: Literal["float32", "int8"] = Field(
        "float32", description="Arithmetic of the backbone; the head's is always float32."
    )
    parameters: int = Field(ge=1, description="Learned parameters, head included.")
    loss: Loss = Field(description="Head and loss; custom where the network brought its own.")
    data: DataSummary
    seed: int
    recipe: dict[str, Any] = Field(description="Optimiser, schedule, epochs, augmentation.")
    versions: dict[str, str] = Field(description="Library versions that made the file.")
    command: str = Field("", description="The command that made it.")
    calibration: Calibration
    held_out: list[HeldOut] = Field(default_factory=list)
    evaluation: list[OODResult] = Field(default_factory=list)
    licence: str = Field("", description="SPDX identifier or words; of the weights.")
    created: datetime

    @model_validator(mode="after")
    def _one_count_per_class(self) -> ModelCard:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ from each other")
        if len(self.calibration.class_counts) != len(self.classes):
            raise ValueError(
                f"{len(self.calibration.class_counts)} class_counts for {len(self.classes)} classes"
            )
        if (self.score == "combined") != (self.combination is not None):
            raise ValueError(
                "score 'combined' and the scales of the combination belong together; "
                f"score is {self.score!r} and combination is "
                f"{'missing' if self.combination is None else 'given'}"
            )
        if (self.schema_version == 2) != (self.statistics is not None):
            raise ValueError(
                "statistics belong to schema_version 2 and to no other; schema_version is "
                f"{self.schema_version} and they are "
                f"{'missing' if self.statistics is None else 'given'}"
            )
        if self.score == "combined" and self.schema_version == 1:
            raise ValueError("score 'combined' needs schema_version 2; it is 1")
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that a file with this card has, in the contract's order."""
        return OUTPUTS_BY_SCHEMA[self.schema_version]


def check_model_name(name: str, argument: str) -> None:
    """Refuse a name that a repository's folder and a card cannot bear.

    Args:
        argument: what the caller calls it, for the message.

    Raises:
        InputError: it is not a :data:`ModelName`.
    """
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError as error:
        raise InputError(
            f"{argument} is {name!r}; it must be up to 64 of A-Z a-z 0-9 . _ - and begin with a "
            "letter or digit"
        ) from error


def read_card(metadata: dict[str, str]) -> ModelCard:
    """Parse the card out of an ONNX file's ``metadata_props``.

    Raises:
        CardError: no card, a schema version this code does not read, or an invalid field.
    """
    text = metadata.get(CARD_KEY)
    if text is None:
        raise CardError(f"no {CARD_KEY!r} entry in the file's metadata: not an Isoserve model")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise CardError(f"invalid model card: {where}: {first['msg']}") from error
