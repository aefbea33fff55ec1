"""``isoserve card``: one HTML file, whole in itself, with what the numbers say."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_model import TinyModel, tiny_card, write_tiny_model

from isoserve.commands.card import card, page
from isoserve.models.errors import InputError

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("card") / "model.onnx", TinyModel(classes=CLASSES)
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for channel, name in ((0, "blue"), (1, "green"), (2, "red")):
        (root / "test" / name).mkdir(parents=True)
        for place in range(20):
            pixels = rng.integers(0, 60, (8, 8, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(root / "test" / name / f"{place}.png")
    return root


class References(HTMLParser):
    """Everything a browser would load or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [str(given[name]) for name in ("src", "href", "action") if name in given]
        if tag == "img":
            self.alts.append(given.get("alt") or "")


def written(*arguments: object) -> str:
    CliRunner().invoke(card, [str(each) for each in arguments], catch_exceptions=False)
    return Path(str(arguments[arguments.index("--output") + 1])).read_text()


def titles(text: str) -> list[str]:
    return re.findall(r"<figure><h2>(.+?)</h2>", text)


def test_the_card_alone_makes_a_page_that_loads_nothing(model: Path, tmp_path: Path) -> None:
    text = written(model, "--output", tmp_path / "new" / "card.html")
    references = References(text)
    assert len(references.found) == 2
    assert all(each.startswith("data:image/svg+xml;base64,") for each in references.found)
    assert all(references.alts)
    for each in references.found:
        svg = ElementTree.fromstring(base64.b64decode(each.partition(",")[2]))
        assert svg.tag.endswith("svg")
    assert "<script" not in text
    assert titles(text) == ["Scores at calibration", "Calibration by class"]


def test_with_images_the_page_has_every_figure_and_their_numbers(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    arguments = ("--data", photos, "--ood", "uniform", "--ood", "gaussian", "--limit", 40)
    text = written(model, "--output", tmp_path / "card.html", *arguments)
    assert titles(text)[2:] == [
        "Scores of test images and of anything else",
        "Telling them apart (ROC)",
        "p-values of the test images",
        "Rejection by class",
        "Reliability",
        "Confusion matrix",
        "The worst images",
    ]
    cells = re.findall(r"<t[hd][^>]*>([^<]+)</t[hd]>", text)
    assert cells[cells.index("test") + 1 :][:2] == ["60", "1.0000"]
    assert cells[cells.index("uniform") + 1] == "40"
    assert written(model, "--output", tmp_path / "again.html", *arguments) == text


def test_class_names_of_any_script_are_words_in_the_figures(tmp_path: Path) -> None:
    classes = ("Käfer", "蛙", "птица")
    model = write_tiny_model(tmp_path / "model.onnx", TinyModel(classes=classes))
    text = written(model, "--output", tmp_path / "card.html")
    figures = [base64.b64decode(each.partition(",")[2]).decode() for each in References(text).found]
    assert any(all(name in figure for name in classes) for figure in figures)


def test_names_from_the_card_cannot_become_markup() -> None:
    hostile = "<img src=http://evil/>&\"'"
    evil = tiny_card().model_copy(update={"classes": [hostile, "b", "c"], "licence": "</pre><b>"})
    text = page(evil, "0" * 64, [])
    assert References(text).found == []
    assert "&lt;img src=http://evil/&gt;" in text
    assert "</pre><b>" not in text


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.onnx", TinyModel(classes=("a", "b")))
    output = tmp_path / "card.html"
    for arguments, words in (
        ((model, "--ood", "uniform"), "--ood needs --data"),
        ((model, "--data", tmp_path / "none"), "none"),
        ((other, "--data", photos), "the model was trained on a, b"),
        ((photos / "model.onnx",), "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            written(*arguments, "--output", output)
    assert not output.exists()
