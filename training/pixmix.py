"""PixMix: training images mixed with pictures of fractals, which are made here, not downloaded.

After Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", 2022.
The fractals are attractors of random iterated function systems, drawn by the chaos game.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MAPS = 4
_POINTS, _STEPS, _SETTLING = 64, 160, 20
_ROUNDS = 4
_STRENGTH = 3.0
"""PixMix's beta: the larger, the nearer a mixture is to the image it began with."""


def fractals(count: int, side: int, seed: int) -> Tensor:
    """Coloured pictures of ``count`` random fractals, float32 [count, 3, side, side] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    shape = (count, _MAPS)
    stretch = torch.diag_embed(
        (0.3 + 0.55 * uniform(*shape, 2)) * (uniform(*shape, 2) - 0.3).sign()
    )
    linear = _rotation(uniform(*shape)) @ stretch @ _rotation(uniform(*shape))
    shift, colours = 2 * uniform(*shape, 2) - 1, uniform(*shape, 3)
    chances = 0.1 + uniform(*shape)
    place, colour = torch.zeros(count, _POINTS, 2), torch.full((count, _POINTS, 3), 0.5)
    places, shades = [], []
    fractal = torch.arange(count)[:, None]
    for step in range(_STEPS):
        chosen = torch.multinomial(chances, _POINTS, replacement=True, generator=generator)
        place = (linear[fractal, chosen] @ place[..., None]).squeeze(-1) + shift[fractal, chosen]
        colour = (colour + colours[fractal, chosen]) / 2
        if step >= _SETTLING:
            places.append(place)
            shades.append(colour)
    return _drawn(torch.cat(places, 1), torch.cat(shades, 1), uniform(count, 1, 3), side)


def pixmix(images: Tensor, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Mix each image up to four times with a fractal or with itself in other colours.

    Args:
        images: float32 [B, 3, H, W] in [0, 1].
        pictures: of :func:`fractals`, [M, 3, H, W], on the same device.
        generator: on the CPU.

    Returns:
        [B, 3, H, W] in [0, 1].
    """
    batch, device = len(images), images.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    mixed = images
    for round_ in range(_ROUNDS):
        picks = torch.randint(0, len(pictures), (batch,), generator=generator).to(device)
        tinted = (images * (0.6 + 0.8 * uniform(batch, 3, 1, 1))).clamp(0, 1)
        draws = uniform(5, batch, 1, 1, 1)
        other = torch.where(draws[0] < 0.5, pictures[picks], tinted)
        ours, theirs = draws[1] ** (1 / _STRENGTH), draws[2] ** _STRENGTH
        added = (ours * (2 * mixed - 1) + theirs * (2 * other - 1) + 1) / 2
        multiplied = mixed.clamp(min=1e-3) ** ours * other.clamp(min=1e-3) ** theirs
        result = torch.where(draws[3] < 0.5, added, multiplied).clamp(0, 1)
        mixed = torch.where(draws[4] < (_ROUNDS - round_) / (_ROUNDS + 1), result, mixed)
    return mixed


def _rotation(turns: Tensor) -> Tensor:
    """[...] in turns -> rotation matrices [..., 2, 2]."""
    cosine, sine = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    rows = [torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)]
    return torch.stack(rows, -2)


def _drawn(places: Tensor, colours: Tensor, background: Tensor, side: int) -> Tensor:
    """Points [N, P, 2] of colours [N, P, 3] as pictures: mean colour, opaque where many fall."""
    ends = torch.quantile(places, torch.tensor([0.02, 0.98]), dim=1, keepdim=True)
    pixels = ((places - ends[0]) / (ends[1] - ends[0] + 1e-6) * (side - 1)).round().long()
    inside = ((pixels >= 0) & (pixels < side)).all(dim=2).float()
    pixels = pixels.clamp(0, side - 1)
    index = pixels[..., 0] * side + pixels[..., 1]
    count = torch.zeros(len(places), side * side).scatter_add_(1, index, inside)
    total = torch.zeros(len(places), side * side, 3).scatter_add_(
        1, index[..., None].expand(-1, -1, 3), colours * inside[..., None]
    )
    opacity = (torch.log1p(count) / torch.log1p(count).amax(dim=1, keepdim=True)).sqrt()[..., None]
    picture = opacity * total / count.clamp(min=1)[..., None] + (1 - opacity) * background
    return picture.reshape(-1, side, side, 3).permute(0, 3, 1, 2).contiguous()
