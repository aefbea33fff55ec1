"""``python -m benchmarks.gpu`` where there is no GPU, and the parts of it that need none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.serving import DEVICES, missing
from benchmarks.gpu.training import noise

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_it_says_so_where_there_is_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--output", str(tmp_path / "results")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no GPU here" in done.stderr
    assert "onnxruntime-gpu" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("device", DEVICES)
def test_a_runtime_without_the_provider_is_named_with_the_way_out(device: str) -> None:
    import onnxruntime

    reason = missing(device)
    there = DEVICES[device] in onnxruntime.get_available_providers()
    assert bool(reason) != there
    assert there or "pip install onnxruntime-gpu" in reason


def test_the_images_it_trains_on_can_be_told_apart() -> None:
    images = noise(30)
    means = images.pixels.mean(axis=(1, 2))
    assert means.argmax(axis=1).tolist() == images.labels.tolist()
