"""DenseNet-BC for 32x32 images (Huang et al., 2017), as the IsoMax papers use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """BN-ReLU-1x1 to 4 x growth, BN-ReLU-3x3 to growth, concatenated to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), dim=1)


class DenseNet(nn.Module):
    """Three dense blocks, two halving transitions, global average pool: [N, 3, H, W] -> [N, D].

    ``depth=100, growth=12`` is DenseNet-BC-100: D = 342, 765,732 weights.
    """

    def __init__(self, depth: int = 100, growth: int = 12) -> None:
        super().__init__()
        bottlenecks, rest = divmod(depth - 4, 6)
        if rest or bottlenecks < 1:
            raise ValueError(f"depth is {depth}; it must be 6 n + 4, such as 22, 40 or 100")
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for block in range(3):
            for _ in range(bottlenecks):
                layers.append(Bottleneck(channels, growth))
                channels += growth
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            if block < 2:
                layers += [
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
                channels //= 2
        self.layers = nn.Sequential(*layers)
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))
