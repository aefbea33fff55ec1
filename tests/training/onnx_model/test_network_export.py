"""``isoserve.export``: a network and a training loop of one's own, to a served verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_bytes import encode
from PIL import Image
from running_server import StartServer
from torch import Tensor, nn

import isoserve as iso

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
CLASSES = list(COLOURS)
MEAN, STD = (0.4, 0.4, 0.4), (0.3, 0.3, 0.3)


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 12, 16, 3] and labels [n]: noisy images of three colours."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    colours = np.array(list(COLOURS.values()))[labels][:, None, None]
    noisy = colours + generator.normal(0, 40, (n, 12, 16, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


class Backbone(nn.Module):
    """None of the registry's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.layers(batch)
        return features


@pytest.fixture(scope="module")
def network() -> iso.Classifier:
    """Trained for ten steps in a loop of its own."""
    torch.manual_seed(0)
    net = iso.Classifier(Backbone(), iso.IsoMax2Head(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for step in range(10):
        pixels, labels = images(48, seed=step)
        batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.4) / 0.3
        loss = net.head.loss(net(batch), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def model_file(network: iso.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository") / "colours" / "1" / "model.onnx"
    iso.export(
        network,
        path,
        calibration=images(300, seed=100),
        training=images(480, seed=0),
        classes=CLASSES,
        input_size=(12, 16),
        mean=MEAN,
        std=STD,
        name="colours",
    )
    return path


def test_the_own_network_is_served_and_answers(model_file: Path, start_server: StartServer) -> None:
    server = start_server(model_file.parents[2])
    with iso.Client(server.url) as client:
        for row, label in enumerate(CLASSES):
            pixels = images(3, seed=200)[0][row]
            verdict = client.predict(encode("PNG", pixels))
            assert (verdict.model, verdict.prediction.label) == ("colours", label)
            assert not verdict.ood.is_ood
            here = iso.load(model_file).predict(pixels)
            assert (here.prediction, here.ood) == (verdict.prediction, verdict.ood)


def test_the_card_says_what_was_given(model_file: Path) -> None:
    card = iso.load(model_file).card
    assert (card.name, card.network, card.loss) == ("colours", "Backbone", "isomax2")
    assert card.classes == CLASSES
    assert (card.input.height, card.input.width) == (12, 16)
    assert (card.data.training_images, card.calibration.n) == (480, 240)
    assert card.combination is not None
    assert (card.score, card.combination.n, card.combination.fitted_on) == (
        "combined",
        60,
        "held-out",
    )
    assert len(card.data.digest) == 64
    assert card.held_out[0].accuracy > 0.9


def test_about_alpha_of_fresh_images_are_rejected(model_file: Path) -> None:
    verdicts = iso.load(model_file).predict(list(images(600, seed=300)[0]))
    rejected = np.mean([verdict.ood.is_ood for verdict in verdicts])
    assert 0.004 < rejected < 0.096  # n 300 and 600: three standard errors around 0.05


def test_the_network_stays_as_it_is(network: iso.Classifier, tmp_path: Path) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    iso.export(
        network,
        tmp_path / "model.onnx",
        calibration=images(100, seed=1),
        classes=CLASSES,
        input_size=(12, 16),
    )
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    card = iso.load(tmp_path / "model.onnx").card
    assert (card.data.training_images, card.data.digest) == (0, "")


def test_folders_of_images_in_the_networks_order_of_classes(
    network: iso.Classifier, tmp_path: Path
) -> None:
    """Output 0 is named red here, although the folders' order is blue, green, red."""
    pixels, labels = images(120, seed=7)
    for row, label in enumerate(labels):
        folder = tmp_path / "held-out" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(folder / f"{row}.png")
    turned = iso.Classifier(network.backbone, iso.IsoMax2Head(8, 3))
    turned.head.load_state_dict(
        {name: value.flip(0) for name, value in network.head.state_dict().items()}
    )
    card = iso.export(
        turned,
        tmp_path / "model.onnx",
        calibration=tmp_path / "held-out",
        classes=["red", "green", "blue"],
        input_size=(12, 16),
        mean=MEAN,
        std=STD,
    )
    assert card.classes == ["red", "green", "blue"]
    assert card.held_out[0].accuracy > 0.9


class ReturnsATensor(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "my model"}, "name is 'my model'; it must be up to 64 of A-Z"),
        ({"alpha": 0.0}, "alpha is 0.0; it must be between 0 and 1"),
        ({"input_size": 0}, "input_size is 0; a side must be from 1 to 4096"),
        ({"mean": (0.5,)}, r"mean is \[0.5\]; it must be three numbers"),
        ({"std": (1, 1, 0)}, r"std is \[1.0, 1.0, 0.0\]; it must be three positive numbers"),
        ({"classes": ["a", "b"]}, "labels run from 0 to 2; with 2 classes they must be from 0"),
        ({"classes": ["a", "b", "c", "d"]}, r"are \(2, 3\) and \(2, 3\); with 4 classes they"),
        ({"classes": None}, "given as arrays; classes must name their labels"),
        ({"calibration": images(300, 0)[0]}, "calibration is a ndarray; it must be a folder"),
        ({"calibration": (images(9, 0)[0] / 255, [0] * 9)}, r"images are float64 \[9, 12, 16, 3\]"),
        ({"calibration": (images(9, 0)[0], [0] * 8)}, r"labels are int64 \[8\]; they must be"),
        ({"calibration": images(30, 0)}, "30 images are too few to calibrate"),
        ({"calibration": "nowhere"}, "no folder nowhere"),
        ({"network": ReturnsATensor()}, "returns a Tensor; it must return isoserve.Logits"),
    ],
)
def test_what_does_not_fit_is_one_clear_line_and_writes_nothing(
    network: iso.Classifier, tmp_path: Path, changed: dict, said: str
) -> None:
    path = tmp_path / "model.onnx"
    given = {
        "network": network,
        "path": path,
        "calibration": images(100, seed=1),
        "classes": CLASSES,
        "input_size": (12, 16),
    }
    with pytest.raises(iso.InputError, match=said) as caught:
        iso.export(**given | changed)
    assert "\n" not in str(caught.value)
    assert not path.exists()
