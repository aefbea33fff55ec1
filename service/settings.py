"""Everything an operator can set: one frozen class, read by CLI, environment and docs.

Each field is a flag ``--like-this`` of ``isoserve serve`` and a variable ``ISOSERVE_LIKE_THIS``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from isoserve.models.card import DEFAULT_ALPHA, DecideBy, OpenShare
from isoserve.models.image_files.header import FORMATS, formats_of
from isoserve.service.environment import EnvironmentModel
from isoserve.service.inference.execution import Device, EngineChoice, Execution, PrecisionChoice
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.observability.log_writer import LogFormat
from isoserve.service.shadow_config import NamedShadow, shadows_of

ENV_PREFIX = "ISOSERVE_"

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
"""A week at most: clocks and timers take no endless time."""


class Settings(EnvironmentModel):
    """Checked together once, when they are read; from then on values are right."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for the Open Inference Protocol over gRPC; 0 means none.",
    )
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
        description="Loading and warming up a model may take this long; one that takes longer is "
        "refused. It is tried in a process of its own, so nothing waits for it.",
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
    token_file: Path | None = Field(
        None,
        description="File of bearer tokens, one a line, read again when it changes; with none, "
        "every request is answered. A line is TOKEN, or NAME ROLE TOKEN with the roles predict, "
        "review and manage, commas between several; a TOKEN alone may predict and manage.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that requests may call this server by, with commas between them; "
        "*.example.com takes any below it, * any at all. Empty: on a loopback address browsers and "
        "management may only use localhost or an address, elsewhere all but browsers that manage "
        "may use any.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of other sites whose pages may ask this server, such as "
        "https://example.com, with commas between them; * is any. They cannot manage it.",
    )
    open_paths: str = Field(
        "/healthz/,/v2/health/,/metrics,/,/web/,/review",
        description="Beginnings of the paths that need no token, with commas between them; / is "
        "the page alone, which asks for a token itself.",
    )
    log_format: LogFormat = Field(
        "text", description="Lines on stderr: text for a person, or json, an object a line."
    )
    access_log: bool = Field(
        False,
        description="A log line per request: its id, answer, verdict and times, never the image.",
    )
    max_batch: int = Field(32, ge=1, le=1024, description="Most images in one run of the network.")
    queue_images: int = Field(
        512, ge=1, description="Most images waiting; beyond it requests get 429."
    )
    queue_seconds: Seconds = Field(
        0.3,
        description="Longest an image may be expected to wait for a slot; beyond it requests get "
        "429, and while that lasts the queue is held much shorter.",
    )
    max_body_bytes: int = Field(
        20 * 2**20, ge=1, description="Largest body of a request with one image."
    )
    max_batch_body_bytes: int = Field(
        100 * 2**20, ge=1, description="Largest body of a request with several images."
    )
    max_batch_images: int = Field(64, ge=1, description="Most images in one batch request.")
    body_seconds: Seconds = Field(
        15.0, description="A body that has not arrived whole after this long is cut off."
    )
    held_body_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="Most bytes of all bodies in memory together, over HTTP and gRPC; beyond it "
        "requests get 429. Compressed bodies may be inflated to a quarter of it. The parts of a "
        "batch's body are held beside it.",
    )
    max_connections: int = Field(
        4096, ge=1, description="Most connections at a time; beyond it they get 503."
    )
    max_header_bytes: int = Field(
        16 * 2**10, ge=256, description="Largest request line and headers together."
    )
    header_seconds: Seconds = Field(
        10.0, description="Headers that have not arrived whole after this long are cut off."
    )
    idle_seconds: Seconds = Field(
        75.0,
        description="A connection without a request is closed after this long, and so is one whose "
        "answers are not taken.",
    )
    grace_seconds: Seconds = Field(
        20.0,
        description="After SIGTERM, how long requests that are being answered may still take.",
    )
    image_formats: str = Field(
        "",
        description="Formats that are accepted, of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF and HEIF "
        "(HEIC photographs; needs the extra heif), with commas between them; empty accepts every "
        "format that can be read.",
    )
    max_pixels: int = Field(
        20_000_000,
        ge=1,
        description="Most pixels an image may have; a JPEG as it is decoded, at a fraction of its "
        "size where the model's input is much smaller, and a HEIC photograph a quarter more. An "
        "image whose decoding is estimated to hold more than 6.5 times as many bytes (130 MB) is "
        "refused, too: so is a WebP of over 10 megapixels.",
    )
    max_jpeg_pixels: int = Field(
        2**26, ge=1, description="Most pixels a JPEG may have before it is decoded at a fraction."
    )
    max_decode_seconds: Seconds = Field(
        2.0,
        description="An image whose decoding is estimated from its header to take a core longer "
        "than this is refused.",
    )
    max_side: int = Field(16_384, ge=1, description="Longest side an image may have, in pixels.")
    max_image_bytes: int = Field(
        20 * 2**20, ge=1, description="Largest image file, whether a body or a part of one."
    )
    max_jpeg_scans: int = Field(32, ge=1, description="Most scans of a progressive JPEG.")

    review_database: str = Field(
        "",
        description="Keep rejected images for a person to label, in this database "
        "(sqlite:///review.db, or a PostgreSQL URL); empty keeps none. The images are stored as "
        "they were sent: name one only where you may keep them.",
    )
    review_token_file: Path | None = Field(
        None,
        description="File of tokens, one a line, that open the review queue; needed with "
        "review_database.",
    )
    review_sample: float = Field(
        0.01, ge=0, le=1, description="Share of the accepted images that are kept for review too."
    )
    review_images: int = Field(
        10_000, ge=1, description="Most images kept for review; past it the oldest go."
    )
    review_bytes: int = Field(
        2**30, ge=1, description="Most bytes of images kept for review; past it the oldest go."
    )
    review_days: float = Field(
        30.0, gt=0, le=36_500, description="Images kept for review are deleted after so many days."
    )

    @property
    def image_limits(self) -> ImageLimits:
        """The settings of a single image, as the decoder takes them."""
        return ImageLimits(
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            max_bytes=self.max_image_bytes,
            max_jpeg_scans=self.max_jpeg_scans,
            max_jpeg_pixels=self.max_jpeg_pixels,
            max_decode_seconds=self.max_decode_seconds,
            formats=formats_of(self.image_formats) if self.image_formats else FORMATS,
        )

    @property
    def execution(self) -> Execution:
        """Where, by what and in which precision the networks run."""
        return Execution(self.device, self.engine, self.precision)

    @property
    def shadows(self) -> dict[str, NamedShadow]:
        """The named shadows, by model."""
        return shadows_of(self.shadow)

    @field_validator("image_formats")
    @classmethod
    def _names_formats(cls, text: str) -> str:
        if text:
            formats_of(text)
        return text

    @field_validator(
        "repository", "store_cache", "trusted_key", "token_file", "review_token_file", mode="before"
    )
    @classmethod
    def _names_a_path(cls, value: object) -> object:
        if value == "":
            raise ValueError("it is empty; name a path, or leave it out")
        return value

    @field_validator("shadow")
    @classmethod
    def _names_shadows(cls, text: str) -> str:
        shadows_of(text)
        return text

    @model_validator(mode="after")
    def _agree_with_each_other(self) -> Self:
        if self.grpc_port and self.grpc_port == self.port:
            raise ValueError(f"port and grpc_port must differ, not both be {self.port}")
        for part, whole in (
            ("max_batch_images", "queue_images"),
            ("max_body_bytes", "max_batch_body_bytes"),
            ("max_batch_body_bytes", "held_body_bytes"),
        ):
            if getattr(self, part) > getattr(self, whole):
                raise ValueError(
                    f"{part} ({getattr(self, part)}) must not exceed {whole} "
                    f"({getattr(self, whole)}): such a request could never be admitted"
                )
        if self.management and self.workers > 1:
            raise ValueError(
                f"management needs workers 1, not {self.workers}: a request to load or unload "
                "would reach only one of the processes"
            )
        if self.review_database and self.review_token_file is None:
            raise ValueError(
                "review_database needs review_token_file: the queue shows what clients sent"
            )
        return self
