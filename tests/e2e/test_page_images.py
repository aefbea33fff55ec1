"""One image on the page: given by click, drop, paste or key, and shown with its verdict."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from image_bytes import colour
from running_server import RunningServer
from web_page import GRAY, HEADLINE, RED, TAKE, opened, p_value, png

if TYPE_CHECKING:
    from playwright.sync_api import Page


def data_transfer(page: Page, name: str, content: bytes) -> object:
    return page.evaluate_handle(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode()],
    )


def test_a_chosen_image_gets_its_class_and_its_rank_among_known_images(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose images").click()
    chooser.value.set_files(png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
    rank = round(100 * p_value(server, RED))
    assert f"{rank} % of known images score this low" in page.inner_text("#one")
    labels = page.locator(".bars .label").all_inner_texts()
    assert labels[0] == "red"
    assert sorted(labels) == ["blue", "green", "red"]
    seen = page.locator("img.seen").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert seen == [8, 8]


def test_an_image_like_nothing_known_is_not_known_and_the_words_say_how_rare_it_is(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.set_input_files(TAKE, png("gray.png", GRAY))
    assert page.text_content(HEADLINE) == "I don\u2019t know this."
    words = page.inner_text(".verdict-part")
    assert "This looks like nothing the model was trained on" in words
    share = p_value(server, GRAY)
    assert share < 1.5 / 201
    assert "not one of the 200 known images" in words


def test_a_dropped_image_is_judged(page: Page, server: RunningServer) -> None:
    opened(page, server)
    transfer = data_transfer(page, "dropped.png", colour(0, 0, 255))
    page.dispatch_event("footer", "dragenter", {"dataTransfer": transfer})
    assert "dragging" in (page.get_attribute("body", "class") or "")
    page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    assert page.text_content(HEADLINE) == "This is known: blue."
    assert "dragging" not in (page.get_attribute("body", "class") or "")


def test_a_pasted_image_is_judged(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))",
        data_transfer(page, "image.png", colour(0, 255, 0)),
    )
    assert page.text_content(HEADLINE) == "This is known: green."


def test_the_keyboard_alone_reaches_everything(page: Page, server: RunningServer) -> None:
    opened(page, server)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.className")
        reached.append(name)
        if name == "sample":
            break
    assert reached[0] == "skip"
    assert "choose" in reached
    page.keyboard.press("Enter")
    page.wait_for_selector(HEADLINE)
    page.focus("#alpha")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#alpha-shown") == "5.5 %"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#alpha-shown") == "4.9 %"
    assert page.get_attribute("#alpha", "aria-valuetext") == "4.9 %"
    page.focus("#distances summary")
    page.keyboard.press("Enter")
    assert page.locator("#distances tbody tr").count() == 3


def test_a_screen_reader_is_told_the_verdict(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.set_input_files(TAKE, png("red.png", RED))
    page.wait_for_function(
        "() => document.getElementById('status').textContent.includes('known: red')"
    )
    assert page.get_attribute("#status", "role") == "status"


def test_every_sample_is_judged(page: Page, server: RunningServer) -> None:
    opened(page, server)
    samples = page.locator(".sample")
    assert samples.count() >= 6
    for place in range(samples.count()):
        name = samples.nth(place).inner_text().strip().replace(" ", "-")
        samples.nth(place).click()
        page.wait_for_selector(f"img[alt='{name}.png, as the model saw it']")


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>.png", "a" * 200 + ".png"])
def test_a_wild_file_name_is_text_and_breaks_no_layout(
    page: Page, server: RunningServer, name: str
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    opened(page, server)
    page.set_input_files(TAKE, png(name, RED))
    page.wait_for_selector(HEADLINE)
    assert page.text_content("figcaption.name") == name
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_copied_requests_run_and_give_the_same_verdict(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    name = "it's red.png"
    (tmp_path / name).write_bytes(RED)
    opened(page, server)
    page.set_input_files(TAKE, png(name, RED))
    page.click("#request summary")
    curl, python = page.locator("#request pre").all_inner_texts()
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split()[:2] == ["red", "False"], done.stderr
    if shutil.which("curl"):
        done = subprocess.run(
            ["bash", "-c", curl], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert '"label":"red"' in done.stdout
