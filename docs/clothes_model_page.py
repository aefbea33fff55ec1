"""Writes docs/clothes-model.md out of the embedded model's card: python docs/clothes_model_page.py

Every number on the page is read from the file that is served; a test compares them.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from isoserve.models.card import ModelCard, read_card

PAGE = Path(__file__).with_name("clothes-model.md")
MODEL = Path(__file__).parents[1] / "model_repository" / "clothes" / "1" / "model.onnx"


def clothes_model_page() -> str:
    """The page's text."""
    session = onnxruntime.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])
    card = read_card(session.get_modelmeta().custom_metadata_map)
    return "\n".join([*_head(card), *_results(card), *_again(card)]) + "\n"


def _head(card: ModelCard) -> list[str]:
    half = card.recipe["against_float32"]
    difference = half["largest_difference"]
    return [
        "# The clothes model",
        "",
        "<!-- Written by docs/clothes_model_page.py from the model's card; change it there. -->",
        "",
        f"`model_repository/clothes/1/model.onnx`: {card.network} with a {card.loss} head, "
        f"{card.parameters:,} weights, {MODEL.stat().st_size / 1e6:.1f} MB, classes "
        f"{', '.join(card.classes)}. Licence of the weights: {card.licence}.",
        "",
        "A photograph of a shirt is a shirt; one of a cat is nothing it knows. It answers requests "
        "that name no model while it and `cifar10` are all that is served.",
        "",
        f"Trained on {card.data.training_images:,} phone photographs of clothes (CC0), from "
        f"ImageNet's weights; {card.data.calibration_images:,} others calibrate, and the rest of a "
        f"held-out tenth scales the views of the {card.score} score. "
        f"{card.data.note[:1].upper()}{card.data.note[1:]}.",
        "",
        f"The weights are stored as float16 and computed with as float32. On the {half['n']} "
        f"held-out photographs {half['same_class']:.1%} get the same class and "
        f"{half['same_verdict']:.1%} the same verdict as with float32 weights; probabilities "
        f"differ by {difference['probabilities']:.4f} at most.",
        "",
    ]


def _results(card: ModelCard) -> list[str]:
    alpha = card.calibration.alpha
    lines = [
        f"| photographs | n | accuracy | calibration error (ECE) | rejected at alpha {alpha:g} |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {part.split} | {part.n:,} | {part.accuracy:.4f} | {part.ece:.4f} "
        f"| {part.rejected:.4f} |"
        for part in card.held_out
    ]
    lines += [
        "",
        "Nothing was chosen by the test photographs or by those below.",
        "",
        f"| out-distribution | n | TNR@TPR95 | AUROC | DTACC | rejected at alpha {alpha:g} |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.out_distribution} | {row.n:,} | {row.tnr_at_tpr95:.4f} | {row.auroc:.4f} "
        f"| {row.dtacc:.4f} | {row.rejected:.4f} |"
        for row in card.evaluation
    ]
    return [
        *lines,
        "",
        "`other-clothes`: five kinds of clothes that are none of the classes, of the same origin; "
        "`photos`: ImageNet photographs, which the network has seen in its pretraining.",
        "",
    ]


def _again(card: ModelCard) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return [
        "## Making it again",
        "",
        "```sh",
        card.command,
        "isoserve export runs/clothes --half --output clothes.onnx",
        "isoserve evaluate clothes.onnx data/clothes --ood other-clothes=FOLDER "
        "--ood photos=FOLDER --output results --update-card",
        "```",
        "",
        f"Seed {card.seed}; data digest (SHA-256) `{card.data.digest}`; {versions}.",
    ]


if __name__ == "__main__":
    PAGE.write_text(clothes_model_page())
