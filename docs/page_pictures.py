"""Takes the documents' pictures of the page: python docs/page_pictures.py

Serves the embedded models and opens their page in headless Chromium, as the tests do. Each picture
carries the digest of what the page is made of, by which a test sees that it is of today's page.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import CHROMIUM, FLAGS  # noqa: E402
from web_page import HEADLINE, KNOWS_ITS_MODEL  # noqa: E402

PICTURES = Path(__file__).with_name("pictures")
WEB = ROOT / "service" / "web"
SAMPLES = {"known": "dress", "unknown": "car on a road"}
VIEW = {"width": 1200, "height": 1130}


def main() -> None:
    command = [sys.executable, "-m", "isoserve", "serve", "model_repository", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "listening on" in line)
            take(line.split("listening on ")[1].split()[0])
        finally:
            server.terminate()


def take(url: str) -> None:
    """A picture a sample, each on a fresh page, so that the last one shows both as recent."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, sample in SAMPLES.items():
            page = browser.new_page(viewport=VIEW, color_scheme="light")
            page.goto(url)
            page.wait_for_function(KNOWS_ITS_MODEL)
            page.locator(".sample", has_text=sample).click()
            page.wait_for_selector(HEADLINE)
            page.wait_for_timeout(1000)  # the panel of recent images asks once more
            page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
            page.mouse.move(0, 0)
            save(page.screenshot(), PICTURES / f"page_{name}.png")
        browser.close()


def save(content: bytes, path: Path) -> None:
    """Write the picture with its source's digest."""
    stamp = PngInfo()
    stamp.add_text("Source", source_digest())
    Image.open(BytesIO(content)).convert("RGB").save(path, optimize=True, pnginfo=stamp)


def source_digest() -> str:
    """SHA-256 of the page's files."""
    digest = hashlib.sha256()
    for path in sorted(WEB.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
