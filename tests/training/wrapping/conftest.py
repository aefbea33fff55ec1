"""A plain classifier, its photographs and its ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from class_folders import write_class_folders
from plain_classifier import CLASSES, SIZE, Net, draw, prepared
from torch import nn


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(25):
        pixels, labels = draw(48, seed=step)
        loss = nn.functional.cross_entropy(
            net(torch.from_numpy(prepared(pixels))), torch.from_numpy(labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wrapped") / "photos"
    return write_class_folders(root, *draw(1500, seed=1000), CLASSES)


@pytest.fixture(scope="module")
def few(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 of the images, for what needs no more."""
    root = tmp_path_factory.mktemp("few") / "few"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for file in sorted((photos / name).iterdir())[:50]:
            (root / name / file.name).symlink_to(file)
    return root


@pytest.fixture(scope="module")
def logits(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``torch.onnx.export`` of years writes it: opset 17, batch of one."""
    path = tmp_path_factory.mktemp("classifier") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, SIZE, SIZE),),
            path,
            input_names=["image"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
    return path
