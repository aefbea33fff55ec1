"""Training on the accelerator: images a second, a resumed run, a step started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image

from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.recipe import Recipe
from isoserve.training.trainer import fit

SECONDS = 120
"""A step that takes longer has failed."""

_LINES = 30
"""torchrun puts a frame of its own below what its process said."""


def images_per_second(network: str, precision: str, scratch: Path) -> dict[str, Any]:
    """Of whole epochs on resident images, the second one of two: the first chooses kernels."""
    recipe = Recipe(network=network, precision=precision, epochs=2, batch_size=128)  # type: ignore[arg-type]
    fabric = Fabric(accelerator="cuda", devices=1, precision=recipe.precision)
    fabric.launch()
    name = f"{network}-{precision}"
    done = fit(fabric, recipe, "noise", noise(10_000), scratch / name)
    row = done.history[-1]
    return {
        "network": network,
        "precision": precision,
        "batch": recipe.batch_size,
        "images_per_second": round(row["images_per_second"]),
    }


def resumed(scratch: Path) -> dict[str, Any]:
    """A run ended after its first epoch goes on to the weights of one that was not ended.

    Kernels that add in another order each time may differ in the last digits.
    """
    recipe = Recipe(network="resnet20_32", epochs=2, batch_size=64)
    images = noise(600)

    class Ended(Fabric):
        def barrier(self, *_: object) -> None:
            raise KeyboardInterrupt

    whole = fit(_fabric(Fabric), recipe, "noise", images, scratch / "whole")
    try:
        fit(_fabric(Ended), recipe, "noise", images, scratch / "ended")
    except KeyboardInterrupt:
        epochs_before = Checkpoint.load(scratch / "ended").epoch
    again = fit(_fabric(Fabric), recipe, "noise", images, scratch / "ended")
    difference = max(
        float((again.weights[name].double() - weight.double()).abs().max())
        for name, weight in whole.weights.items()
    )
    return {
        "epochs_before": epochs_before,
        "epochs": again.epoch,
        "largest_difference_of_weights": difference,
    }


def started_by_torchrun(scratch: Path) -> dict[str, Any]:
    """One epoch of ``isoserve train`` under torchrun, on every GPU there is."""
    devices = torch.cuda.device_count()
    folder = scratch / "photos"
    images = noise(600)
    for index, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        path = folder / "train" / images.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    # By its address: a machine without a network may not know its own name.
    where = ("--standalone", "--local-addr=127.0.0.1")
    launcher = ["torch.distributed.run", *where, f"--nproc-per-node={devices}"]
    flags = f"--recipe paper --network resnet20_32 --epochs 1 --devices {devices}"
    command = [sys.executable, "-m", *launcher, "-m", "isoserve", "train", str(folder)]
    done = subprocess.run(
        [*command, "--output", str(scratch / "torchrun"), "--accelerator", "cuda", *flags.split()],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        check=False,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {"devices": devices, "exit_code": done.returncode, "last_lines": lines[-_LINES:]}


def noise(count: int) -> LabelledImages:
    """Images of three mean colours, 32 x 32."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    colours = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200)])[labels]
    pixels = random.normal(colours[:, None, None], 60, (count, 32, 32, 3))
    classes = ("red", "green", "blue")
    return LabelledImages("noise", pixels.clip(0, 255).astype(np.uint8), labels, classes)


def _fabric(kind: type[Fabric]) -> Fabric:
    fabric = kind(accelerator="cuda", devices=1)
    fabric.launch()
    return fabric
