"""The page at ``/`` in a real browser, against a real server."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from conftest import RunningServer, StartServer, colour, encoded
from tiny_model import TinyModel, write_tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

RED, GRAY = colour(255, 0, 0, 40), colour(128, 128, 128, 40)
TAKE = "#choose"
HEADLINE = "#verdict"
KNOWS_ITS_MODEL = "() => document.getElementById('model-facts').textContent.includes('version')"


def png(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def opened(page: Page, server: RunningServer) -> Page:
    """The page, once it knows its model."""
    page.goto(server.url)
    page.wait_for_function(KNOWS_ITS_MODEL)
    return page


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


def p_value(server: RunningServer, content: bytes) -> float:
    return float(server.post("/v1/predict", content=content).json()["ood"]["p_value"])


def test_a_chosen_image_gets_its_class_and_its_rank_among_genuine_images(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose images").click()
    chooser.value.set_files(png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
    rank = round(100 * p_value(server, RED))
    assert f"{rank} % of genuine images score this low" in page.inner_text("#one")
    labels = page.locator(".bars .label").all_inner_texts()
    assert labels[0] == "red"
    assert sorted(labels) == ["blue", "green", "red"]
    seen = page.locator("img.seen").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert seen == [8, 8]


def test_an_image_like_nothing_genuine_is_not_known_and_the_words_say_how_rare_it_is(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.set_input_files(TAKE, png("gray.png", GRAY))
    assert page.text_content(HEADLINE) == "I don\u2019t know this."
    words = page.inner_text(".verdict-part")
    assert "This looks like nothing the model was trained on" in words
    share = p_value(server, GRAY)
    assert share < 1.5 / 201
    assert "not one of the 200 genuine images" in words


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
    assert page.get_attribute("#alpha", "aria-valuetext") == "5.5 %"
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


def test_a_file_that_is_no_image_is_answered_in_words_and_the_next_one_is_judged(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.set_input_files(TAKE, png("notes.png", b"not an image"))
    notice = page.wait_for_selector("#notice:not([hidden])")
    assert notice is not None
    text = notice.inner_text()
    assert "notes.png cannot be judged" in text
    assert "JPEG" in text
    assert page.is_hidden("#one")
    page.set_input_files(TAKE, png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
    assert page.is_hidden("#notice")


def test_a_slow_server_is_waited_for_and_can_be_given_up(page: Page, server: RunningServer) -> None:
    held: list[Route] = []
    page.route("**/v1/predict?*", lambda route: held.append(route))
    opened(page, server)
    page.set_input_files(TAKE, png("red.png", RED))
    page.wait_for_selector("#progress:not([hidden])")
    assert "Waiting for the server" in page.inner_text("#progress")
    held[0].continue_()
    assert page.text_content(HEADLINE) == "This is known: red."
    page.wait_for_selector("#progress", state="hidden")
    page.set_input_files(TAKE, png("gray.png", GRAY))
    page.click("#cancel")
    page.wait_for_selector("#progress", state="hidden")
    assert page.is_hidden("#one")
    assert page.is_hidden("#notice")


def test_a_server_that_does_not_answer_can_be_tried_again(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.route("**/v1/predict?*", lambda route: route.abort())
    page.set_input_files(TAKE, png("red.png", RED))
    page.wait_for_selector("#notice:not([hidden])")
    assert "does not answer" in page.inner_text("#notice")
    page.unroute("**/v1/predict?*")
    page.get_by_role("button", name="Try again").click()
    assert page.text_content(HEADLINE) == "This is known: red."


def test_a_busy_server_is_asked_again_when_it_says(page: Page, server: RunningServer) -> None:
    times: list[float] = []

    def busy_once(route: Route) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            route.fulfill(
                status=429,
                headers={"Retry-After": "1", "Content-Type": "application/problem+json"},
                body='{"status": 429, "reason": "queue_full", "detail": "too many requests"}',
            )
        else:
            route.continue_()

    page.route("**/v1/predict?*", busy_once)
    opened(page, server)
    page.set_input_files(TAKE, png("red.png", RED))
    assert page.text_content(HEADLINE) == "This is known: red."
    assert len(times) == 2
    assert times[1] - times[0] >= 0.9


def test_fifty_images_become_a_grid_with_the_least_known_first(
    page: Page, server: RunningServer
) -> None:
    rng = np.random.default_rng(1)
    contents = [
        encoded((rng.random(3) * rng.integers(60, 256, (12, 12, 1))).astype(np.uint8))
        for _ in range(49)
    ]
    files = [png(f"{i:02}.png", content) for i, content in enumerate(contents)]
    answer = httpx.post(
        server.url + "/v1/predict/batch", files=[("files", ("i", c)) for c in contents], timeout=30
    ).json()["results"]
    by_p = sorted((result["ood"]["p_value"], place) for place, result in enumerate(answer))
    opened(page, server)
    page.set_input_files(TAKE, [*files, png("broken.png", b"nothing")])
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 49")
    shown = [int(name[:2]) for name in page.locator(".tile .name").all_inner_texts()]
    ranks = {place: p for p, place in by_p}
    assert sorted(shown) == list(range(49))
    assert [ranks[place] for place in shown] == [p for p, _ in by_p]
    assert page.text_content("#many-heading") == "50 images"
    assert "broken.png cannot be judged" in page.inner_text(".refused")

    unknown = sum(p <= 0.05 for p, _ in by_p)
    assert f"{49 - unknown} known, {unknown} unknown, 1 not judged" in page.inner_text("#many")
    page.evaluate(
        """() => {
            const alpha = document.getElementById("alpha");
            alpha.value = "0.3";
            alpha.dispatchEvent(new Event("input"));
        }"""
    )
    stricter = sum(p <= 0.3 for p, _ in by_p)
    assert stricter > unknown
    assert page.locator(".tile.unknown").count() == stricter
    assert f"Of your 49 images, {stricter} would be rejected" in page.inner_text("#alpha-effect")
    page.click("#alpha-reset")
    assert page.locator(".tile.unknown").count() == unknown


def test_a_tile_opens_its_image_and_the_way_back_returns_to_it(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.set_input_files(TAKE, [png("red.png", RED), png("gray.png", GRAY)])
    page.locator(".tile", has_text="red.png").click()
    assert page.text_content(HEADLINE) == "This is known: red."
    assert page.evaluate("document.activeElement.id") == "verdict"
    page.get_by_role("button", name="All images").click()
    assert page.is_hidden("#one")
    assert "red.png" in page.evaluate("document.activeElement.textContent")


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
    assert page.text_content(HEADLINE) == "This is known: red."
    for alpha, words in (
        (np.ceil(share * 200) / 200, "I don\u2019t know this."),
        (np.floor(share * 200 - 1e-6) / 200, "This is known: red."),
    ):
        page.evaluate(
            """(value) => {
                const alpha = document.getElementById("alpha");
                alpha.value = value;
                alpha.dispatchEvent(new Event("input"));
            }""",
            str(alpha),
        )
        assert page.text_content(HEADLINE) == words


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


def test_the_panel_shows_what_the_drift_route_says(
    page: Page, start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx", TinyModel())
    server = start_server(tmp_path)
    opened(page, server)
    assert "No images yet" in page.inner_text("#live")
    for _ in range(30):
        server.post("/v1/predict", content=GRAY)
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


def test_a_folder_that_is_dropped_is_answered_in_words(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.evaluate(
        """() => { File.prototype.slice = () => ({
            arrayBuffer: () => Promise.reject(new DOMException("", "NotFoundError")),
        }); }"""
    )
    page.set_input_files(TAKE, png("folder", b""))
    page.wait_for_selector("#notice:not([hidden])")
    assert "cannot be read" in page.inner_text("#notice")


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
