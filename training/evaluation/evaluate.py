"""How good an exported model is: its classes on test images, its score on out-distributions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from isoserve.models.card import HeldOut, ModelCard, OODResult
from isoserve.models.combination import VIEWS, View
from isoserve.models.errors import InputError
from isoserve.training.atomic import atomic_path
from isoserve.training.data import LabelledImages
from isoserve.training.evaluation.class_figures import draw_confusion, draw_worst
from isoserve.training.evaluation.class_results import WorstImage, judge, worst_images
from isoserve.training.evaluation.figures import new_figure, save_figure, score_histogram
from isoserve.training.evaluation.metrics import ood_metrics
from isoserve.training.onnx_graph import Outputs, deciding_scores, run_graph
from isoserve.training.out_distributions import OutDistribution


@dataclass(frozen=True)
class Evaluation:
    """Results as the card carries them, and the scores behind them."""

    test: HeldOut
    out_distributions: list[OODResult]
    inside: Outputs
    """Of the test images, by output name."""
    images: LabelledImages
    """The test images."""
    out_scores: dict[str, NDArray[np.float32]]
    """Deciding scores, by out-distribution."""
    views: dict[str, dict[View, dict[str, float]]]
    """What each score in the file would be worth alone: out-distribution -> view -> measure."""

    def added_to(self, card: ModelCard) -> ModelCard:
        """The card with this evaluation in place of any former one."""
        held_out = [part for part in card.held_out if part.split != "test"]
        return card.model_copy(
            update={"held_out": [*held_out, self.test], "evaluation": self.out_distributions}
        )

    def save(self, folder: Path, card: ModelCard) -> None:
        """Write ``evaluation.json``, ``scores.png``, ``confusion.png`` and ``worst.png``."""
        report = {
            "model": card.name,
            "network": card.network,
            "loss": card.loss,
            "alpha": card.calibration.alpha,
            "classes": card.classes,
            "test": self.test.model_dump(),
            "worst_images": [self._described(image, card) for image in self.worst()],
            "out_distributions": [result.model_dump() for result in self.out_distributions],
            "views": self.views,
        }
        with atomic_path(folder / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        score_histogram(
            folder / "scores.png",
            deciding_scores(self.inside),
            self.out_scores,
            threshold=card.calibration.threshold,
        )
        if self.test.confusion:
            figure = new_figure()
            draw_confusion(figure.subplots(), self.test.confusion, card.classes)
            save_figure(figure, folder / "confusion.png")
        figure = new_figure()
        draw_worst(figure, self.worst(), self.images.pixels, card.classes)
        save_figure(figure, folder / "worst.png")

    def worst(self) -> list[WorstImage]:
        """The test images that were classified wrongly with most confidence, worst first."""
        return worst_images(self.inside, self.images.labels)

    def _described(self, image: WorstImage, card: ModelCard) -> dict[str, object]:
        paths = self.images.paths
        return {
            "image": paths[image.row] if paths else image.row,
            "label": card.classes[image.label],
            "predicted": card.classes[image.predicted],
            "probability": image.probability,
            "p_value": image.p_value,
        }


def evaluate(
    model: onnx.ModelProto,
    card: ModelCard,
    test: LabelledImages,
    out_distributions: list[OutDistribution],
) -> Evaluation:
    """Score test images and out-distributions through the exported graph.

    Raises:
        InputError: the test images' classes are not the model's.
    """
    check_classes(test, card)
    inside = run_graph(model, test.pixels)
    alpha = np.float32(card.calibration.alpha)
    results, out_scores, views = [], {}, {}
    for out in out_distributions:
        outside = run_graph(model, out.pixels)
        scores = deciding_scores(outside)
        metrics = ood_metrics(deciding_scores(inside), scores)
        out_scores[out.name] = scores
        views[out.name] = {
            view: _alone(inside[f"{view}_score"], outside[f"{view}_score"])
            for view in VIEWS
            if f"{view}_score" in inside
        }
        results.append(
            OODResult(
                out_distribution=out.name,
                n=len(out),
                tnr_at_tpr95=metrics.tnr_at_tpr95,
                auroc=metrics.auroc,
                dtacc=metrics.dtacc,
                rejected=float(np.mean(outside["p_value"] <= alpha)),
                note=out.note,
            )
        )
    held_out = judge("test", inside, test.labels, card.calibration.alpha)
    return Evaluation(held_out, results, inside, test, out_scores, views)


def _alone(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> dict[str, float]:
    metrics = ood_metrics(inside, outside)
    return {"auroc": metrics.auroc, "tnr_at_tpr95": metrics.tnr_at_tpr95}


def check_classes(images: LabelledImages, card: ModelCard) -> None:
    """Refuse labelled images whose classes are not the model's, in its order."""
    if list(images.classes) != card.classes:
        raise InputError(
            f"{images.name} has the classes {', '.join(images.classes)}; the model was trained "
            f"on {', '.join(card.classes)}"
        )
