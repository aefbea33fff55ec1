"""A user's own folder: train, export, serve, predict; and what is wrong in it is named."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = {"dark": 40, "light": 215, "striped": None}


def _picture(generator: np.random.Generator, level: int | None) -> Image.Image:
    height, width = (int(side) for side in generator.integers(24, 90, 2))
    if level is None:
        rows = np.where(np.arange(height) // 4 % 2, 255, 0)[:, None, None]
        pixels = np.broadcast_to(rows, (height, width, 3)).astype(float)
    else:
        pixels = np.full((height, width, 3), float(level))
    pixels = pixels + generator.normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _make_folder(root: Path) -> None:
    generator = np.random.default_rng(1)
    for name, level in CLASSES.items():
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for index in range(50):
            suffix = ("png", "jpg", "webp")[index % 3]
            _picture(generator, level).save(folder / f"{index}.{suffix}")
    _picture(generator, 40).convert("L").save(root / "train" / "dark" / "gray.png")
    _picture(generator, 215).convert("CMYK").save(root / "train" / "light" / "cmyk.jpg")
    (root / "train" / "striped" / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")


def test_a_folder_of_images_becomes_a_served_verdict(
    tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    _make_folder(tmp_path / "mine")
    trained = subprocess.run(
        [
            sys.executable, "-m", "isoserve", "train", tmp_path / "mine",
            "--output", tmp_path / "run", "--network", "densenet22_32", "--image-size", "16",
            "--epochs", "6", "--batch-size", "16", "--accelerator", "cpu", "--no-flip",
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "152 images of 3 classes from mine" in trained.stdout
    assert "corrupt.jpg" in trained.stderr
    assert "Traceback" not in trained.stderr

    server = start_server(tmp_path / "run" / "model.onnx")
    card = server.get("/v1/models/mine").json()["versions"][0]["card"]
    assert card["command"].startswith(f"isoserve train {tmp_path / 'mine'} --output")
    generator = np.random.default_rng(2)
    right = 0
    for name, level in CLASSES.items():
        for index in range(5):
            path = tmp_path / f"{name}{index}.png"
            _picture(generator, level).save(path)
            verdict = server.post("/v1/predict", content=path.read_bytes()).json()
            assert verdict["model"] == "mine"
            assert 0 < verdict["ood"]["p_value"] <= 1
            right += verdict["prediction"]["label"] == name
    assert right >= 12
    assert server.post("/v1/predict", content=b"no image").status_code == 415
