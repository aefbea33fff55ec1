"""``GET /v1/models/{name}/drift``: the last minutes' p-values against uniform."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from isoserve.service.errors import Problem
from isoserve.service.http.schemas import ProblemDocument
from isoserve.service.observability.drift import (
    CONFIDENCE,
    DRIFT_LEVEL,
    drift_document,
    wilson,
)
from isoserve.service.observability.p_value_window import (
    FINE_BUCKETS,
    LONGEST_WINDOW,
    STEP_SECONDS,
)
from isoserve.service.repository.repository import Repository

DEFAULT_WINDOW = 300
WELL_KNOWN_IMAGES = 30
"""Below this many images the share says nothing worth waking anybody for."""

WindowSeconds = Annotated[
    float,
    Query(
        ge=STEP_SECONDS,
        le=LONGEST_WINDOW,
        description=f"How far back to look, in seconds; exact to {STEP_SECONDS} s.",
    ),
]


class Bucket(BaseModel):
    """Images whose p-value lies above the bucket before and is at most ``le``."""

    le: float
    count: int = Field(ge=0)
    expected: float = Field(description="Share of in-distribution images that fall here.")


class KolmogorovDistance(BaseModel):
    """How far the p-values are from uniform, and how often chance alone does that."""

    distance: float = Field(ge=0, le=1, description="Largest gap of the cumulative shares.")
    p_value: float = Field(
        ge=0,
        le=1,
        description="Chance of such a gap on in-distribution traffic, given the images in the "
        "window and in the calibration.",
    )
    drifted: bool = Field(description=f"p_value < {DRIFT_LEVEL}.")


class StabilityIndex(BaseModel):
    """The population stability index (PSI) over the histogram."""

    value: float
    limit: float = Field(
        description="Passed by in-distribution traffic one time in 100; falls as images grow."
    )
    drifted: bool = Field(description="value > limit.")


class Rejection(BaseModel):
    """The share of images with a verdict of out-of-distribution, against alpha."""

    rejected: int = Field(ge=0)
    share: float | None = Field(description="Null without images.")
    lower: float = Field(description=f"Wilson's {CONFIDENCE:.0%} interval of the share.")
    upper: float
    alpha: float = Field(description="The operator's; the share expected.")
    expected_lower: float = Field(
        description="The share that a calibration of this size may really give at alpha."
    )
    expected_upper: float
    verdict: Literal["too_few", "below", "expected", "above"] = Field(
        description="'above' or 'below' where the two intervals do not meet; 'too_few' under "
        f"{WELL_KNOWN_IMAGES} images."
    )


class DriftDocument(BaseModel):
    """The last minutes' p-values of the serving version."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    version: int
    window_seconds: float
    scope: Literal["process", "workers"] = Field(
        description="Whose images were counted: this process's, the only one, or those of all "
        "worker processes. Another replica of the service counts for itself."
    )
    images: int = Field(ge=0)
    histogram: list[Bucket]
    fine_counts: list[int] = Field(
        description=f"The same images in {FINE_BUCKETS} equal steps of the p-value: how many any "
        "other alpha would have rejected."
    )
    kolmogorov: KolmogorovDistance | None = Field(description="Null without images.")
    stability: StabilityIndex | None = Field(description="Null without images.")
    rejection: Rejection


def drift_routes(repository: Repository, alpha: float) -> APIRouter:
    """The route, bound to this application's repository."""
    router = APIRouter()

    @router.get(
        "/v1/models/{name}/drift",
        tags=["models"],
        summary="Whether the last minutes' images are still like those of the calibration",
        responses={404: {"model": ProblemDocument}, 503: {"model": ProblemDocument}},
    )
    def drift(name: str, window: WindowSeconds = DEFAULT_WINDOW) -> DriftDocument:
        served = repository.find(name).served
        if served is None:
            raise Problem(503, "no_model_ready", f"no version of '{name}' serves", retry_after=5)
        window_counts = served.series.window
        fine, rejected = window_counts.last(window)
        calibration = served.model.card.calibration.n
        images = int(fine.sum())
        return DriftDocument(
            model=name,
            version=served.model.version,
            window_seconds=window,
            scope="workers" if window_counts.of_all_workers else "process",
            images=images,
            fine_counts=fine.tolist(),
            rejection=_rejection(rejected, images, alpha, calibration),
            **drift_document(fine, calibration),
        )

    return router


def _rejection(rejected: int, images: int, alpha: float, calibration: int) -> Rejection:
    lower, upper = wilson(rejected, images)
    expected_lower, expected_upper = wilson(alpha * calibration, calibration)
    verdict: Literal["too_few", "below", "expected", "above"] = "expected"
    if images < WELL_KNOWN_IMAGES:
        verdict = "too_few"
    elif lower > expected_upper:
        verdict = "above"
    elif upper < expected_lower:
        verdict = "below"
    return Rejection(
        rejected=rejected,
        share=rejected / images if images else None,
        lower=lower,
        upper=upper,
        alpha=alpha,
        expected_lower=expected_lower,
        expected_upper=expected_upper,
        verdict=verdict,
    )
