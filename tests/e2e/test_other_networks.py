"""A network of torchvision's, one of timm's and a state dict of one's own: trained and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from image_bytes import encode
from PIL import Image
from running_server import StartServer

from isoserve.cli import cli
from isoserve.models.backbones import build_backbone
from isoserve.training.onnx_graph import read_model, run_graph

SIDE = 64


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    for name in ("across", "down"):
        (root / name).mkdir()
        for index in range(65):
            image = generator.normal(120, 20, (SIDE, SIDE, 3))
            (image if name == "across" else image.swapaxes(0, 1))[::8] += 90
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet_v3_small", "timm/resnet10t", "own"])
def test_a_network_of_a_library_is_trained_exported_and_served(
    network: str, photographs: Path, tmp_path: Path, start_server: StartServer
) -> None:
    weights = "none"
    if network == "own":
        network, weights = "mobilenet_v3_small", str(tmp_path / "own.pth")
        torch.save(build_backbone(network).network.state_dict(), weights)
    if network.startswith("timm/"):
        pytest.importorskip("timm")
    repository = tmp_path / "repository"
    words = ["train", photographs, "--output", tmp_path / "run", "--network", network, "--weights",
             weights, "--recipe", "finetune", "--image-size", SIDE, "--epochs", 1, "--precision",
             "32-true", "--accelerator", "cpu", "--name", "stripes"]  # fmt: skip
    target = repository / "stripes" / "1" / "model.onnx"
    for step in (words, ["export", tmp_path / "run", "--output", target]):
        result = CliRunner().invoke(cli, [str(word) for word in step])
        assert result.exit_code == 0, result.output  # exporting checks the parity of both sides
    model, card = read_model(target)
    assert card.network == network
    body = encode("PNG", Image.open(photographs / "down" / "3.png"))
    expected = run_graph(model, np.asarray(Image.open(photographs / "down" / "3.png"))[np.newaxis])
    verdict = start_server(repository).post("/v1/predict", content=body).json()
    shares = expected["probabilities"][0]
    assert verdict["prediction"]["index"] == int(shares.argmax())
    assert verdict["prediction"]["probability"] == pytest.approx(float(shares.max()), abs=1e-4)
    assert verdict["ood"]["p_value"] == pytest.approx(float(expected["p_value"][0]), abs=1e-4)
