"""Which model the page asks, and with which token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from running_server import StartServer
from tiny_model import TinyModel, write_tiny_model
from web_page import HEADLINE, KNOWS_ITS_MODEL, RED, TAKE, opened, png

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_of_several_models_one_is_chosen(
    page: Page, start_server: StartServer, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        classes = ("red", "green", "blue") if name == "first" else ("rot", "grün", "blau")
        model = TinyModel(classes=classes, name=name)
        write_tiny_model(tmp_path / name / "1" / "model.onnx", model)
    server = start_server(tmp_path)
    opened(page, server)
    page.set_input_files(TAKE, png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
    page.select_option("#model", "second")
    page.wait_for_function("() => document.getElementById('verdict')?.textContent.includes('rot')")


def test_an_access_token_is_asked_for_where_the_server_wants_one(
    page: Page, start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "models" / "tiny" / "1" / "model.onnx", TinyModel())
    (tmp_path / "tokens").write_text("an-access-token-0123456789")
    server = start_server(tmp_path / "models", "--token-file", str(tmp_path / "tokens"))
    assert server.post("/v1/predict", content=RED).status_code == 401
    page.goto(server.url)
    page.fill("#token", "an-access-token-0123456789")
    page.get_by_role("button", name="Use it").click()
    page.wait_for_function(KNOWS_ITS_MODEL)
    page.set_input_files(TAKE, png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
