"""docs/browser: a model.onnx judged in Chromium, beside the verdicts of Python."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import violations
from deploy_tools import package_of_npm
from image_bytes import colour, encode
from PIL import Image, ImageDraw, ImageFilter
from tiny_model import TinyModel, write_tiny_model
from web_page import png

import isoserve as iso
from isoserve.local_model import LocalModel

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
DEFAULT_MODEL = ROOT / "model_repository" / "cifar10" / "1" / "model.onnx"
OPEN = "() => !document.getElementById('images').disabled"


class QuietHandler(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the runtime beside it, as npm puts it, and models."""
    runtime = package_of_npm("onnxruntime-web")
    root = tmp_path_factory.mktemp("browser") / "page"
    shutil.copytree(ROOT / "docs" / "browser", root, ignore=lambda *_: ["node_modules"])
    (root / "node_modules").mkdir()
    (root / "node_modules" / "onnxruntime-web").symlink_to(runtime)
    shutil.copyfile(DEFAULT_MODEL, root / "model.onnx")
    write_tiny_model(root / "tiny.onnx", TinyModel())
    return root


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A server that does nothing but hand out the files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    server.server_close()


def ship(seed: int, width: int, height: int) -> bytes:
    """A PNG of a drawn ship: some are near enough to a photograph to be known."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (128, 128), tuple(draw.integers(120, 230, 3)))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 75, 128, 128), fill=tuple(draw.integers((10, 60, 90), (80, 120, 180))))
    x, top = draw.integers(10, 40), draw.integers(25, 45)
    hull = [(x, 70), (x + 75, 70), (x + 62, 90), (x + 12, 90)]
    pen.polygon(hull, fill=tuple(draw.integers(0, 255, 3)))
    pen.rectangle((x + 25, 50, x + 50, 70), fill=tuple(draw.integers(100, 255, 3)))
    pen.rectangle((x + 32, top, x + 40, 50), fill=tuple(draw.integers(0, 255, 3)))
    image = image.filter(ImageFilter.GaussianBlur(1.5))
    return encode("PNG", image.resize((width, height), Image.Resampling.BICUBIC))


def verdicts(model: LocalModel, images: list[bytes]) -> list[iso.Verdict]:
    """Python's."""
    return [model.predict(image) for image in images]


def five_images(model: LocalModel, width: int, height: int) -> list[bytes]:
    """Of many, those whose p-values are the furthest apart."""
    found = [ship(seed, width, height) for seed in range(60)]
    p_values = [verdict.ood.p_value for verdict in verdicts(model, found)]
    _, order = np.unique(p_values, return_index=True)
    return [found[order[place]] for place in np.linspace(0, len(order) - 1, 5).astype(int)]


def judged(page: Page, images: list[bytes]) -> list[dict[str, Any]]:
    """The page's verdicts on PNGs, in order."""
    before = page.locator("#verdicts tbody tr").count()
    page.set_input_files(
        "#images", [png(f"{place}.png", image) for place, image in enumerate(images)]
    )
    rows = page.locator("#verdicts tbody tr")
    rows.nth(before + len(images) - 1).wait_for()
    page.wait_for_function(OPEN)
    texts = [row.get_attribute("data-verdict") for row in rows.all()[before:]]
    return [json.loads(text or "") for text in texts]


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [("model.onnx", 32, 32), ("model.onnx", 100, 61), ("tiny.onnx", 5, 7), ("tiny.onnx", 19, 27)],
)
def test_five_images_are_judged_as_python_judges_them(
    page: Page, address: str, folder: Path, name: str, width: int, height: int
) -> None:
    model = iso.load(folder / name)
    images = five_images(model, width, height)
    expected = verdicts(model, images)
    assert len({verdict.ood.p_value for verdict in expected}) == 5
    page.goto(f"{address}?model={name}")
    page.wait_for_function(OPEN)
    for found, verdict in zip(judged(page, images), expected, strict=True):
        assert found["prediction"]["label"] == verdict.prediction.label
        assert found["prediction"]["probability"] == pytest.approx(
            verdict.prediction.probability, abs=1e-3
        )
        assert found["ood"]["p_value"] == pytest.approx(verdict.ood.p_value, abs=1e-3)
        assert found["ood"]["class_p_value"] == pytest.approx(verdict.ood.class_p_value, abs=2e-3)
        assert found["ood"]["is_ood"] == verdict.ood.is_ood


def test_a_model_from_the_disk_is_described_and_its_verdicts_are_shown(
    page: Page, address: str, folder: Path
) -> None:
    page.goto(address)
    page.set_input_files("#model", folder / "tiny.onnx")
    page.wait_for_function(OPEN)
    assert "tiny: tiny, 8 × 8 pixels, 3 classes; unknown where p ≤ 0.05." in page.inner_text("body")
    judged(page, [colour(255, 0, 0), colour(128, 128, 128)])
    known, unknown = (row.inner_text() for row in page.locator("#verdicts tbody tr").all())
    assert "Known" in known
    assert "red" in known
    assert "I don't know this." in unknown
    assert violations(page) == []


def test_what_is_no_model_and_what_is_no_image_is_said_in_a_line(
    page: Page, address: str, folder: Path, tmp_path: Path
) -> None:
    page.goto(address)
    whole = (folder / "tiny.onnx").read_bytes()
    bad = {
        "none.onnx": (b"\x3a\x02ab", "no 'isoserve.card' in its metadata: not an Isoserve model"),
        "half.onnx": (whole[: len(whole) - 20], "the file is no ONNX model, or not whole"),
        "text.onnx": (b"hello, I am a text", "the file is no ONNX model, or not whole"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#model", tmp_path / name)
        page.wait_for_function(f"() => document.body.innerText.includes('{name}: ')")
        assert page.inner_text("#problem") == f"{name}: {reason}"
        assert page.is_disabled("#images")
    page.set_input_files("#model", folder / "tiny.onnx")
    page.wait_for_function(OPEN)
    assert page.is_hidden("#problem")
    page.set_input_files("#images", png("no.png", b"not an image"))
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("no.png: ")


def test_without_the_runtime_the_page_says_how_to_get_it(
    page: Page, address: str, folder: Path
) -> None:
    runtime = folder / "node_modules"
    aside = runtime.rename(folder / "aside")
    try:
        page.goto(address)
        page.set_input_files("#model", folder / "tiny.onnx")
        page.wait_for_selector("#problem:not([hidden])")
        assert "npm install onnxruntime-web" in page.inner_text("#problem")
    finally:
        aside.rename(runtime)
