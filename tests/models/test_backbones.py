"""Networks have the papers' sizes, and any torchvision network takes a head."""

import pytest
import torch

from isoserve.models.backbones import build_backbone
from isoserve.models.classifier import build_classifier


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("network", "features", "body", "with_10", "with_100"),
    [
        ("resnet34_32", 512, 21_276_992, 21_282_132, 21_328_392),
        ("densenet100_32", 342, 765_732, 769_172, 800_132),
    ],
)
def test_the_papers_networks_have_the_papers_sizes(
    network: str, features: int, body: int, with_10: int, with_100: int
) -> None:
    backbone = build_backbone(network)
    assert (backbone.num_features, _weights(backbone.network)) == (features, body)
    assert _weights(build_classifier(network, "isomax2", 10)) == with_10
    assert _weights(build_classifier(network, "isomax2", 100)) == with_100


@pytest.mark.parametrize("network", ["resnet9_32", "resnet20_32", "densenet22_32"])
def test_features_are_not_negative(network: str) -> None:
    backbone = build_backbone(network)
    features = backbone.network.eval()(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, backbone.num_features)
    assert features.min() >= 0


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_torchvision_network_takes_a_head(network: str) -> None:
    classifier = build_classifier(network, "isomax2", 4).eval()
    side = build_backbone(network).input_size
    assert classifier(torch.zeros(1, 3, side, side)).cold_logits.shape == (1, 4)


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no network named 'resnet35'.*resnet34_32.*resnet50"):
        build_backbone("resnet35")


def test_a_network_without_a_last_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="is not linear"):
        build_backbone("squeezenet1_1")


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        build_classifier("resnet9_32", "isomax2", 1)
