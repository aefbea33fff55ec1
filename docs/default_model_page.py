"""Writes docs/default-model.md out of the embedded model's card: python docs/default_model_page.py

Every number on the page is read from the file that is served, or from the evaluation of a SoftMax
network trained like it; a test compares them.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import onnxruntime

from isoserve.models.card import ModelCard, OODResult, read_card

PAGE = Path(__file__).with_name("default-model.md")
SOFTMAX = "results/cifar10-jpeg-softmax-like-default"
NATURAL = 5
"""The first so many out-distributions are those of docs/results."""
MODEL = Path(__file__).parents[1] / "model_repository" / "cifar10" / "1" / "model.onnx"


def default_model_page() -> str:
    """The page's text."""
    session = onnxruntime.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])
    card = read_card(session.get_modelmeta().custom_metadata_map)
    return "\n".join([*_head(card), *_results(card), *_again(card)]) + "\n"


def _head(card: ModelCard) -> list[str]:
    return [
        "# The default model",
        "",
        "<!-- Written by docs/default_model_page.py from the model's card; change it there. -->",
        "",
        f"`model_repository/cifar10/1/model.onnx`: {card.network} with a {card.loss} head, "
        f"{card.parameters:,} weights, {MODEL.stat().st_size / 1e6:.1f} MB, classes "
        f"{', '.join(card.classes)}. Licence of the weights: {card.licence}.",
        "",
        f"Trained on {card.data.training_images:,} images of CIFAR-10's training set; "
        f"{card.data.calibration_images:,} were held out and only calibrate. {card.data.note}. All "
        "images below, in- and out-of-distribution, went through that same compression, but for "
        "the noise.",
        "",
    ]


def _results(card: ModelCard) -> list[str]:
    alpha = card.calibration.alpha
    softmax = json.loads((PAGE.parent / SOFTMAX / "evaluation.json").read_text())
    pairs = list(zip(card.evaluation, softmax["out_distributions"], strict=True))
    for row, plain in pairs:
        assert (row.out_distribution, row.n) == (plain["out_distribution"], plain["n"])
    lines = [
        f"| images | n | accuracy | calibration error (ECE) | rejected at alpha {alpha:g} |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {part.split} | {part.n:,} | {part.accuracy:.4f} | {part.ece:.4f} "
        f"| {part.rejected:.4f} |"
        for part in card.held_out
    ]
    lines += [
        "",
        "The test set was used once, for this table.",
        "",
        f"| out-distribution | n | TNR@TPR95 | AUROC | DTACC | rejected at alpha {alpha:g} "
        "| SoftMax: TNR@TPR95 | SoftMax: AUROC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.out_distribution} | {row.n:,} | {row.tnr_at_tpr95:.4f} | {row.auroc:.4f} "
        f"| {row.dtacc:.4f} | {row.rejected:.4f} | {plain['tnr_at_tpr95']:.4f} "
        f"| {plain['auroc']:.4f} |"
        for row, plain in pairs
    ]
    return [
        *lines,
        "",
        "SoftMax: the same network with a plain last layer, trained by the same command with "
        f"`--loss softmax` (accuracy {softmax['test']['accuracy']:.4f}; the entropic score of its "
        f"probabilities; [its evaluation]({SOFTMAX}/evaluation.json)). IsoMax2 over it: "
        f"{_gains(pairs)} averaged over all sets, {_gains(pairs[:NATURAL])} over the first "
        f"{NATURAL}; one seed of each.",
        "",
    ]


def _gains(pairs: list[tuple[OODResult, dict[str, Any]]]) -> str:
    auroc, tnr = (
        100 * statistics.fmean(getattr(row, metric) - plain[metric] for row, plain in pairs)
        for metric in ("auroc", "tnr_at_tpr95")
    )
    return f"{auroc:+.1f} points in AUROC and {tnr:+.1f} in TNR@TPR95"


def _again(card: ModelCard) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return [
        "## Making it again",
        "",
        "```sh",
        card.command,
        "isoserve evaluate runs/cifar10/model.onnx data/cifar10 --ood FOLDER ... "
        "--output results --update-card",
        "```",
        "",
        f"Seed {card.seed}; {card.recipe['epochs']} epochs; data digest (SHA-256) "
        f"`{card.data.digest}`; {versions}. `data/cifar10` is an image folder, "
        "`data/cifar10/{train,test}/CLASS/*.jpg`; with torchvision's original pixels, give "
        "`cifar10` instead.",
    ]


if __name__ == "__main__":
    PAGE.write_text(default_model_page())
