"""No command writes into its user's home: no telemetry, no caches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_classifier import SIZE, Net
from running_server import ROOT
from signing_key import write_key
from tiny_model import write_tiny_model

from isoserve.models import openvino_engine
from isoserve.training.checkpoint import Checkpoint

PRIVATE = ("XDG_", "ORT_", "MPL", "TORCH", "PROMETHEUS_", "ISOSERVE_")
"""Beginnings of variables that say otherwise where something is written."""


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


IN_ONE_PROCESS = """
import json, sys
from isoserve.cli import cli
for words in json.loads(sys.argv[1]):
    cli.main(words, standalone_mode=False)
"""


LOADED_BY_OPENVINO = """
import sys
import isoserve
from isoserve.service.inference.execution import Execution
isoserve.load(sys.argv[1], execution=Execution(engine="openvino"))
assert "openvino" in sys.modules
assert not sys.modules["openvino_telemetry"]
"""


@pytest.fixture(name="run_of_colours")
def _run_of_colours(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue("run")
    return found


def run(home: Path, *arguments: object) -> list[str]:
    """Run the command; what it left in its home."""
    return _run(home, "-m", "isoserve", *map(str, arguments))


def run_all(home: Path, *commands: list[object]) -> list[str]:
    """Run several commands in one process, which imports torch once."""
    words = [[str(word) for word in command] for command in commands]
    return _run(home, "-c", IN_ONE_PROCESS, json.dumps(words))


def _run(home: Path, *arguments: str) -> list[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PRIVATE)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=home.parent,
        env={**environment, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_commands_that_serve_leave_nothing_at_home(colours: Path, home: Path) -> None:
    model = write_tiny_model(home.parent / "model.onnx")
    image = next((colours / "test").rglob("*.png"))
    assert run(home, "inspect", model) == []
    assert run(home, "predict", image, "--model", model) == []
    assert run(home, "serve", "--help") == []
    assert run(home, "review", "--help") == []


@pytest.mark.skipif(
    not openvino_engine.is_installed(), reason="the openvino extra is not installed"
)
def test_openvino_reports_nothing_and_leaves_nothing_at_home(home: Path) -> None:
    model = write_tiny_model(home.parent / "model.onnx")
    assert _run(home, "-c", LOADED_BY_OPENVINO, str(model)) == []


@pytest.mark.slow
def test_commands_that_train_leave_nothing_at_home(colours: Path, home: Path) -> None:
    out = home.parent / "out"
    quick = ["--network", "densenet22_32", "--image-size", 16, "--epochs", 1, "--held-out", 0.35]
    assert run(home, "train", colours, "--output", out, *quick) == []
    model = out / "model.onnx"
    few = ["--ood", "gaussian", "--limit", 10, "--output", home.parent / "results"]
    left = run_all(
        home,
        ["export", out, "--output", home.parent / "again.onnx"],
        ["evaluate", model, colours, *few],
        ["calibrate", model, colours / "test", "--alpha", 0.2],
        ["card", model, "--output", home.parent / "card.html"],
    )
    assert left == []


@pytest.mark.slow
def test_commands_that_change_a_model_leave_nothing_at_home(
    run_of_colours: Path, colours: Path, home: Path
) -> None:
    out = home.parent
    trained = Checkpoint.load(run_of_colours)
    trained = replace(trained, recipe=trained.recipe | {"weights": "published.pth"})
    for name in ("a", "b"):
        trained.save(out / name)
    model = out / "model.onnx"
    shutil.copy(run_of_colours / "model.onnx", model)
    images = colours / "test"
    few = ["--limit", 10, "--range-images", 30, "--alpha", 0.2, "--delta", 0.2]
    unknowing = ["--output", out / "wrapped.onnx", "--range", "0..255", "--expect-accuracy", 0.1]
    key, _ = write_key(out, "signer")
    left = run_all(
        home,
        ["quantize", model, images, "--output", out / "small.onnx", *few],
        ["average", out / "a", out / "b", "--output", out / "mean"],
        ["wrap", plain_onnx(out), "--images", colours / "train", *unknowing],
        ["sign", model, "--key", key],
        ["pull", out.as_uri() + "/small.onnx", out / "pulled"],
    )
    assert left == []
    scored = ("score", images, "--model", model, "--output", out / "scored", "--workers", 1)
    assert run(home, *scored) == []
    assert run(home, "upgrade", model, colours, "--output", out / "newer.onnx") == []


def plain_onnx(folder: Path) -> Path:
    """A classifier that knows nothing yet."""
    torch.manual_seed(0)
    path = folder / "plain.onnx"
    pixels = torch.zeros(1, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Net().eval(), (pixels,), path, dynamo=False, opset_version=17)
    return path
