"""The page at ``/`` as its tests use it: opening it, and giving it images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from image_bytes import colour
from running_server import RunningServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

RED, GRAY = colour(255, 0, 0, 40), colour(128, 128, 128, 40)
"""An image of a class of the tiny model, and one of none."""

TAKE = "#choose"
HEADLINE = "#verdict"
KNOWS_ITS_MODEL = "() => document.getElementById('model-facts').textContent.includes('version')"


def png(name: str, content: bytes) -> dict[str, object]:
    """A file for an input element."""
    return {"name": name, "mimeType": "image/png", "buffer": content}


def opened(page: Page, server: RunningServer) -> Page:
    """The page, once it knows its model."""
    page.goto(server.url)
    page.wait_for_function(KNOWS_ITS_MODEL)
    return page


def p_value(server: RunningServer, content: bytes) -> float:
    """The server's, of an image sent without the page."""
    return float(server.post("/v1/predict", content=content).json()["ood"]["p_value"])


def slide_to(page: Page, shown: str) -> None:
    """Move the slider to the stop that the page calls so, such as "30 %"."""
    found = page.evaluate(
        """(shown) => {
            const alpha = document.getElementById("alpha");
            for (let stop = Number(alpha.min); stop <= Number(alpha.max); stop += 1) {
                alpha.value = stop;
                alpha.dispatchEvent(new Event("input"));
                if (document.getElementById("alpha-shown").textContent === shown) return true;
            }
            return false;
        }""",
        shown,
    )
    assert found, f"the slider has no stop at {shown}"
