"""Writes docs/default-model.md out of the embedded model's card: python docs/default_model_page.py

Every number on the page is read from the file that is served, or from the evaluation that wrote
them into it; a test compares them.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import onnxruntime

from isoserve.models.card import ModelCard, read_card

PAGE = Path(__file__).with_name("default-model.md")
EVALUATION = "results/cifar10-jpeg-default"
NEAR = ("tinyimagenet", "cifar100")
"""Small pictures of things, some like the ten classes; the other sets are far from them."""
MODEL = Path(__file__).parents[1] / "model_repository" / "cifar10" / "1" / "model.onnx"
NOISE = ("gaussian", "uniform")
TRAINING = (
    "isoserve train data/cifar10 --recipe finetune --network efficientnet_lite0_32 "
    "--augmentation translate --batch-size 250 --learning-rate 0.01"
)
MEMBERS = (
    "--epochs 10 --output runs/plain",
    "--epochs 16 --cutout 12 --output runs/cutout",
    "--epochs 16 --mixing 0.2 --output runs/mixing",
)
VIEWS = ("entropic", "boundary", "density")
TWINS = {
    "IsoMax2": "results/cifar10-jpeg-pupil-isomax2",
    "SoftMax": "results/cifar10-jpeg-pupil-softmax",
}
"""Two small networks trained exactly alike, but for their last layer."""
SYSTEMS = "results/cifar10-jpeg-pupils"
"""Every system of ``isoserve reproduce --study openood`` on the two."""
SYSTEMS_NEAR = ("tin", "cifar100")
"""The near sets by the protocol's names."""


def default_model_page() -> str:
    """The page's text."""
    session = onnxruntime.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])
    card = read_card(session.get_modelmeta().custom_metadata_map)
    return "\n".join([*_head(card), *_results(card), *_twins(), *_again(card)]) + "\n"


def _head(card: ModelCard) -> list[str]:
    return [
        "# The default model",
        "",
        "<!-- Written by docs/default_model_page.py from the model's card; change it there. -->",
        "",
        f"`model_repository/cifar10/1/model.onnx`: {card.network} with an {card.loss} head, "
        f"{card.parameters:,} weights, {MODEL.stat().st_size / 1e6:.1f} MB, classes "
        f"{', '.join(card.classes)}. Licence of the weights: {card.licence}.",
        "",
        "It is the mean of three networks that began with EfficientNet-Lite0's ImageNet weights "
        "and differ in augmentation (none but shifts and mirroring, cutout, MixUp and CutMix); it "
        "enlarges 32 x 32 pixels to 112 x 112 itself. ImageNet has pictures of many of the things "
        "that the sets below show: "
        "the network has seen their like, if never as what it should reject. A network from "
        "random weights (`--recipe fast`) did worse on classes that were held out. "
        "[How it was chosen](results/default-model-choice.md).",
        "",
        f"Trained on {card.data.training_images:,} images of CIFAR-10's training set. 5,000 were "
        f"held out: a fifth of them scaled the views, {card.data.calibration_images:,} calibrate. "
        "The networks, their mean and small networks taught by them were compared on those same "
        "5,000 and on images made of them. "
        f"{card.data.note}. All images below, in- and out-of-distribution, went through that same "
        "compression, but for the noise.",
        "",
    ]


def _results(card: ModelCard) -> list[str]:
    alpha = card.calibration.alpha
    report = json.loads((PAGE.parent / EVALUATION / "evaluation.json").read_text())
    rows = [
        row.model_dump() | {"views": report["views"][row.out_distribution]}
        for row in card.evaluation
    ]
    near = [row for row in rows if row["out_distribution"] in NEAR]
    far = [row for row in rows if row not in near and row["out_distribution"] not in NOISE]
    lines = [
        "| images | n | accuracy | calibration error (ECE) "
        f"| rejected at alpha {alpha:g} | by class p-value |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {part.split} | {part.n:,} | {part.accuracy:.4f} | {part.ece:.4f} "
        f"| {part.rejected:.4f} | {part.class_rejected or 0:.4f} |"
        for part in card.held_out
    ]
    lines += [
        "",
        "The test set and the sets below chose nothing. The table was made again each time the "
        "density score changed its form, which unseen classes and made outliers decided "
        "([directions](results/density-directions.md)).",
        "",
        f"| out-distribution | n | AUROC | TNR@TPR95 | rejected at alpha {alpha:g} "
        "| entropic alone: AUROC | boundary | density |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(row["out_distribution"], f"{row['n']:,}", [row]) for row in rows),
        _row("**near**, mean", "", near),
        _row("**far**, mean without noise", "", far),
    ]
    return [
        *lines,
        "",
        "The score that decides is the combination of the three views; the last columns are what "
        "each of them would be worth alone.",
        "",
    ]


