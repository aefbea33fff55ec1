"""How the form of the combined score was chosen, on classes held out and synthetic outliers.

    python -m benchmarks.combined_score holdout-*.npz --output docs/results

Each npz file (arrays prototypes, scales, tilts; train, calibration, test, held_out, outlier_*
[N, D] and their labels) is of one small ResNet9 with an IsoMax2 head on a GPU that was
trained on some classes of a data set: features of training, held-out and test images, of images
of the other classes ("near") and of synthetic outliers made of test images ("far", but for
blends of two images, which are near), and the head. No out-distribution that the product is
measured on is among them.

Every form sees the same scales or tables: a fifth of the held-out images, at least 40 and at most
1,000, drawn four times. AUROC is the mean over the draws; a gap is how far it lies below the best
of the three views on that set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr

from isoserve.models.combination import SHARPNESS, VIEWS, WEIGHTS
from isoserve.models.heads import IsoMax2Head
from isoserve.models.served_model import Verdict
from isoserve.training.atomic import atomic_path
from isoserve.training.evaluation.metrics import ood_metrics
from isoserve.training.onnx_model.feature_statistics import fit_statistics
from isoserve.training.onnx_model.fit_score import fit_scales

DRAWS = 4
NEAR = ("held_out", "outlier_blends")
FAR_BAR, NEAR_BAR = 0.01, 0.02

Scores = NDArray[np.float64]
"""[N, V], of the views."""

Form = Callable[[Scores, Scores], Scores]
"""(scores of the scale images [n, V], scores to combine [N, V]) -> combined scores [N]."""


@dataclass(frozen=True)
class Study:
    """One network's scores of each set of images."""

    name: str
    accuracy: float
    calibration: Scores
    test: Scores
    predicted: NDArray[np.int64]
    """[N], classes of the test images."""
    out: dict[str, Scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path, nargs="+", help="npz files")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    studies = [read(path) for path in sorted(options.features)]
    single = {
        (study.name, out): {
            view: auroc(study.test[:, place], scores[:, place]) for place, view in enumerate(VIEWS)
        }
        for study in studies
        for out, scores in study.out.items()
    }
    rows = [measure(name, form, studies, single) for name, form in forms().items()]
    report = {
        "command": "python -m benchmarks.combined_score "
        + " ".join(path.name for path in sorted(options.features)),
        "draws": DRAWS,
        "chosen": {"sharpness": SHARPNESS, "weights": WEIGHTS},
        "networks": [
            {"name": study.name, "accuracy": study.accuracy, "test_images": len(study.test)}
            for study in studies
        ],
        "views": [
            {"network": network, "out": out, **values} for (network, out), values in single.items()
        ],
        "forms": rows,
    }
    with atomic_path(options.output / "combined_score.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    with atomic_path(options.output / "combined_score.md") as temporary:
        temporary.write_text(page(rows, report["command"]))


def read(path: Path) -> Study:
    """Score one file's images by all three views, as the exported graph does."""
    arrays = np.load(path)
    classes, width = arrays["prototypes"].shape
    head = IsoMax2Head(width, classes)
    head.load_state_dict(
        {name: torch.from_numpy(arrays[name]) for name in ("prototypes", "scales", "tilts")}
    )
    verdict = Verdict(head, "entropic").eval()
    training = arrays["train"].astype(np.float32)
    found = fit_statistics(training, arrays["train_labels"].astype(np.int64), classes)
    for name, value in found.tensors().items():
        setattr(verdict, name, value)

    @torch.no_grad()
    def judge(name: str) -> dict[str, torch.Tensor]:
        outputs = verdict(torch.from_numpy(arrays[name].astype(np.float32)))
        return dict(zip(verdict.output_names, outputs, strict=True))

    def score(name: str) -> Scores:
        by_name = judge(name)
        return np.stack([by_name[f"{view}_score"].double().numpy() for view in VIEWS], axis=1)

    out = [name for name in arrays.files if name == "held_out" or name.startswith("outlier_")]
    return Study(
        path.stem.removeprefix("holdout-"),
        float(arrays["accuracy"]),
        score("calibration"),
        score("test"),
        judge("test")["probabilities"].argmax(dim=1).numpy(),
        {name: score(name) for name in out},
    )


def forms() -> dict[str, Form]:
    """All forms that were tried, by name."""
    found: dict[str, Form] = {
        "sum of log ranks": lambda table, scores: log_ranks(table, scores).sum(axis=1),
        "smallest log rank": lambda table, scores: log_ranks(table, scores).min(axis=1),
        "sum of Gaussian log tails": lambda table, scores: log_ndtr(z(table, scores)).sum(axis=1),
        "smallest z": lambda table, scores: z(table, scores).min(axis=1),
    }
    for sharpness in (0.7, 1.0, 1.5, 2.0, 3.0):
        for weight in (1.0, 1.25, 1.5, 2.0):
            found[f"soft minimum, sharpness {sharpness:g}, density's weight {weight:g}"] = (
                soft_minimum(sharpness, weight)
            )
    return found


def soft_minimum(sharpness: float, density: float) -> Form:
    """-log sum w exp(-sharpness z): see :mod:`isoserve.models.combination`."""
    weights = np.array([1.0, 1.0, density])

    def form(table: Scores, scores: Scores) -> Scores:
        evidence: Scores = np.exp(-sharpness * z(table, scores)) @ weights
        return -np.log(evidence)

    return form


def z(table: Scores, scores: Scores) -> Scores:
    """Scores in spreads above the table's centres."""
    centres, spreads = fit_scales(table)
    found: Scores = (scores - centres) / spreads
    return found


def log_ranks(table: Scores, scores: Scores) -> Scores:
    """Logarithm of the share of the table at most as high."""
    ranks = [
        1 + np.searchsorted(np.sort(table[:, view]), scores[:, view], side="right")
        for view in range(table.shape[1])
    ]
    found: Scores = np.log(np.stack(ranks, axis=1) / (len(table) + 1))
    return found


def auroc(inside: Scores, outside: Scores) -> float:
    """In [0, 1]; inside scores are the higher ones."""
    return ood_metrics(inside, outside).auroc


def measure(
    name: str,
    form: Form,
    studies: list[Study],
    single: dict[tuple[str, str], dict[str, float]],
) -> dict[str, object]:
    """A form's AUROC on every set, and its gaps."""
    cells: dict[tuple[str, str], float] = {}
    for study in studies:
        n = len(study.calibration)
        count = min(1000, max(n // 5, 40))
        found: dict[str, list[float]] = {}
        for draw in range(DRAWS):
            table = study.calibration[np.random.default_rng(draw).permutation(n)[:count]]
            inside = form(table, study.test)
            for out, scores in study.out.items():
                found.setdefault(out, []).append(auroc(inside, form(table, scores)))
        cells |= {(study.name, out): float(np.mean(values)) for out, values in found.items()}
    gaps = {key: value - max(single[key].values()) for key, value in cells.items()}
    near = [key for key in cells if key[1] in NEAR]
    far = [key for key in cells if key[1] not in NEAR]
    return {
        "form": name,
        "near": float(np.mean([cells[key] for key in near if key[1] == "held_out"])),
        "far": float(np.mean([cells[key] for key in far])),
        "near_gap_mean": float(np.mean([gaps[key] for key in near])),
        "near_gap_worst": min(gaps[key] for key in near),
        "near_within_bar": sum(gaps[key] >= -NEAR_BAR for key in near),
        "near_sets": len(near),
        "far_gap_mean": float(np.mean([gaps[key] for key in far])),
        "far_gap_worst": min(gaps[key] for key in far),
        "far_within_bar": sum(gaps[key] >= -FAR_BAR for key in far),
        "far_sets": len(far),
        "cells": [{"network": n, "out": out, "auroc": v} for (n, out), v in cells.items()],
    }


def page(rows: list[dict[str, object]], command: object) -> str:
    """The rows as a page."""
    lines = [
        "# The form of the combined score",
        "",
        f"Written by `{command}`. Near: classes held out of the training (the mean) and blends of "
        "two test images; far: other synthetic outliers. A gap is the AUROC below the best of the "
        "three views on the same set; the bars are 0.02 near and 0.01 far.",
        "",
        "| form | near | gap: mean, worst, within bar | far | gap: mean, worst, within bar |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row['form']}",
            *(
                part
                for side in ("near", "far")
                for part in (
                    f"{row[side]:.4f}",
                    f"{row[f'{side}_gap_mean']:+.4f}, {row[f'{side}_gap_worst']:+.4f}, "
                    f"{row[f'{side}_within_bar']} of {row[f'{side}_sets']}",
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
