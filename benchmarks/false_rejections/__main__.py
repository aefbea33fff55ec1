"""Is the promise kept? The share of in-distribution images rejected, over random splits.

    python -m benchmarks.false_rejections model.onnx data/cifar10 --output docs/results

The test images, which neither the weights nor the file's own calibration have seen, are split at
random: some scale the views, some calibrate, the others are judged. Each split makes scales,
combined scores and both kinds of p-values anew. The share rejected at alpha should be alpha on
average, and scatter as Beta(k, n + 1 - k) does, blurred by the finite number of judged images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.combined_score.__main__ import read
from isoserve.models.combination import VIEWS, linear_terms
from isoserve.training.atomic import atomic_path
from isoserve.training.data import load_images
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model.fit_score import fit_scales
from isoserve.training.onnx_model.reference import numpy_combined

SPLITS = 20
ALPHAS = (0.01, 0.05, 0.1)
SCALE_SHARE, CALIBRATION_SHARE = 0.1, 0.4

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="or an npz file, as combined_score reads it")
    parser.add_argument("source", nargs="?", default="", help="as of isoserve evaluate")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.model.suffix == ".npz":
        study = read(options.model)
        views, predicted = study.test, study.predicted
        classes, of = int(predicted.max()) + 1, "its test images"
    else:
        model, card = read_model(options.model)
        images = load_images(options.source, "test", card.input, options.data_root)
        outputs = run_graph(model, images.pixels)
        views = np.stack([outputs[f"{view}_score"] for view in VIEWS], axis=1).astype(np.float64)
        predicted = outputs["probabilities"].argmax(axis=1)
        classes, of = len(card.classes), images.name
    report = {
        "command": f"python -m benchmarks.false_rejections {options.model.name} {options.source}",
        "images": of,
        "n": len(views),
        "splits": SPLITS,
        "rows": rejections(views, predicted, classes),
    }
    with atomic_path(options.output / "false_rejections.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    for row in report["rows"]:
        print(
            f"{row['score']:<9}{row['p_value']:<14} alpha {row['alpha']}: mean {row['mean']:.4f}, "
            f"std {row['std']:.4f} (expected {row['expected_std']:.4f})"
        )


def rejections(
    views: Floats, predicted: NDArray[np.int64], classes: int
) -> list[dict[str, float | str]]:
    """Mean and standard deviation over the splits of the share rejected.

    Args:
        views: [N, V], scores of exchangeable images.
        predicted: [N].
    """
    n = len(views)
    scale, calibration = round(SCALE_SHARE * n), round(CALIBRATION_SHARE * n)
    shares: dict[tuple[str, str, float], list[float]] = {}
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(n)
        own, known, judged = np.split(order, [scale, scale + calibration])
        scores = {
            "entropic": views[:, 0],
            "combined": numpy_combined(views, *linear_terms(*fit_scales(views[own]))),
        }
        for score, values in scores.items():
            found = {
                "p_value": p_values(values[known], values[judged]),
                "class_p_value": class_p_values(values, predicted, (known, judged), classes),
            }
            for kind, p in found.items():
                for alpha in ALPHAS:
                    shares.setdefault((score, kind, alpha), []).append(float((p <= alpha).mean()))
    judged_n = n - scale - calibration
    return [
        {
            "score": score,
            "p_value": kind,
            "alpha": alpha,
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)),
            "expected_std": expected_std(alpha, calibration, judged_n),
        }
        for (score, kind, alpha), values in shares.items()
    ]


def p_values(calibration: Floats, scores: Floats) -> Floats:
    """(1 + #{calibration scores <= score}) / (n + 1), [N]."""
    at_most = np.searchsorted(np.sort(calibration), scores, side="right")
    found: Floats = (1 + at_most) / (len(calibration) + 1)
    return found


def class_p_values(
    scores: Floats,
    predicted: NDArray[np.int64],
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    classes: int,
) -> Floats:
    """The same among the calibration images of the predicted class; [judged images]."""
    known, judged = parts
    found = np.ones(len(judged))
    for label in range(classes):
        members = predicted[judged] == label
        peers = scores[known][predicted[known] == label]
        found[members] = p_values(peers, scores[judged][members])
    return found


def expected_std(alpha: float, calibration: int, judged: int) -> float:
    """Of the share rejected: Beta(k, n + 1 - k) of the calibration, and counting the judged."""
    k = int(alpha * (calibration + 1))
    beta = k * (calibration + 1 - k) / ((calibration + 1) ** 2 * (calibration + 2))
    return float(np.sqrt(beta + alpha * (1 - alpha) / judged))


if __name__ == "__main__":
    main()
