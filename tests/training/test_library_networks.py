"""A network of torchvision's and one of timm's, from weights of one's own to answers over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from class_folders import write_class_folders
from click.testing import CliRunner
from library_networks import CLASSES, draw, learnt
from PIL import Image
from running_server import StartServer
from torch import nn

from isoserve.cli import cli
from isoserve.models.backbones import build_backbone
from isoserve.training.onnx_graph import read_model


@pytest.fixture(scope="module", name="photos")
def _photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(
        tmp_path_factory.mktemp("drawn") / "photos", *draw(240, seed=3), CLASSES
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm/test_resnet"])
def test_a_librarys_network_is_trained_exported_and_served(
    name: str, photos: Path, tmp_path: Path, start_server: StartServer
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name)
    assert backbone.preprocessing is not None
    classifier = nn.Sequential(backbone.network, nn.Linear(backbone.num_features, len(CLASSES)))
    learnt(classifier, backbone.preprocessing)
    torch.save(backbone.network.state_dict(), tmp_path / "own.pth")
    words = ["--network", name, "--weights", tmp_path / "own.pth", "--recipe", "frozen"]
    words += ["--image-size", 32, "--views", 1, "--epochs", 30, "--held-out", 0.4]
    output = tmp_path / "colours"
    done = CliRunner().invoke(
        cli, [str(each) for each in ("train", photos, "--output", output, *words)]
    )
    assert done.exit_code == 0, done.output  # an export without parity would have been refused
    _, card = read_model(output / "model.onnx")
    assert (card.network, card.schema_version, card.score) == (name, 2, "combined")
    assert card.held_out[0].accuracy > 0.9
    server = start_server(output / "model.onnx")
    fresh, labels = draw(30, seed=4)
    right = 0
    for image, label in zip(fresh, labels, strict=True):
        Image.fromarray(image).save(tmp_path / "sent.png")
        answer = server.post("/v1/predict", content=(tmp_path / "sent.png").read_bytes()).json()
        right += answer["prediction"]["label"] == CLASSES[label]
    assert right >= 27
