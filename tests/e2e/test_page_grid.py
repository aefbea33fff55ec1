"""Several images on the page at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import numpy as np
from image_bytes import encode
from running_server import RunningServer
from web_page import GRAY, HEADLINE, RED, TAKE, opened, png, slide_to

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_fifty_images_become_a_grid_with_the_least_known_first(
    page: Page, server: RunningServer
) -> None:
    rng = np.random.default_rng(1)
    contents = [
        encode("PNG", (rng.random(3) * rng.integers(60, 256, (12, 12, 1))).astype(np.uint8))
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
    slide_to(page, "30 %")
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
