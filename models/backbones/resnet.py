"""Residual networks for 32x32 images (He et al., 2016), as the IsoMax papers use them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """3x3 stem without max-pool, stages of basic blocks, global average pool.

    [N, 3, H, W] -> [N, D]; ``blocks=(3, 4, 6, 3)`` at ``width=64`` is the papers' ResNet34
    (D = 512, 21,276,992 weights).
    """

    def __init__(self, blocks: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.num_features = width * 2 ** (len(blocks) - 1)
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        in_channels = width
        for stage, depth in enumerate(blocks):
            channels = width * 2**stage
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(in_channels, channels, stride))
                in_channels = channels
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))


class ResNet9(nn.Module):
    """A shallow, wide residual network that trains and runs fast on CPUs (after Page, 2018).

    Six plain and two residual 3x3 convolutions with max-pooling, [N, 3, H, W] -> [N, 4 * width];
    160 M multiply-adds at 32x32 and 1.4 M weights at ``width=48``. The pool stands before each
    batch normalisation, where it costs a quarter.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.layers = nn.Sequential(
            _conv_bn_relu(3, width),
            _conv_bn_relu(width, 2 * width, pool=True),
            _Residual(2 * width),
            _conv_bn_relu(2 * width, 4 * width, pool=True),
            _conv_bn_relu(4 * width, 4 * width, pool=True),
            _Residual(4 * width),
        )
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_bn_relu(channels, channels), _conv_bn_relu(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _conv_bn_relu(in_channels: int, channels: int, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
