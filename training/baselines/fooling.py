"""Fooling images: patterns evolved until a network is sure of a class (Nguyen et al., CVPR 2015).

The published set is not used; ours is evolved here against a trained network. Half of the images
are patterns of a small random function of the coordinates (a CPPN, the paper's indirect encoding),
half are free pixels (its direct encoding). Each image climbs alone: one mutant a generation, kept
where the network is surer of the image's class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork

HIDDEN = 12
"""Hidden units of a pattern's function, in two layers."""

MUTATION = 0.15
"""Standard deviation of a mutation of the function's weights."""

PIXEL_MUTATION = 0.25
"""Standard deviation of a mutated pixel value, in [0, 1] units."""

PIXEL_SHARE = 0.05
"""Share of the pixels that a mutation changes."""


@dataclass(frozen=True)
class FoolingImages:
    """Evolved images and how sure the network was of them in the end."""

    pixels: Pixels
    confidence: float
    """Mean probability of the class each image was evolved for."""
    fooled: float
    """Share of images whose class is predicted with probability above 0.99."""


def evolve(
    network: TrainedNetwork, side: int, count: int, generations: int, seed: int = 0
) -> FoolingImages:
    """Evolve ``count`` images of ``side`` pixels, classes in turn; the same ones each time."""
    generator = torch.Generator().manual_seed(seed)
    patterns = count // 2
    targets = torch.arange(count) % network.classifier.head.num_classes
    genes = torch.randn((patterns, _gene_length()), generator=generator)
    free = torch.rand((count - patterns, 3, side, side), generator=generator)
    images = torch.cat([draw_patterns(genes, side), free])
    fitness = _log_probability(network, images, targets)
    for _ in range(generations):
        new_genes = genes + MUTATION * torch.randn(genes.shape, generator=generator)
        changed = torch.rand(free.shape, generator=generator) < PIXEL_SHARE
        shift = PIXEL_MUTATION * torch.randn(free.shape, generator=generator)
        new_free = torch.where(changed, free + shift, free).clamp(0.0, 1.0)
        mutants = torch.cat([draw_patterns(new_genes, side), new_free])
        found = _log_probability(network, mutants, targets)
        better = found > fitness
        fitness = torch.where(better, found, fitness)
        genes = torch.where(better[:patterns, None], new_genes, genes)
        free = torch.where(better[patterns:, None, None, None], new_free, free)
    images = torch.cat([draw_patterns(genes, side), free])
    reached = _log_probability(network, images, targets).exp()
    return FoolingImages(
        pixels=_to_uint8(images),
        confidence=float(reached.mean()),
        fooled=float((reached > 0.99).float().mean()),
    )


def draw_patterns(genes: Tensor, side: int) -> Tensor:
    """Weights of coordinate functions [N, G] -> their images, float32 [N, 3, side, side] in [0, 1].

    Inputs x, y, distance from the centre and 1; two layers of sines and Gaussian bumps, which give
    the repeated and symmetric shapes of the paper; sigmoid colours.
    """
    axis = torch.linspace(-1.0, 1.0, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = (x**2 + y**2).sqrt()
    inputs = torch.stack([x, y, radius, torch.ones_like(x)], dim=-1).reshape(-1, 4)  # [P, 4]
    first, second, colour = torch.split(genes, [4 * HIDDEN, HIDDEN**2, 3 * HIDDEN], dim=1)
    hidden = _bend(3.0 * (inputs @ first.reshape(-1, 4, HIDDEN)))  # [N, P, H]
    hidden = _bend(hidden @ second.reshape(-1, HIDDEN, HIDDEN))
    values = torch.sigmoid(2.0 * (hidden @ colour.reshape(-1, HIDDEN, 3)))  # [N, P, 3]
    return values.permute(0, 2, 1).reshape(-1, 3, side, side)


def _gene_length() -> int:
    return 4 * HIDDEN + HIDDEN**2 + 3 * HIDDEN


def _bend(values: Tensor) -> Tensor:
    waves, bumps = values.chunk(2, dim=-1)
    return torch.cat([waves.sin(), 2.0 * torch.exp(-(bumps**2)) - 1.0], dim=-1)


def _to_uint8(images: Tensor) -> Pixels:
    values = (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1)
    pixels: Pixels = values.contiguous().numpy().astype(np.uint8)
    return pixels


def _log_probability(network: TrainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
    """log softmax(cold logits)[target] of the images as they would be stored, [N]."""

    @torch.no_grad()
    def measure(batch: Tensor) -> Tensor:
        cold_logits: Tensor = network.classifier(batch).cold_logits
        return cold_logits.log_softmax(dim=1)

    found = torch.from_numpy(network.score(measure, _to_uint8(images)))
    return found.gather(1, targets[:, None])[:, 0]
