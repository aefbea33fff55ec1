"""Which models are served, from where, and by what they are run."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from isoserve.models.card import DEFAULT_ALPHA, DecideBy, OpenShare
from isoserve.service.environment import EnvironmentModel
from isoserve.service.inference.execution import Device, EngineChoice, Execution, PrecisionChoice
from isoserve.service.settings.seconds import Seconds
from isoserve.service.shadow_config import NamedShadow, shadows_of


class ModelSettings(EnvironmentModel):
    """A part of ``Settings``."""

    repository: Path = Field(
        Path("model_repository"),
        description="Folder of NAME/VERSION/model.onnx, or one model.onnx to serve by itself; "
        "either may be a URL that fsspec reads, as s3://, gs://, hf://, https:// "
        "and MLflow's models:/ are. Where none is named and the default is not there, the models "
        "that come with the program.",
    )
    default_model: str = Field(
        "",
        description="Model that answers requests naming none; empty means the only one, of the two "
        "that come with the program clothes, else the first by name.",
    )
    alpha: OpenShare = Field(
        DEFAULT_ALPHA,
        description="An image is out-of-distribution where its p-value is at most this; about "
        "this share of in-distribution images is rejected.",
    )
    decide_by: DecideBy = Field(
        "p_value",
        description="The p-value that alpha is compared with: p_value, among all calibration "
        "images, or class_p_value, among those of the predicted class, so that about the share "
        "alpha of each predicted class is rejected; the answer says which.",
    )
    shadow: str = Field(
        "",
        description="Versions that see a share of the images their models answer and are only "
        "compared, never answer: MODEL:VERSION or MODEL:VERSION:SHARE, with commas between them; "
        "without SHARE a tenth.",
    )
    management: bool = Field(
        False, description="Let clients load and unload models over the network."
    )
    watch_seconds: Seconds = Field(
        2.0, description="How often the repository is looked at for new or removed versions."
    )
    store_cache: Path | None = Field(
        None,
        description="Folder for what is brought from a repository that is a URL, where it goes on "
        "serving while the store is away; none is isoserve in the user's cache folder.",
    )
    store_cache_bytes: int = Field(
        10 * 2**30,
        ge=1,
        description="Most bytes of a URL's files to keep: each model's newest versions stay. What "
        "is coming is beside it, so that nothing goes before its successor is there.",
    )
    trusted_key: Path | None = Field(
        None,
        description="File of a public key (PEM, elliptic curve): a model without a signature by "
        "its private key beside it, in model.onnx.sig as isoserve sign writes it, is refused. "
        "Needs the extra signing.",
    )
    max_model_bytes: int = Field(
        2**30, ge=1, description="A model file larger than this is refused."
    )
    load_seconds: Seconds = Field(
        60.0,
        description="Loading and warming up a model may take so much of the processor's time, and "
        "five times as long by the clock; one that takes longer is refused. It is tried in a "
        "process of its own, so nothing waits for it.",
    )
    max_load_bytes: int = Field(
        2 * 2**30,
        ge=2**26,
        description="Most memory that loading and warming up a model may take on the CPU.",
    )
    run_seconds: Seconds = Field(
        60.0,
        description="One run of a network may take this long; it is ended then, its images get "
        "500, and the version is taken out of service. While a run cannot be ended, liveness "
        "fails.",
    )
    device: Device = Field("cpu", description="Where the network runs: cpu, cuda or tensorrt.")
    engine: EngineChoice = Field(
        "onnxruntime",
        description="What runs the network on the CPU: onnxruntime, openvino (the extra openvino), "
        "or auto, the fastest at load whose verdicts agree with ONNX Runtime's.",
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="Arithmetic of the network: auto is the fastest that the engine has and whose "
        "verdicts agree; float32; bfloat16, with OpenVINO on a processor that computes it; int8, "
        "of a file that isoserve quantize made.",
    )
    slots: int = Field(
        0,
        ge=0,
        le=1024,
        description="Inference threads of a process, a session each; 0 means one a core that the "
        "affinity and the cgroup's quota allow, shared out over the workers.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes on one socket, each with its own queue and models; more than one "
        "pays for very small models only.",
    )

    @property
    def execution(self) -> Execution:
        """Where, by what and in which precision the networks run."""
        return Execution(self.device, self.engine, self.precision)

    @property
    def shadows(self) -> dict[str, NamedShadow]:
        """The named shadows, by model."""
        return shadows_of(self.shadow)

    @field_validator("shadow")
    @classmethod
    def _names_shadows(cls, text: str) -> str:
        shadows_of(text)
        return text
