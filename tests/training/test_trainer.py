"""Training: the papers' optimiser, the same weights twice, after a kill, and over two processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from numpy.typing import NDArray
from training_run import train_here, training_images

from isoserve.models.classifier import build_classifier
from isoserve.models.errors import InputError
from isoserve.training.batches import channel_statistics
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.data import LabelledImages, split
from isoserve.training.optimizers import make_optimizer
from isoserve.training.recipe import Recipe
from isoserve.training.trainer import fit


def _command(folder: Path, recipe: Recipe, output: Path) -> list[str]:
    flags = ["train", str(folder), "--output", str(output), "--accelerator", "cpu"]
    for name, value in recipe.model_dump(exclude_defaults=True).items():
        flags += ["--" + name.replace("_", "-"), str(value)]
    return flags


def _run(*command: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *command], env=environment)


@pytest.fixture(scope="module")
def uninterrupted(
    colours: Path, quick: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    torch.set_num_threads(1)
    return train_here(colours, quick, tmp_path_factory.mktemp("uninterrupted"))


def test_it_learns_and_keeps_the_tilts_sum(uninterrupted: Checkpoint) -> None:
    first, last = uninterrupted.history[0], uninterrupted.history[-1]
    assert last["loss"] < first["loss"]
    assert last["held_out_accuracy"] > 0.8
    tilts = uninterrupted.weights["head.tilts"]
    assert tilts.abs().max() > 0
    assert tilts.sum().item() == pytest.approx(0.0, abs=1e-5)


def test_two_runs_with_one_seed_give_the_same_weights(
    colours: Path, quick: Recipe, uninterrupted: Checkpoint, tmp_path: Path
) -> None:
    again = train_here(colours, quick, tmp_path)
    _assert_same_weights(again, uninterrupted)
    other = train_here(
        colours, quick.model_copy(update={"seed": 4, "epochs": 1}), tmp_path / "other"
    )
    assert not torch.equal(
        other.weights["head.prototypes"], uninterrupted.weights["head.prototypes"]
    )


def test_a_killed_run_goes_on_to_the_same_weights(
    colours: Path, quick: Recipe, uninterrupted: Checkpoint, tmp_path: Path
) -> None:
    command = _command(colours, quick, tmp_path)
    process = _run("isoserve", *command)
    deadline = time.monotonic() + 120
    while not (tmp_path / FILE_NAME).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Checkpoint.load(tmp_path).epoch < quick.epochs
    resumed = _run("isoserve", *command, "--resume")
    assert resumed.wait(timeout=240) == 0
    _assert_same_weights(Checkpoint.load(tmp_path), uninterrupted)
    assert (tmp_path / "model.onnx").exists()


def test_a_resumed_optimizer_is_loaded_to_where_the_weights_are(
    colours: Path, quick: Recipe, uninterrupted: Checkpoint, tmp_path: Path
) -> None:
    """Momenta loaded before the weights move to an accelerator stay behind on the CPU."""

    class Recorded(Fabric):
        def setup(self, module: Any, *optimizers: Any, **options: Any) -> Any:
            assert not optimizers[0].state
            return super().setup(module, *optimizers, **options)

    replace(uninterrupted, history=uninterrupted.history[:1]).save(tmp_path)
    fabric = Recorded(accelerator="cpu", devices=1)
    resumed = fit(fabric, quick, str(colours), training_images(colours, quick), tmp_path)
    assert resumed.epoch == quick.epochs
    steps = [state["momentum_buffer"] for state in resumed.optimizer["state"].values()]
    assert len(steps) == len(list(uninterrupted.classifier().parameters()))


def test_two_processes_train_one_network(colours: Path, quick: Recipe, tmp_path: Path) -> None:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = _command(colours, quick, tmp_path)
    process = _run(*launcher, "-m", "isoserve", *command, "--devices", "2")
    assert process.wait(timeout=240) == 0
    checkpoint = Checkpoint.load(tmp_path)
    assert checkpoint.epoch == quick.epochs
    assert checkpoint.history[-1]["held_out_accuracy"] > 0.8
    assert (tmp_path / "model.onnx").exists()


def test_scales_and_tilts_have_their_own_group() -> None:
    classifier = build_classifier("densenet22_32", "isomax2", 3)
    rest, own = make_optimizer(classifier, Recipe()).param_groups
    assert [id(p) for p in own["params"]] == [
        id(classifier.head.scales),
        id(classifier.head.tilts),
    ]
    assert (own["lr"], own["weight_decay"]) == (pytest.approx(0.01), 0.0)
    assert (rest["lr"], rest["weight_decay"]) == (0.1, 1e-4)
    assert any(p is classifier.head.prototypes for p in rest["params"])
    assert len(rest["params"]) + 2 == len(list(classifier.parameters()))


def test_the_step_schedule_keeps_the_papers_milestones() -> None:
    recipe = Recipe(epochs=300)
    rates = [recipe.learning_rate_factor(epoch / 300) for epoch in (0, 149, 150, 200, 250, 299)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.001, 0.001])


def test_one_cycle_rises_to_its_peak_and_falls_to_zero() -> None:
    factor = Recipe(schedule="one-cycle").learning_rate_factor
    assert factor(0.2) == pytest.approx(1.0)
    assert 0 < factor(0.0) < factor(0.1) < factor(0.2) > factor(0.6) > factor(0.999) > 0


def test_resuming_with_other_settings_or_images_is_refused(
    colours: Path, quick: Recipe, uninterrupted: Checkpoint, tmp_path: Path
) -> None:
    uninterrupted.save(tmp_path)
    with pytest.raises(InputError, match=r"has learning_rate 0\.05, not 0\.2"):
        train_here(colours, quick.model_copy(update={"learning_rate": 0.2}), tmp_path)
    replace(uninterrupted, data_digest="0" * 64).save(tmp_path)
    with pytest.raises(InputError, match="trained on other images"):
        train_here(colours, quick, tmp_path)


def test_a_recipe_of_a_later_version_is_named(uninterrupted: Checkpoint, tmp_path: Path) -> None:
    recipe = uninterrupted.recipe | {"mixup": 0.2}
    replace(uninterrupted, recipe=recipe).save(tmp_path)
    with pytest.raises(InputError, match="this version does not know: mixup: Extra inputs"):
        Checkpoint.load(tmp_path)


def test_enough_is_held_out_of_many_small_classes() -> None:
    """A class's share of 59 is rounded to 5 of 20 images, and 11 times 5 are too few."""
    images = _blank(np.repeat(np.arange(11), 20))
    training, held_out = split(images, Recipe())
    assert len(held_out) >= 59
    assert len(training) + len(held_out) == 220
    assert set(training.labels) == set(held_out.labels) == set(range(11))
    with pytest.raises(InputError, match="200 images of 200 classes are too few"):
        split(_blank(np.arange(200)), Recipe())