def _row(name: str, n: str, rows: list[dict[str, Any]]) -> str:
    values = [
        statistics.fmean(row[key] for row in rows) for key in ("auroc", "tnr_at_tpr95", "rejected")
    ]
    values += [statistics.fmean(row["views"][view]["auroc"] for row in rows) for view in VIEWS]
    return f"| {name} | {n} | {' | '.join(f'{value:.4f}' for value in values)} |"


def _twins() -> list[str]:
    """Near and far of every score of the twins, side by side."""
    lines = [
        "## Beside a SoftMax network",
        "",
        "Two `whitened_resnet_32`, small networks from random weights, taught by the same teacher "
        "with the same seed, epochs and augmentation; one ends in IsoMax2, the other in a SoftMax "
        "layer. One run each, so that small differences mean nothing. AUROC, means over the sets "
        "above without noise:",
        "",
        "| last layer | accuracy | | verdict | entropic | boundary | density | rejected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, folder in TWINS.items():
        report = json.loads((PAGE.parent / folder / "evaluation.json").read_text())
        rows = [row for row in report["out_distributions"] if _name(row) not in NOISE]
        for side, sets in (
            ("near", [row for row in rows if _name(row) in NEAR]),
            ("far", [row for row in rows if _name(row) not in NEAR]),
        ):
            values = [statistics.fmean(row["auroc"] for row in sets)]
            values += [
                statistics.fmean(report["views"][_name(row)][view]["auroc"] for row in sets)
                for view in VIEWS
            ]
            values.append(statistics.fmean(row["rejected"] for row in sets))
            lines.append(
                f"| [{name}]({folder}/evaluation.json) | {report['test']['accuracy']:.4f} | {side} "
                f"| {' | '.join(f'{value:.4f}' for value in values)} |"
            )
    return [
        *lines,
        "",
        "Taught on mixed images the small network's entropic score is weak; the features that "
        "IsoMax2 leaves carry its verdict.",
        "",
        *_systems(),
    ]


def _systems() -> list[str]:
    """KNN and the other systems on the twins, near and far."""
    found: dict[str, dict[str, float]] = {}
    for record in json.loads((PAGE.parent / SYSTEMS / "results.json").read_text())["records"]:
        if record["metric"] == "AUROC" and record["out_data"] not in NOISE:
            found.setdefault(record["method"], {})[record["out_data"]] = record["value"] / 100
    lines = [
        f"The same two networks under the protocol of [`isoserve reproduce --study openood`]"
        f"({SYSTEMS}/report.md), with other scores on their features; AUROC, means over the sets:",
        "",
        "| system | near | far |",
        "|---|---|---|",
    ]
    for method, sets in sorted(found.items()):
        near = statistics.fmean(sets[name] for name in SYSTEMS_NEAR)
        far = statistics.fmean(value for name, value in sets.items() if name not in SYSTEMS_NEAR)
        lines.append(f"| {method} | {near:.4f} | {far:.4f} |")
    return [*lines, ""]


def _name(row: dict[str, Any]) -> str:
    return str(row["out_distribution"])


def _again(card: ModelCard) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return [
        "## Making it again",
        "",
        "```sh",
        *(f"{TRAINING} {options}" for options in MEMBERS),
        card.command,
        "isoserve export runs/mean --output model.onnx --half --name cifar10",
        "isoserve evaluate model.onnx data/cifar10 --ood FOLDER ... --limit 2500 --output results "
        "--update-card",
        "```",
        "",
        "The trainings took about two minutes each, side by side, of an NVIDIA H200 (PyTorch "
        "2.11); the weights they left were kept in 16 bits, averaged and exported on a CPU. "
        f"Seed {card.seed}; data digest (SHA-256) "
        f"`{card.data.digest}`; {versions}. `data/cifar10` is an image folder, "
        "`data/cifar10/{train,test}/CLASS/*.jpg`; with torchvision's original pixels, give "
        "`cifar10` instead.",
    ]


if __name__ == "__main__":
    PAGE.write_text(default_model_page())
