"""``isoserve reproduce``: the papers' tables and figures, run again."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import click
import torch

from isoserve.models.backbones import build_backbone
from isoserve.models.errors import InputError
from isoserve.training.baselines.mahalanobis import feature_layers
from isoserve.training.fabric import make_fabric
from isoserve.training.reproduce.datasets import Sources
from isoserve.training.reproduce.given_runs import read_given_runs
from isoserve.training.reproduce.grid import Cell, Grid
from isoserve.training.reproduce.measure import measure
from isoserve.training.reproduce.plots import draw_all
from isoserve.training.reproduce.report import Environment, Findings, write_report
from isoserve.training.reproduce.scale import LOSSES, OPENOOD, SCALES, STUDIES, Scale
from isoserve.training.reproduce.speed import Cost, measure_costs
from isoserve.training.reproduce.store import Store, digest

PACKAGES = ("torch", "numpy", "scikit-learn", "pytorch-ood")


@click.command()
@click.option(
    "--scale",
    "scale_name",
    type=click.Choice(list(SCALES)),
    default="smoke",
    show_default=True,
    help="How much: smoke takes minutes, cpu hours, paper days of GPUs.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for the report; finished cells are kept in CELLS below it.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
@click.option(
    "--in-data",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Read the scale's data set NAME from an image folder; may be repeated.",
)
@click.option(
    "--out-data",
    multiple=True,
    metavar="[NAME=]SOURCE",
    help="Natural out-distributions in place of the scale's: a name or a folder; repeated.",
)
@click.option("--network", multiple=True, help="Only these of the scale's networks, or others.")
@click.option("--only-in", multiple=True, help="Only these in-distributions of the scale.")
@click.option(
    "--loss",
    "losses",
    type=click.Choice(LOSSES),
    multiple=True,
    help="Only the systems on networks of these losses; repeated.",
)
@click.option(
    "--trained",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN",
    help="Evaluate this finished training run and train nothing; repeated, one a loss, all of one "
    "network and of the scale's in-distribution.",
)
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds of the main losses.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs in place of the scale's; ACET's change in proportion.",
)
@click.option(
    "--studies/--no-studies",
    default=True,
    show_default=True,
    help="Also the trainings of E_s, of the ablation and of fewer images.",
)
@click.option(
    "--study",
    "chosen_studies",
    type=click.Choice([name.replace(" ", "-") for name in (*STUDIES, OPENOOD)]),
    multiple=True,
    help="Only these of the studies; repeated. openood, which runs only where it is named, shows "
    "the networks OpenOOD v1.5's sets in place of the scale's.",
)
@click.option(
    "--tuned/--no-tuned",
    default=True,
    show_default=True,
    help="Also ODIN and Mahalanobis, whose search costs more than a training.",
)
@click.option(
    "--fooling/--no-fooling",
    default=True,
    show_default=True,
    help="Also evolve fooling images, against one more network.",
)
@click.option("--note", default="", help="A remark on the images, shown in the report.")
@click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--devices", default="auto", show_default=True, help="How many, or which.")
@click.option("--nodes", default=1, show_default=True, help="Machines; start by torchrun.")
def reproduce(
    scale_name: str,
    output: Path,
    data_root: Path,
    in_data: tuple[str, ...],
    out_data: tuple[str, ...],
    network: tuple[str, ...],
    only_in: tuple[str, ...],
    losses: tuple[str, ...],
    trained: tuple[Path, ...],
    seeds: int | None,
    epochs: int | None,
    studies: bool,
    chosen_studies: tuple[str, ...],
    tuned: bool,
    fooling: bool,
    note: str,
    accelerator: str,
    devices: str,
    nodes: int,
) -> None:
    """Train and evaluate every system of the papers and write the report.

    Stopped at any moment and started again with the same options, it goes on where it was; started
    twice at once on the same folder, the two share the work.

    \b
    Example:
      isoserve reproduce --scale smoke
      isoserve reproduce --scale cpu --in-data cifar10=data/cifar10 \\
          --out-data tinyimagenet=data/tinyimagenet --out-data svhn
    """
    scale = _chosen(SCALES[scale_name], network, only_in, seeds, epochs)
    if trained:
        _refuse_beside_trained(click.get_current_context())
    scale = replace(
        scale,
        losses=losses or LOSSES,
        studies=_studies(studies, chosen_studies),
        tuned=tuned,
        fooling=fooling,
    )
    if trained:
        scale = scale.of_runs(read_given_runs(trained))
        if scale.tuned:
            _check_network(scale.networks[0])
    fabric = make_fabric(scale.recipe, accelerator, devices, nodes)
    fabric.launch()
    say = click.echo if fabric.is_global_zero else _silent
    sources = Sources(data_root, in_data, out_data)
    store = Store(output / "cells")
    grid = Grid(scale, sources, store, say)
    grid.train(fabric)
    if not fabric.is_global_zero:
        return
    cells = grid.evaluate()
    results = measure(grid, cells)
    study = [
        cell
        for cell in cells
        if (cell.evaluation.training.recipe.network, cell.evaluation.training.in_data)
        == scale.study
    ]
    figures = draw_all(results, study, output / "figures") if study else []
    costs = _costs(grid, cells, store)
    context = click.get_current_context()
    made = Environment(
        command=_command(context.params),
        note=note,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        machine=_machine(),
    )
    write_report(output, scale, results, Findings(costs, figures), made)
    click.echo(f"{output / 'report.md'} and {output / 'report.html'} written")


def _studies(any_at_all: bool, chosen: tuple[str, ...]) -> tuple[str, ...]:
    if not any_at_all:
        if chosen:
            raise InputError(f"--study {chosen[0]} and --no-studies exclude each other")
        return ()
    named = tuple(name for name in (*STUDIES, OPENOOD) if name.replace(" ", "-") in chosen)
    return named or STUDIES


def _refuse_beside_trained(context: click.Context) -> None:
    for name in ("network", "seeds", "epochs", "losses"):
        if context.params[name]:
            flag = "loss" if name == "losses" else name
            raise InputError(f"--{flag} and --trained exclude each other: a run has its own")


def _chosen(
    scale: Scale,
    networks: tuple[str, ...],
    only_in: tuple[str, ...],
    seeds: int | None,
    epochs: int | None,
) -> Scale:
    unknown = [name for name in only_in if name not in scale.in_data]
    if unknown:
        raise InputError(
            f"--only-in {unknown[0]!r} is not in the {scale.name} scale: {', '.join(scale.in_data)}"
        )
    networks, in_data = networks or scale.networks, only_in or scale.in_data
    for name in networks:
        _check_network(name)
    study_network, study_data = scale.study
    recipe = scale.recipe
    return replace(
        scale,
        networks=networks,
        in_data=in_data,
        study=(
            study_network if study_network in networks else networks[0],
            study_data if study_data in in_data else in_data[0],
        ),
        seeds=seeds or scale.seeds,
        recipe=recipe.model_copy(update={"epochs": epochs or recipe.epochs}),
        acet_epochs=_in_proportion(scale, epochs),
    )


def _in_proportion(scale: Scale, epochs: int | None) -> int:
    share = (epochs or scale.recipe.epochs) / scale.recipe.epochs
    return max(1, round(scale.acet_epochs * share))


def _check_network(name: str) -> None:
    try:
        feature_layers(build_backbone(name).network)
    except ValueError as error:
        raise InputError(str(error)) from error


def _costs(grid: Grid, cells: list[Cell], store: Store) -> list[Cost]:
    """Of each system on the study's network; kept, so that a second report does not wait."""
    found: dict[str, Cost] = {}
    for cell in cells:
        training = cell.evaluation.training
        if training.recipe.seed or training.purpose not in ("main", "acet"):
            continue
        if (training.recipe.network, training.in_data) != grid.scale.study:
            continue
        key = digest(training=cell.evaluation.key, machine=_machine())
        kept = store.values("costs", key, functools.partial(_measured, cell))
        found |= {entry["system"]: Cost(**entry) for entry in kept["costs"]}
    return list(found.values())


def _measured(cell: Cell) -> dict[str, Any]:
    return {"costs": [asdict(cost) for cost in measure_costs(cell)]}


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _command(parameters: dict[str, object]) -> str:
    """The command without the folders of this machine: a report is read elsewhere."""
    words = ["isoserve reproduce", "--scale", str(parameters["scale_name"])]
    for name in ("network", "only_in", "in_data", "out_data"):
        for value in cast("tuple[str, ...]", parameters[name]):
            label, separator, source = value.rpartition("=")
            words += [f"--{name.replace('_', '-')}", f"{label}{separator}{Path(source).name}"]
    for run in cast("tuple[Path, ...]", parameters["trained"]):
        words += ["--trained", run.name]
    for loss in cast("tuple[str, ...]", parameters["losses"]):
        words += ["--loss", loss]
    for study in cast("tuple[str, ...]", parameters["chosen_studies"]):
        words += ["--study", study]
    for name in ("seeds", "epochs"):
        if parameters[name] is not None:
            words += [f"--{name}", str(parameters[name])]
    words += [f"--no-{name}" for name in ("studies", "tuned", "fooling") if not parameters[name]]
    return " ".join(words)


def _silent(_: str) -> None:
    """Only the first of several processes speaks."""
