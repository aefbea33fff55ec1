"""The review queue's page: open it with the token, filter, label, undo, more than one page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import violations, watched_page
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = os.environ.get("ISOSERVE_SCREENSHOTS")
TOKEN = "review-token-0123456789"
HEADERS = {"X-Review-Token": TOKEN}
KEPT = 33


@pytest.fixture(scope="module")
def reviewed(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server whose queue holds KEPT images, nearly gray."""
    root = tmp_path_factory.mktemp("reviewed")
    write_tiny_model(root / "models" / "tiny" / "1" / "model.onnx", TinyModel())
    (root / "tokens").write_text(TOKEN)
    server = start_server(
        root / "models",
        *("--review-database", f"sqlite:///{root / 'review.db'}"),
        *("--review-token-file", str(root / "tokens"), "--review-sample", "0"),
    )
    files = [("files", (f"{i}", colour(120 + i % 6, 120, 120 + i // 6))) for i in range(KEPT)]
    server.post("/v1/predict/batch", files=files)
    server.wait_until(lambda: counts(server)["none"] == KEPT)
    return server


def counts(server: RunningServer) -> dict[str, int]:
    answer = server.get("/v1/review/images", headers=HEADERS)
    return dict(answer.json()["counts"])


def unlock(page: Page, server: RunningServer) -> None:
    page.goto(server.url + "/review")
    page.fill("#token", TOKEN)
    page.get_by_role("button", name="Open the queue").click()
    page.wait_for_selector(".item")


def test_nothing_is_shown_before_the_right_token(page: Page, reviewed: RunningServer) -> None:
    page.goto(reviewed.url + "/review")
    page.fill("#token", "a-wrong-token-0123456789")
    page.get_by_role("button", name="Open the queue").click()
    page.wait_for_function("() => document.getElementById('token').value === ''")
    assert page.locator(".item").count() == 0
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".item img")
    page.wait_for_function("() => document.querySelector('.item img').naturalWidth === 8")
    assert page.is_hidden("#token-form")


def test_images_are_labelled_and_labels_taken_back(page: Page, reviewed: RunningServer) -> None:
    unlock(page, reviewed)
    items = page.locator(".item")
    items.nth(0).get_by_label("New class of").fill("gray thing")
    items.nth(0).get_by_role("button", name="New class").click()
    items.nth(0).get_by_text("New class: gray thing").wait_for()
    items.nth(1).get_by_label("Known class of").select_option("blue")
    items.nth(1).get_by_role("button", name="Known class").click()
    items.nth(1).get_by_text("Known class: blue").wait_for()
    items.nth(2).get_by_role("button", name="Junk").click()
    items.nth(2).get_by_text("Junk", exact=True).wait_for()
    assert counts(reviewed) == {
        "none": KEPT - 3,
        "known_class": 1,
        "new_class": 1,
        "junk": 1,
    }
    page.select_option("#mark", "new_class")
    page.wait_for_function("() => document.querySelectorAll('.item').length === 1")
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("New class of").wait_for()
    page.get_by_label("New class of").fill("red")
    page.get_by_role("button", name="New class").click()
    page.wait_for_selector("#notice:not([hidden])")
    assert "is a class already" in page.inner_text("#notice")
    assert counts(reviewed)["none"] == KEPT - 2


def test_all_pages_of_the_queue_can_be_reached(page: Page, reviewed: RunningServer) -> None:
    unlock(page, reviewed)
    page.select_option("#mark", "")
    page.wait_for_function("() => document.querySelectorAll('.item').length === 30")
    page.click("#more")
    page.wait_for_function(f"() => document.querySelectorAll('.item').length === {KEPT}")
    assert page.is_hidden("#more")
    page.select_option("#rejected", "false")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#notice") == "No image here."


@pytest.fixture(params=[(360, "dark"), (1920, "light")], ids=str)
def themed(browser: Browser, request: pytest.FixtureRequest) -> Iterator[tuple[Page, str]]:
    width, scheme = request.param
    options: dict[str, Any] = {"viewport": {"width": width, "height": 900}}
    for page in watched_page(browser, color_scheme=scheme, bypass_csp=True, **options):
        yield page, f"{width}_{scheme}"


def test_the_queue_is_accessible_and_fits(
    themed: tuple[Page, str], reviewed: RunningServer
) -> None:
    page, kind = themed
    unlock(page, reviewed)
    page.wait_for_function("() => document.querySelector('.item img').naturalWidth === 8")
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"review_{kind}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
