"""What can go wrong on the page: bad files, and servers that are slow, busy or gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from running_server import RunningServer
from web_page import GRAY, HEADLINE, RED, TAKE, opened, png

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


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
