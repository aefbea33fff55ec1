"""Everything an operator can set: one frozen class, read by CLI, environment and docs.

Each field is a flag ``--like-this`` of ``isoserve serve`` and a variable ``ISOSERVE_LIKE_THIS``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from isoserve.service.observability.log_writer import LogFormat
from isoserve.service.settings.images import ImageSettings
from isoserve.service.settings.models import ModelSettings
from isoserve.service.settings.network import NetworkSettings
from isoserve.service.settings.seconds import Seconds

ENV_PREFIX = "ISOSERVE_"


class Settings(ImageSettings, NetworkSettings, ModelSettings):
    """Checked together once, when they are read; from then on values are right."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    log_format: LogFormat = Field(
        "text", description="Lines on stderr: text for a person, or json, an object a line."
    )
    access_log: bool = Field(
        False,
        description="A log line per request: its id, answer, verdict and times, never the image.",
    )
    max_batch: int = Field(
        32,
        ge=1,
        le=1024,
        description="Most images in one run of the network; fewer where these would take more than "
        "some 100 MB.",
    )
    queue_images: int = Field(
        512, ge=1, description="Most images waiting; beyond it requests get 429."
    )
    queue_seconds: Seconds = Field(
        0.3,
        description="Longest an image may be expected to wait for a slot; beyond it requests get "
        "429, and while that lasts the queue is held much shorter.",
    )
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

    @field_validator(
        "repository", "store_cache", "trusted_key", "token_file", "review_token_file", mode="before"
    )
    @classmethod
    def _names_a_path(cls, value: object) -> object:
        if value == "":
            raise ValueError("it is empty; name a path, or leave it out")
        return value

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
