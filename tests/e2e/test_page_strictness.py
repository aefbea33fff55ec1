"""The slider for alpha, and the panel of what came in lately."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model
from web_page import GRAY, HEADLINE, RED, TAKE, opened, p_value, png, slide_to

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_slider_turns_the_verdict_where_the_p_value_lies(
    page: Page, server: RunningServer
) -> None:
    shade, share = next(
        (image, share)
        for image in (colour(128 + step, 128 - step, 128 - step) for step in range(2, 60, 2))
        if 0.06 < (share := p_value(server, image)) < 0.49
    )
    opened(page, server)
    page.set_input_files(TAKE, png("shade.png", shade))
    page.wait_for_selector(HEADLINE)
    page.focus("#alpha")
    page.keyboard.press("Home")
    headlines: dict[float, str | None] = {}
    while (alpha := percent(page)) not in headlines:
        headlines[alpha] = page.text_content(HEADLINE)
        page.keyboard.press("ArrowRight")
    assert min(headlines) == 0.1
    assert max(headlines) == 50
    assert len(headlines) >= 100
    for alpha, headline in headlines.items():
        unknown = np.float32(share) <= np.float32(alpha / 100)
        assert headline == ("I don\u2019t know this." if unknown else "This is known: red."), alpha


def percent(page: Page) -> float:
    """The slider's alpha in percent, as a person reads it."""
    return float((page.text_content("#alpha-shown") or "").removesuffix(" %"))


def test_the_panel_shows_what_the_drift_route_says(
    page: Page, start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx", TinyModel())
    server = start_server(tmp_path)
    opened(page, server)
    page.wait_for_function(
        "() => document.getElementById('live').textContent.includes('No images yet')"
    )
    for images in range(1, 31):
        server.post("/v1/predict", content=GRAY)
        if images == 20:
            page.select_option("#window", "3600")
            page.wait_for_function("() => document.querySelector('.judgement')")
            assert "Few images yet, but they differ" in page.inner_text("#live")
    page.set_input_files(TAKE, png("red.png", RED))
    page.wait_for_function(
        "() => document.getElementById('live').textContent.includes('31 images')"
    )
    found = server.get("/v1/models/tiny/drift").json()
    assert found["rejection"]["rejected"] == 30
    text = page.inner_text("#live")
    assert re.search(r"^97 %\s+rejected of 31 images", text)
    assert "something new comes in" in text
    assert page.locator("#live svg rect").count() == 20
    assert "it would have rejected 30" in page.inner_text("#alpha-effect")
    # Of 200 calibration images none scores as low as gray: its p-value is 1 / 201.
    for alpha, rejected in (("0.4 %", 0), ("0.5 %", 30), ("5 %", 30)):
        slide_to(page, alpha)
        effect = page.inner_text("#alpha-effect")
        assert f"Of 31 recent images it would have rejected {rejected}." in effect
