"""The page over the embedded models, as a newcomer opens it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from running_server import StartServer
from web_page import HEADLINE, KNOWS_ITS_MODEL

if TYPE_CHECKING:
    from playwright.sync_api import Page

MODELS = Path(__file__).parents[2] / "model_repository"
CLOTHES = {"T-shirt": "t-shirt", "pants": "pants", "dress": "dress"}


def test_the_clothes_it_draws_are_known_and_all_else_is_not(
    page: Page, start_server: StartServer
) -> None:
    server = start_server(MODELS)
    page.goto(server.url)
    page.wait_for_function(KNOWS_ITS_MODEL)
    samples = page.locator(".sample")
    for place in range(samples.count()):
        name = samples.nth(place).inner_text().strip()
        samples.nth(place).click()
        page.wait_for_selector(f"img[alt='{name.replace(' ', '-')}.png, as the model saw it']")
        label = CLOTHES.get(name)
        known = "I don’t know this." if label is None else f"This is known: {label}."
        assert page.text_content(HEADLINE) == known, name