def _blank(labels: NDArray[np.int64]) -> LabelledImages:
    classes = tuple(str(label) for label in range(labels.max() + 1))
    return LabelledImages("blank", np.zeros((len(labels), 8, 8, 3), np.uint8), labels, classes)


def test_a_diverged_training_stops_with_the_reason(
    colours: Path, quick: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="training diverged; try a learning rate below 1e"):
        train_here(colours, quick.model_copy(update={"learning_rate": 1e30}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_bfloat16_trains_too(colours: Path, quick: Recipe, tmp_path: Path) -> None:
    recipe = quick.model_copy(update={"precision": "bf16-mixed"})
    checkpoint = train_here(colours, recipe, tmp_path)
    assert all(weight.dtype != torch.bfloat16 for weight in checkpoint.weights.values())
    assert checkpoint.history[-1]["held_out_accuracy"] > 0.6


def test_half_precision_goes_on_with_its_loss_scale(
    colours: Path, quick: Recipe, tmp_path: Path
) -> None:
    recipe = quick.model_copy(update={"precision": "16-mixed", "epochs": 1})
    images = training_images(colours, recipe)
    scales = []
    for _ in ("fresh", "resumed"):
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)
        fabric = Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu", scaler))
        fit(fabric, recipe, "colours", images, tmp_path)
        scales.append(scaler.get_scale())
    assert scales[0] == scales[1] > 16.0


def test_a_checkpoint_carries_no_code(tmp_path: Path) -> None:
    torch.save({"recipe": Path}, tmp_path / FILE_NAME)
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        Checkpoint.load(tmp_path)
    for content in (b"", b"hello\n", b"}q", bytes(range(256)), b"PK\x03\x04 half a file"):
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(InputError, match="damaged or not a checkpoint of this program"):
            Checkpoint.load(tmp_path)
    with pytest.raises(InputError, match=r"no checkpoint\.pt in"):
        Checkpoint.load(tmp_path / "elsewhere")


def test_channel_statistics(colours: Path, quick: Recipe) -> None:
    pixels = training_images(colours, quick).pixels
    mean, std = channel_statistics(pixels)
    assert mean == pytest.approx((pixels / 255).mean(axis=(0, 1, 2)), abs=1e-4)
    assert std == pytest.approx((pixels / 255).std(axis=(0, 1, 2)), abs=1e-4)


def _assert_same_weights(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        assert torch.equal(found.weights[name], weight), name
