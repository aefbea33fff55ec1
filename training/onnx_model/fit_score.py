"""A fresh graph -> one whose scores and p-values are fitted, each on images of its own.

Three sets, in this order, each fixed before the next is looked at:

1. training images give the statistics of the features (class means, covariance);
2. held-out images set aside give each view's scale, so that the combination is a fixed function
   of an image. Scales from the calibration images themselves would break the guarantee: ranking
   calibration images among themselves rejected 12.2 % at alpha = 10 %;
3. the other held-out images calibrate the p-values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from isoserve.models.card import (
    Calibration,
    Combination,
    HeldOut,
    ModelCard,
    ScoreKind,
    Statistics,
    ViewScale,
)
from isoserve.models.combination import VIEWS, linear_terms
from isoserve.models.errors import InputError
from isoserve.models.served_model import FEATURES
from isoserve.models.views import DensityForm
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import evenly_spread, hold_out, smallest_calibration
from isoserve.training.onnx_graph import constants_of, has_initializer, run_graph, with_output
from isoserve.training.onnx_model.calibrate import calibrate, set_initializer
from isoserve.training.onnx_model.feature_statistics import fit_statistics

FEWEST_SCALE_IMAGES = 20
"""With fewer to set aside, the scales come from training images."""

MOST_SCALE_IMAGES = 1000
SCALE_SHARE = 0.2

STATISTICS_IMAGES = 10_000
"""Training images, spread evenly over the set, behind the statistics; at least 50 a class."""


@dataclass(frozen=True)
class Guarantee:
    """What the p-values promise, as in :class:`isoserve.models.card.Calibration`."""

    alpha: float
    delta: float


@dataclass(frozen=True)
class FittedScore:
    """A model with everything fitted inside, and what to say of it in the card."""

    model: onnx.ModelProto
    calibration: Calibration
    held_out: HeldOut
    score: ScoreKind
    combination: Combination | None
    statistics: Statistics | None

    def added_to(self, card: ModelCard) -> ModelCard:
        """The card with this in place of what it said, and without any evaluation."""
        n = self.calibration.n
        return card.model_copy(
            update={
                "schema_version": 1 if self.statistics is None else 2,
                "score": self.score,
                "combination": self.combination,
                "statistics": self.statistics,
                "calibration": self.calibration,
                "held_out": [self.held_out],
                "evaluation": [],
                "data": card.data.model_copy(update={"calibration_images": n}),
            }
        )


def fit_score(
    model: onnx.ModelProto,
    training: LabelledImages | None,
    held_out: LabelledImages,
    guarantee: Guarantee,
    card: ModelCard | None = None,
) -> FittedScore:
    """Fit statistics, scales and calibration through the graph itself.

    Args:
        model: of schema 2, its tensor ``features`` an output or not; not changed. Whether its
            score is combined is seen in the graph.
        training: images the weights were trained on. Without them the statistics stay as they
            are in a graph that was fitted before, and are the held-out images' in a fresh one.
        held_out: in-distribution images that the weights have never seen.
        card: of a model that was fitted before.

    Raises:
        InputError: too few held-out images, a class without a training image, numbers that are
            not finite, or a combined score of a fresh graph without training images.
    """
    combined = has_initializer(model, "view_factors") or has_initializer(model, "view_centres")
    if combined and training is None and card is None:
        raise InputError(
            "the combined score needs the training images for the statistics of their features; "
            "give them, or choose the score 'entropic'"
        )
    fitted = onnx.ModelProto()
    fitted.CopyFrom(model)
    statistics = card.statistics if card else None
    if has_initializer(model, "whitening") and (training is not None or card is None):
        statistics = _set_statistics(fitted, training or held_out)
    combination = None
    if combined:
        own, held_out = _set_aside(held_out, guarantee)
        scaling = own or training
        if scaling is not None:
            combination = _set_scales(fitted, scaling, own is not None)
        elif card is not None:  # its scales stay: they were fixed before these images came
            combination = card.combination
        if combination is None:
            needed = smallest_calibration(guarantee.alpha, guarantee.delta) + FEWEST_SCALE_IMAGES
            raise InputError(
                f"{len(held_out)} images are too few to set some aside for the scales of the "
                f"views: at least {needed} are needed"
            )
    result = calibrate(fitted, held_out, alpha=guarantee.alpha, delta=guarantee.delta)
    score: ScoreKind = "combined" if combined else "entropic"
    return FittedScore(
        result.model, result.calibration, result.held_out, score, combination, statistics
    )


def fit_scales(
    scores: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median [V] and spread [V] of scores [n, V]; the spread is half of the middle 68 %.

    Raises:
        InputError: a view that gives all images the same score, or one that is not finite.
    """
    exact = scores.astype(np.float64)
    if not np.isfinite(exact).all():
        raise InputError("scores of held-out images are not finite: the weights are broken")
    low, centres, high = np.quantile(exact, [0.16, 0.5, 0.84], axis=0)
    spreads = (high - low) / 2
    if not (spreads > 0).all():
        view = VIEWS[int(spreads.argmin())]
        raise InputError(f"the {view} score is the same for all held-out images: {centres}")
    return centres, spreads


