"""Recipes of the compared systems: ACET's noise, IsoMax's E_s, IsoMax2's scales and tilts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from isoserve.training.baselines.frozen_network import TrainedNetwork
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.optimizers import make_optimizer
from isoserve.training.recipe import Recipe
from isoserve.training.trainer import fit

RNG = np.random.default_rng(8)


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Two classes of 8x8 images: bright left halves and bright right halves."""
    torch.set_num_threads(1)
    labels = np.arange(200) % 2
    pixels = RNG.integers(0, 80, (200, 8, 8, 3), dtype=np.uint8)
    for index, label in enumerate(labels):
        pixels[index, :, 4 * label : 4 * label + 4] += 150
    return LabelledImages("halves", pixels, labels, ("left", "right"))


def train(images: LabelledImages, output: Path, **settings: object) -> Checkpoint:
    recipe = Recipe(
        network="resnet9_narrow_32", batch_size=35, flip=False, learning_rate=0.02, **settings
    )
    return fit(Fabric(accelerator="cpu", devices=1), recipe, "made", images, output)


def log_confidence_on_noise(checkpoint: Checkpoint) -> float:
    network = TrainedNetwork(checkpoint)
    noise = RNG.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = network.score(lambda x: network.classifier(x).cold_logits, noise)
    return float(torch.from_numpy(logits).log_softmax(dim=1).amax(dim=1).mean())


def test_acet_lowers_the_confidence_on_noise_and_keeps_the_classes(images, tmp_path) -> None:
    plain = train(images, tmp_path / "plain", loss="softmax", epochs=3)
    acet = train(images, tmp_path / "acet", loss="softmax", epochs=3, acet_steps=2)
    assert log_confidence_on_noise(acet) < log_confidence_on_noise(plain) - 0.1
    assert acet.history[-1]["held_out_accuracy"] > 0.9


def test_acet_gives_the_same_weights_twice(images, tmp_path) -> None:
    whole = train(images, tmp_path / "whole", loss="softmax", epochs=2, acet_steps=1)
    half = train(images, tmp_path / "half", loss="softmax", epochs=2, acet_steps=1)
    assert all(torch.equal(whole.weights[name], half.weights[name]) for name in whole.weights)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_entropic_scale_reaches_the_head_and_comes_back(images, tmp_path, scale) -> None:
    train(images, tmp_path, loss="isomax", epochs=1, entropic_scale=scale)
    classifier = Checkpoint.load(tmp_path).classifier()
    logits = classifier(torch.rand(2, 3, 8, 8))
    assert torch.allclose(logits.cold_logits, scale * logits.score_logits)


def test_scales_and_tilts_follow_their_own_rate_and_decay() -> None:
    recipe = Recipe(loss="isomax2", learning_rate=0.2)
    _, own = make_optimizer(recipe.fresh_classifier(3), recipe).param_groups
    assert (own["lr"], own["weight_decay"]) == (pytest.approx(0.02), 0.0)
    other = recipe.model_copy(update={"scale_learning_rate": 1.0, "scale_weight_decay": 1e-4})
    _, own = make_optimizer(other.fresh_classifier(3), other).param_groups
    assert (own["lr"], own["weight_decay"]) == (0.2, 1e-4)
    assert [tuple(parameter.shape) for parameter in own["params"]] == [(3,), (3,)]


def test_a_run_from_before_a_setting_existed_can_be_resumed(images, tmp_path) -> None:
    done = train(images, tmp_path, loss="softmax", epochs=1)
    older = {key: value for key, value in done.recipe.items() if key != "acet_steps"}
    Checkpoint(**{**done.__dict__, "recipe": older}).save(tmp_path)
    assert train(images, tmp_path, loss="softmax", epochs=1).epoch == 1


@pytest.mark.parametrize("loss", ["isomax", "isomax+"])
def test_both_losses_with_an_entropic_scale_have_the_recipes(loss) -> None:
    assert Recipe(loss=loss, entropic_scale=3).fresh_classifier(3).head.entropic_scale == 3


@pytest.mark.parametrize("loss", ["isomax", "isomax2"])
def test_prototypes_start_at_zero_or_at_random_and_learn_from_both(images, tmp_path, loss) -> None:
    assert not Recipe(loss=loss).fresh_classifier(3).head.prototypes.any()
    normal = Recipe(loss=loss, prototype_start="normal").fresh_classifier(3)
    assert normal.head.prototypes.std().item() == pytest.approx(1, abs=0.1)
    done = train(images, tmp_path, loss=loss, epochs=3, prototype_start="normal")
    assert done.history[-1]["held_out_accuracy"] > 0.9
