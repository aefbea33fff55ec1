"""The Mahalanobis detector against scipy, scikit-learn, pytorch-ood and a known gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from sklearn.covariance import EmpiricalCovariance
from torch import nn

from isoserve.models.backbones import build_backbone
from isoserve.models.card import InputSpec
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import SoftMaxHead
from isoserve.training.baselines import mahalanobis
from isoserve.training.baselines.mahalanobis import LayerGaussian, feature_layers, fit_mahalanobis
from isoserve.training.evaluation.metrics import auroc
from isoserve.training.out_distributions import load_out_distribution

RNG = np.random.default_rng(4)


def labelled_features(n: int = 90, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3
    mixing = RNG.normal(size=(d, d))
    return RNG.normal(size=(n, d)) @ mixing + 3 * RNG.normal(size=(3, d))[labels], labels


def test_log_density_is_half_the_squared_distance_to_the_nearest_mean() -> None:
    features, labels = labelled_features()
    gaussian = LayerGaussian.fit(torch.from_numpy(features), torch.from_numpy(labels), 3)
    means = np.stack([features[labels == k].mean(axis=0) for k in range(3)])
    covariance = EmpiricalCovariance().fit(features - means[labels])
    queries = RNG.normal(size=(10, 5)) * 4
    expected = [
        -0.5 * min(scipy_mahalanobis(q, mean, covariance.precision_) ** 2 for mean in means)
        for q in queries
    ]
    found = gaussian.log_density(torch.from_numpy(queries)).numpy()
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_single_layer_ranks_as_pytorch_oods_detector() -> None:
    from pytorch_ood.detector import Mahalanobis as TheirDetector

    features, labels = (torch.from_numpy(array) for array in labelled_features())
    theirs = TheirDetector(None).fit_features(features.float(), labels)
    queries = torch.from_numpy(RNG.normal(size=(50, 5)))
    ours = LayerGaussian.fit(features, labels, 3).log_density(queries)
    # Theirs divides by the summed scatter, ours by the mean one: a factor of the sample size.
    expected = -len(features) * theirs.predict_features(queries.float())
    assert ours.numpy() == pytest.approx(expected.numpy(), rel=1e-3)


def test_a_channel_that_is_never_active_does_no_harm() -> None:
    features, labels = labelled_features()
    features[:, 2] = 0.0
    gaussian = LayerGaussian.fit(torch.from_numpy(features), torch.from_numpy(labels), 3)
    others = np.delete(features, 2, axis=1)
    reduced = LayerGaussian.fit(torch.from_numpy(others), torch.from_numpy(labels), 3)
    found = gaussian.log_density(torch.from_numpy(features))
    assert found.numpy() == pytest.approx(reduced.log_density(torch.from_numpy(others)).numpy())


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("densenet100_32", [24, 108, 150, 342]),
        ("resnet34_32", [64, 64, 128, 256, 512]),
        ("resnet20_32", [16, 16, 32, 64]),
        ("resnet9_narrow_32", [32, 64, 64, 128, 128, 128]),
    ],
)
def test_the_papers_layers_are_found(name: str, channels: list[int]) -> None:
    backbone = build_backbone(name).network.eval()
    found = []
    for layer in feature_layers(backbone):
        layer.register_forward_hook(lambda *args: found.append(args[2]))
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 32, 32))
    assert [output.shape[1] for output in found] == channels
    assert torch.allclose(found[-1].mean(dim=(2, 3)), features)


def test_a_network_without_known_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no feature ensemble is known for Flatten"):
        feature_layers(nn.Flatten())


def test_the_input_step_climbs_the_layers_own_density(make_network, pixels, monkeypatch) -> None:
    network = make_network("resnet20_32")
    conv = nn.Conv2d(3, 4, 1).requires_grad_(False)
    backbone = nn.Sequential(conv, nn.Flatten())
    network.classifier = Classifier(backbone, SoftMaxHead(4 * 64, 3)).eval().requires_grad_(False)
    monkeypatch.setattr(mahalanobis, "feature_layers", lambda _: [conv])
    features, labels = (torch.from_numpy(array) for array in labelled_features(90, 4))
    gaussian = LayerGaussian.fit(features, labels, 3)
    (images,) = network.batches(pixels)
    found = mahalanobis.layer_scores(network, [gaussian], images, step=0.01)[:, 0].numpy()

    # f = W mean(x) + b is linear in x: d log density / dx = -W' P (f - mean) / (H W) everywhere.
    weight, bias = conv.weight[:, :, 0, 0].double().numpy(), conv.bias.double().numpy()
    means, precision = gaussian.means.numpy(), gaussian.precision.numpy()
    x = images.double().numpy().mean(axis=(2, 3))
    std = np.array([0.2, 0.25, 0.3])

    def density(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centred = f[:, None] - means
        squared = np.einsum("ncd,de,nce->nc", centred, precision, centred)
        nearest = squared.argmin(axis=1)
        return -0.5 * squared.min(axis=1), centred[np.arange(len(f)), nearest]

    _, centred = density(x @ weight.T + bias)
    gradient = -(centred @ precision) @ weight  # [N, 3], of one sign over the whole channel
    expected, _ = density((x + 0.01 * np.sign(gradient) / std) @ weight.T + bias)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_fitted_detector_tells_noise_from_smooth_images(make_network) -> None:
    network = make_network("resnet9_narrow_32")
    labels = np.arange(120) % 3
    smooth = np.broadcast_to(
        (60 * labels + RNG.integers(40, 80, 120))[:, None, None, None], (120, 8, 8, 3)
    ).astype(np.uint8)
    smooth = smooth + RNG.integers(0, 12, smooth.shape, dtype=np.uint8)
    grain = smooth + RNG.integers(0, 40, smooth.shape, dtype=np.uint8)
    noise = load_out_distribution("uniform", InputSpec(height=8, width=8), Path(), limit=40).pixels
    detector = fit_mahalanobis(
        network, (smooth[:60], labels[:60]), smooth[60:90], grain[60:90], steps=(0.0, 0.002)
    )
    assert detector.step in (0.0, 0.002)
    inside = network.score(lambda x: detector.score(network, x), smooth[90:])
    outside = network.score(lambda x: detector.score(network, x), noise)
    assert inside.shape == (30,)
    assert auroc(inside, outside) > 0.95
    again = network.score(lambda x: detector.score(network, x), smooth[90:])
    assert np.array_equal(inside, again)
