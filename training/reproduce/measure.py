"""Scores -> records: what each cell of the grid measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from isoserve.models.heads import IsoMax2Head
from isoserve.training.evaluation.metrics import fpr_at_95, ood_metrics
from isoserve.training.reproduce.grid import Cell, Grid
from isoserve.training.reproduce.plan import LOSS_NAMES, Training, ablation_name
from isoserve.training.reproduce.results import FPR, METRICS, Record, Results
from isoserve.training.reproduce.scale import OPENOOD


def measure(grid: Grid, cells: list[Cell]) -> Results:
    """All records of the grid, and what else determines or explains them."""
    results = Results(scale=grid.scale.name, fooling=grid.fooled, sets=_sets(grid, cells))
    for cell in cells:
        results.records += [
            *_accuracies(cell, grid.scale.studies),
            *_detections(cell, grid.scale.studies),
        ]
        if OPENOOD in grid.scale.studies and cell.evaluation.training.purpose == "main":
            results.records += _false_positives(cell)
        results.trainings.append(_training(cell))
        for system in cell.systems:
            chosen = cell.evaluation.chosen(system)
            if chosen:
                place = {"training": cell.evaluation.training.words, "system": system.name}
                results.chosen.append(place | chosen)
    return results


def method_names(training: Training, system: str, studies: Collection[str]) -> list[str]:
    """The columns a training's score goes to; the usual settings stand in every study that runs."""
    recipe = training.recipe
    if training.purpose == "entropic scale":
        return [f"{system} E_s={recipe.entropic_scale:g}"]
    if training.purpose == "ablation":
        return [f"{system} {ablation_name(recipe)}"]
    if training.purpose == "fewer images":
        return [f"{system} n={training.images_per_class}"]
    names = [system]
    if training.purpose == "main" and recipe.seed == 0:
        if system == "IsoMax/ES" and "entropic scale" in studies:
            names.append(f"{system} E_s={recipe.entropic_scale:g}")
        if system == "IsoMax2/ES" and "ablation" in studies:
            names.append(f"{system} {ablation_name(recipe)}")
    return names


def _detections(cell: Cell, studies: Collection[str]) -> Iterator[Record]:
    training = cell.evaluation.training
    for system in cell.systems:
        inside = cell.evaluation.scores(system, cell.test)
        for out in cell.out_sets:
            outside = cell.evaluation.scores(system, out)
            found = ood_metrics(inside, outside)
            shares = (found.tnr_at_tpr95, found.auroc, found.dtacc)
            for name in method_names(training, system.name, studies):
                for metric, share in zip(METRICS, shares, strict=True):
                    yield Record(
                        network=training.recipe.network,
                        in_data=training.in_data,
                        out_data=out.name,
                        metric=metric,
                        method=name,
                        seed=training.recipe.seed,
                        value=100 * share,
                        n_in=len(inside),
                        n_out=len(outside),
                    )


def _false_positives(cell: Cell) -> Iterator[Record]:
    training = cell.evaluation.training
    for system in cell.systems:
        inside = cell.evaluation.scores(system, cell.test)
        for out in cell.out_sets:
            outside = cell.evaluation.scores(system, out)
            yield Record(
                network=training.recipe.network,
                in_data=training.in_data,
                out_data=out.name,
                metric=FPR,
                method=system.name,
                seed=training.recipe.seed,
                value=100 * fpr_at_95(inside, outside),
                n_in=len(inside),
                n_out=len(outside),
            )


def _accuracies(cell: Cell, studies: Collection[str]) -> Iterator[Record]:
    training = cell.evaluation.training
    recipe = training.recipe
    predicted = cell.evaluation.logits(cell.test)["cold"].argmax(axis=1)
    test = float((predicted == np.array(cell.test_labels)).mean())
    checkpoint = cell.evaluation.checkpoint
    found = (
        ("train accuracy", checkpoint.history[-1]["accuracy"], checkpoint.training_images),
        ("test accuracy", test, len(cell.test_labels)),
    )
    for name in method_names(training, LOSS_NAMES[training.loss], studies):
        for metric, share, images in found:
            yield Record(
                network=recipe.network,
                in_data=training.in_data,
                out_data="",
                metric=metric,
                method=name,
                seed=recipe.seed,
                value=100 * share,
                n_in=images,
                n_out=0,
            )


def _training(cell: Cell) -> dict[str, Any]:
    evaluation = cell.evaluation
    training, checkpoint = evaluation.training, evaluation.checkpoint
    # Speed is not a result: it differs between two runs.
    history = [
        {key: value for key, value in row.items() if key != "images_per_second"}
        for row in checkpoint.history
    ]
    facts: dict[str, Any] = {
        "words": training.words,
        "purpose": training.purpose,
        "in_data": training.in_data,
        "images_per_class": training.images_per_class,
        "recipe": training.recipe.model_dump(),
        "history": history,
    }
    head = checkpoint.classifier().head
    if isinstance(head, IsoMax2Head):
        scales, tilts = head.scales.detach(), head.tilts.detach()
        facts["scales"] = [float(scales.min()), float(scales.max())]
        facts["tilts"] = [float(tilts.min()), float(tilts.max())]
    return facts


def _sets(grid: Grid, cells: list[Cell]) -> list[dict[str, Any]]:
    found = [
        {
            "role": "in-distribution",
            "in_data": name,
            "name": name,
            "train": len(data.train),
            "test": len(data.test),
            "note": data.note,
            "train_digest": data.train.digest(),
            "test_digest": data.test.digest(),
            "skipped": len(data.train.skipped) + len(data.test.skipped),
        }
        for name, data in grid.data.items()
    ]
    seen = set()
    for cell in cells:
        in_data = cell.evaluation.training.in_data
        for out in cell.out_sets:
            if (in_data, out.name, out.digest) not in seen:
                seen.add((in_data, out.name, out.digest))
                facts = asdict(out) | {"role": "out-distribution", "in_data": in_data}
                facts["images"] = len(facts.pop("pixels"))
                found.append(facts)
    return found
