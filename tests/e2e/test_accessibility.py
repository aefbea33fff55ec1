"""axe-core finds nothing, and nothing overflows, at both widths and in both themes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import violations, watched_page
from image_bytes import colour
from running_server import RunningServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = os.environ.get("ISOSERVE_SCREENSHOTS")
"""A folder to write the pictures to, for a person to look at: overlaps pass assertions."""

SIZES = {360: 740, 1920: 1080}


@pytest.fixture(params=[(w, s) for w in SIZES for s in ("light", "dark")], ids=str)
def themed(browser: Browser, request: pytest.FixtureRequest) -> Iterator[tuple[Page, str]]:
    width, scheme = request.param
    options: dict[str, Any] = {
        "viewport": {"width": width, "height": SIZES[width]},
        "color_scheme": scheme,
        "bypass_csp": True,  # axe-core is injected; the policy has its own tests
    }
    for page in watched_page(browser, **options):
        yield page, f"{width}_{scheme}"


def check(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def png(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def test_the_page_is_clean_before_during_and_after(
    themed: tuple[Page, str], server: RunningServer
) -> None:
    page, kind = themed
    page.goto(server.url)
    page.wait_for_function(
        "() => document.getElementById('model-facts').textContent.includes('version')"
    )
    check(page, f"start_{kind}")
    page.set_input_files("#choose", png("red.png", colour(255, 0, 0)))
    page.wait_for_selector("#verdict")
    for block in ("#distances", "#request"):
        page.click(f"{block} summary")
    page.wait_for_function("() => document.querySelector('#live figure')")
    check(page, f"known_{kind}")
    page.set_input_files("#choose", png("gray.png", colour(128, 128, 128)))
    page.wait_for_selector(".verdict-part.unknown")
    check(page, f"unknown_{kind}")
    images = [
        png(f"{i}.png", colour(*rgb))
        for i, rgb in enumerate([(200, 0, 0), (128, 128, 128), (0, 90, 200), (30, 200, 40)])
    ]
    page.set_input_files("#choose", [*images, png("notes.txt", b"words")])
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 4")
    check(page, f"many_{kind}")
    page.set_input_files("#choose", png("notes.txt", b"words"))
    page.wait_for_selector("#notice:not([hidden])")
    check(page, f"bad_file_{kind}")
