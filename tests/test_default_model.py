"""The embedded model is what its page says, and as good as the project asks."""

import runpy
from pathlib import Path

import pytest

from isoserve.service.inference.model import load_model, read_model_bytes

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "model_repository" / "cifar10" / "1" / "model.onnx"


def test_the_page_is_the_card() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "default_model_page.py"))
    assert (ROOT / "docs" / "default-model.md").read_text() == page["default_model_page"]()


def test_the_model_is_small_and_good_enough() -> None:
    content = read_model_bytes(MODEL, 12_000_000)
    card = load_model("cifar10", 1, content, 1, 1).card
    test = next(part for part in card.held_out if part.split == "test")
    assert test.n == 10_000
    assert test.accuracy >= 0.93
    assert 0.04 <= test.rejected <= 0.06
    rows = {row.out_distribution: row for row in card.evaluation}
    near = [rows[name].auroc for name in ("tinyimagenet", "cifar100")]
    assert sum(near) / len(near) >= 0.90
    far = [rows[name] for name in ("svhn", "scenes", "textures", "eurosat", "mnist", "notmnist")]
    assert sum(row.auroc for row in far) / len(far) >= 0.95
    assert sum(row.rejected for row in far) / len(far) >= 0.75
    assert min(rows["uniform"].rejected, rows["gaussian"].rejected) >= 0.95
    assert card.score == "combined"
    assert card.calibration.n == 4000  # a fifth of 5,000 scaled the views


@pytest.mark.parametrize("name", ["cifar10", "clothes"])
def test_the_cards_name_no_folder_of_the_machine_they_were_made_on(name: str) -> None:
    content = read_model_bytes(ROOT / "model_repository" / name / "1" / "model.onnx", 2**24)
    card = load_model(name, 1, content, 1, 1).card
    assert card.command.startswith("isoserve ")
    assert not any(word.startswith("/") for word in card.command.split())
