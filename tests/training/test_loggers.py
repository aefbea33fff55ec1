"""Curves in TensorBoard: the same numbers as in metrics.csv, as TensorBoard itself reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from lightning_fabric import Fabric
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import training_images

from isoserve.cli import cli
from isoserve.models.backbones import build_backbone
from isoserve.models.errors import InputError
from isoserve.training.loggers import make_loggers
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS, fit

SMALL = {"network": "resnet9_narrow_32", "image_size": 16, "batch_size": 32, "held_out": 0.35}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def in_table(path: Path) -> dict[str, list[tuple[int, float]]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(int(row["epoch"]), pytest.approx(float(row[name]), rel=1e-5)) for row in rows]
        for name in rows[0]
        if name != "epoch"
    }


def test_a_training_logs_each_epoch_to_tensorboard(colours: Path, tmp_path: Path) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words += ["--epochs=2", "--learning-rate=0.05", "--logger=tensorboard"]
    done = CliRunner().invoke(cli, ["train", str(colours), "--output", str(tmp_path), *words])
    assert done.exit_code == 0, done.output
    logged = curves(tmp_path / "tensorboard")
    assert {"loss", "held_out_accuracy", "learning_rate"} <= logged.keys()
    assert logged == in_table(tmp_path / "metrics.csv")


def test_a_frozen_network_logs_its_head(colours: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    torch.save(build_backbone("resnet9_narrow_32").network.state_dict(), tmp_path / "small.pth")
    given = {"weights": str(tmp_path / "small.pth"), "epochs": 3, "views": 1}
    wanted = Recipe.model_validate(
        {"recipe": "frozen", **WAYS["frozen"].defaults, **SMALL, **given}
    )
    fabric = Fabric(accelerator="cpu", devices=1, loggers=make_loggers(["tensorboard"], tmp_path))
    fabric.launch()
    fit(fabric, wanted, str(colours), training_images(colours, wanted), tmp_path)
    fabric.logger.finalize("finished")
    assert curves(tmp_path / "tensorboard") == in_table(tmp_path / "metrics.csv")


def test_a_logger_that_is_not_installed_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(InputError, match=r"not installed: pip install 'isoserve\[tensorboard\]'"):
        make_loggers(["tensorboard"], tmp_path)
    assert not list(tmp_path.iterdir())
