"""Sends what a camera would: usual images, then fog, then foreign objects, and over again.

    python deploy/traffic.py --url http://127.0.0.1:8000 --rate 20 --images FOLDER

Usual images come from FOLDER, which should hold images like those the model was trained on. Where
there are none, pictures are drawn at random and kept so that the model's p-values on them are
spread evenly, as they are on usual images: stand-ins that make the dashboards move, not evidence.
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

log = logging.getLogger("traffic")

SIDE = 64
STRATA = 20
A_STRATUM = 8
SEARCH_SECONDS = 60.0
MOST_IMAGES = 1000
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
PHASES = ("usual", "fog", "foreign")
ROUND = ("usual", "fog", "usual", "foreign")
Painter = Callable[[random.Random], Image.Image]


def folder_images(folder: Path) -> list[Image.Image]:
    """Images of a folder and those below it, at most a thousand."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [Image.open(path).convert("RGB") for path in files[:MOST_IMAGES]]


def drawing(rng: random.Random) -> Image.Image:
    """A blurred still life of a few shapes on a gradient."""
    image = _gradient(rng)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 6)):
        _add_shape(draw, rng, smallest=5, largest=50)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 4)))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(
        0, rng.uniform(0, 12), (SIDE, SIDE, 3)
    )
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def child(parent: Image.Image, rng: random.Random) -> Image.Image:
    """The picture with one more shape, or with a little of another laid over it."""
    if rng.random() < 0.3:
        other = drawing(rng) if rng.random() < 0.7 else parent.rotate(rng.choice([90, 180, 270]))
        return Image.blend(parent, other, rng.uniform(0.02, 0.3))
    shaped = parent.copy()
    _add_shape(ImageDraw.Draw(shaped), rng, smallest=3, largest=40)
    shaped = shaped.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    return Image.blend(parent, shaped, rng.uniform(0.2, 1))


def foreign(rng: random.Random) -> Image.Image:
    """What no camera of this kind was trained on: noise, chequers or stripes."""
    pixels = np.random.default_rng(rng.getrandbits(32))
    kind = rng.choice(["noise", "chequers", "stripes"])
    if kind == "noise":
        return Image.fromarray(pixels.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    step = rng.randint(2, 9)
    rows, columns = np.indices((SIDE, SIDE)) // step
    mask = (rows + (columns if kind == "chequers" else 0)) % 2
    colours = pixels.integers(0, 256, (2, 3), dtype=np.uint8)
    return Image.fromarray(colours[mask])


def fogged(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image behind mist: paler towards the top, and soft."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(image.width / 32)), dtype=np.float32)
    density = np.linspace(rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.75), image.height)
    mist = rng.uniform(190, 230)
    mixed = pixels + density[:, None, None] * (mist - pixels)
    return Image.fromarray(mixed.astype(np.uint8))


class Sender:
    """Posts images at a steady rate, on one connection."""

    def __init__(self, client: httpx.Client, rate: float, model: str = "") -> None:
        self._client = client
        self._asked = {"model": model} if model else {}
        self._pause = 1.0 / rate
        self._next = time.monotonic()

    def wait_until_ready(self) -> None:
        """Return once a model serves."""
        while True:
            try:
                if self._client.get("/healthz/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1)

    def p_value(self, image: Image.Image) -> float | None:
        """The model's p-value, None where the service did not answer with one."""
        file = io.BytesIO()
        image.save(file, "PNG")
        try:
            answer = self._client.post("/v1/predict", params=self._asked, content=file.getvalue())
        except httpx.TransportError as error:
            log.warning("no answer: %s", error)
            return None
        return float(answer.json()["ood"]["p_value"]) if answer.status_code == 200 else None

    def send(self, image: Image.Image) -> None:
        """One image, not before its time has come."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - 1.0) + self._pause
        self.p_value(image)


def stand_ins(sender: Sender, rng: random.Random) -> list[list[Image.Image]]:
    """Drawn pictures by twentieth of the p-value, as far as such are found within a minute."""
    strata: list[list[Image.Image]] = [[] for _ in range(STRATA)]
    best: list[tuple[float, Image.Image]] = []
    until = time.monotonic() + SEARCH_SECONDS
    while time.monotonic() < until and min(map(len, strata)) < A_STRATUM:
        # High p-values are rare among drawings: they are bred from the highest found so far.
        bred = best and rng.random() < 0.85
        image = child(rng.choice(best)[1], rng) if bred else drawing(rng)
        p_value = sender.p_value(image)
        if p_value is None:
            continue
        best = sorted([*best, (p_value, image)], key=lambda pair: -pair[0])[:A_STRATUM]
        stratum = strata[min(int(p_value * STRATA), STRATA - 1)]
        if len(stratum) < A_STRATUM:
            stratum.append(image)
    found = [len(stratum) for stratum in strata]
    log.info("stand-ins by twentieth of the p-value: %s", found)
    return [stratum for stratum in strata if stratum]


def main() -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(description="Usual images, then fog, then foreign objects.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rate", type=float, default=20.0, help="images a second")
    parser.add_argument("--images", type=Path, default=Path("/images"))
    parser.add_argument("--model", default="", help="by name; the service's default if not given")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each phase")
    parser.add_argument("--rounds", type=int, default=0, help="0: without end")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=ROUND)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with httpx.Client(base_url=given.url, timeout=10) as client:
        sender = Sender(client, given.rate, given.model)
        sender.wait_until_ready()
        rng = random.Random(0)
        images = folder_images(given.images)
        groups = [images] if images else []
        if not groups and set(given.phases) - {"foreign"}:
            groups = stand_ins(sender, rng)
            if not groups:
                raise SystemExit(f"no images in {given.images}, and the service judged none drawn")
        painters = painters_of(groups)
        done = 0
        while not given.rounds or done < given.rounds:
            for phase in given.phases:
                log.info("%s for %g s at %g images/s", phase, given.seconds, given.rate)
                until = time.monotonic() + given.seconds
                while time.monotonic() < until:
                    sender.send(painters[phase](rng))
            done += 1


def painters_of(groups: list[list[Image.Image]]) -> dict[str, Painter]:
    """What each phase sends. A group of usual images is chosen first, then an image of it."""

    def usual(rng: random.Random) -> Image.Image:
        return rng.choice(rng.choice(groups))

    return {
        "usual": usual,
        "fog": lambda rng: fogged(usual(rng), rng),
        "foreign": foreign,
    }


def _gradient(rng: random.Random) -> Image.Image:
    ends = np.array([_colour(rng), _colour(rng)], dtype=np.float32)
    along = np.linspace(0, 1, SIDE)[:, None, None]
    ramp = np.broadcast_to(ends[0] + along * (ends[1] - ends[0]), (SIDE, SIDE, 3))
    return Image.fromarray(ramp.astype(np.uint8)).rotate(rng.choice([0, 90, 180, 270]))


def _add_shape(draw: ImageDraw.ImageDraw, rng: random.Random, smallest: int, largest: int) -> None:
    x, y = rng.randint(-10, SIDE), rng.randint(-10, SIDE)
    box = (x, y, x + rng.randint(smallest, largest), y + rng.randint(smallest, largest))
    rng.choice([draw.ellipse, draw.rectangle])(box, fill=_colour(rng))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


if __name__ == "__main__":
    main()