def set_view_scales(
    model: onnx.ModelProto, centres: NDArray[np.float64], spreads: NDArray[np.float64]
) -> None:
    """Put the views' centres [V] and spreads [V] into the graph."""
    if has_initializer(model, "view_centres"):  # as graphs used to have them
        set_initializer(model, "view_centres", centres)
        set_initializer(model, "view_spreads", spreads)
        return
    factors, offsets = linear_terms(centres, spreads)
    set_initializer(model, "view_factors", factors)
    set_initializer(model, "view_offsets", offsets)


def density_form_of(model: onnx.ModelProto) -> DensityForm:
    """The form that a graph of schema 2 has its statistics in."""
    constants = constants_of(model)
    has_rest = "density_offset" in constants
    return DensityForm(constants["whitening"].shape[1] - has_rest, has_rest)


def _set_statistics(model: onnx.ModelProto, images: LabelledImages) -> Statistics:
    count = max(STATISTICS_IMAGES, 50 * len(images.classes))
    images = images.take(evenly_spread(len(images), count))
    features = run_graph(with_output(model, FEATURES), images.pixels, names=(FEATURES,))[FEATURES]
    form = density_form_of(model)  # of a graph made before there was a rest: none
    found = fit_statistics(features, images.labels, len(images.classes), form)
    for name, value in found.constants().items():
        set_initializer(model, name, value)
    return Statistics(n=found.n, shrinkage=found.shrinkage)


def _set_aside(
    held_out: LabelledImages, guarantee: Guarantee
) -> tuple[LabelledImages | None, LabelledImages]:
    """(images for the scales, or None where calibration needs them all; images to calibrate on)."""
    spare = len(held_out) - smallest_calibration(guarantee.alpha, guarantee.delta)
    wanted = max(round(SCALE_SHARE * len(held_out)), 2 * FEWEST_SCALE_IMAGES)
    count = min(wanted, spare, MOST_SCALE_IMAGES)
    if count < FEWEST_SCALE_IMAGES:
        return None, held_out
    rest, chosen = hold_out(held_out.labels, count, seed=0)
    if len(chosen) > spare:  # a class gives at least one
        return None, held_out
    return held_out.take(chosen), held_out.take(rest)


def _set_scales(model: onnx.ModelProto, images: LabelledImages, held_out: bool) -> Combination:
    names = tuple(f"{view}_score" for view in VIEWS)
    outputs = run_graph(model, images.pixels, names=names)
    centres, spreads = fit_scales(np.stack([outputs[name] for name in names], axis=1))
    set_view_scales(model, centres, spreads)
    entropic, boundary, density = (
        ViewScale(centre=float(centre), spread=float(spread))
        for centre, spread in zip(centres, spreads, strict=True)
    )
    return Combination(
        entropic=entropic,
        boundary=boundary,
        density=density,
        n=len(images),
        fitted_on="held-out" if held_out else "training",
    )
