"""Fixtures for tests in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("ISOSERVE_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
EXPECTED_NOISE = "Failed to load resource"
"""Chromium's own line for every answer that is no 2xx; tests of such answers see it."""

# A module each: while Playwright runs, the thread counts as being inside an event loop, and other
# tests could not start theirs.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; the test is skipped where it or Playwright is not installed."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is missing: pip install 'isoserve[dev]'"
    )
    if CHROMIUM is None:
        pytest.skip("no 'chromium' on the path: install it, or name it in ISOSERVE_CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; fails the test if it asked another host for anything or logged an error."""
    yield from watched_page(browser)


def watched_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """The page of ``page``, with options of the browser context (viewport, colour scheme)."""
    context = browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and not message.text.startswith(EXPECTED_NOISE)
            else None
        ),
    )
    yield page
    origin = "/".join(page.url.split("/")[:3]) + "/"
    context.close()
    assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []
    assert errors == []


def violations(page: Page) -> list[str]:
    """What axe-core objects to on the page as it is now."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-core is missing: pip install 'isoserve[dev]'",
    )
    found = axe.Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {n['target']}" for v in found for n in v["nodes"]]
