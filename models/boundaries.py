"""How far features lie from the nearest class boundary, for every head.

fDBD (Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", 2024) measures
this for a linear layer, whose boundaries are hyperplanes. The heads on distances have others:

- SoftMax: the plane z_i = z_j; distance (z_i - z_j) / ||w_i - w_j||.
- IsoMax: the plane halfway between two prototypes; distance (d_j^2 - d_i^2) / (2 ||p_i - p_j||).
- IsoMax+: the same plane, for features and prototypes of length 1.
- IsoMax2: s_i d_i + t_i = s_j d_j + t_j, a surface of revolution about the line through the two
  prototypes: a plane where scales and tilts are equal, a sphere of Apollonius where the tilts are,
  a hyperboloid where the scales are, a Cartesian oval otherwise. See :func:`_isomax2_distances`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from isoserve.models.heads import (
    Head,
    IsoMax2Head,
    IsoMaxHead,
    IsoMaxPlusHead,
    Logits,
    SoftMaxHead,
)

_SMALLEST = 1e-12
"""Stands in for a distance of zero where one divides by it."""

_FAR = 1e30
"""Stands for the distance to a boundary of a class with itself, which there is not."""


def class_gaps(head: Head) -> Tensor:
    """Distances [C, C] between the classes' prototypes or weights, ones on the diagonal.

    Found once, in float64: the features' own distances are all that changes from image to image.

    Raises:
        TypeError: a head whose boundaries are not known.
    """
    if isinstance(head, SoftMaxHead):
        points = head.linear.weight
    elif isinstance(head, IsoMaxPlusHead):
        points = F.normalize(head.prototypes)
    elif isinstance(head, (IsoMaxHead, IsoMax2Head)):
        points = head.prototypes
    else:
        raise TypeError(f"the class boundaries of a {type(head).__name__} are not known")
    exact = points.detach().double()
    rows = [torch.linalg.vector_norm(exact - point, dim=1) for point in exact]
    gaps = torch.stack(rows).clamp_min(_SMALLEST)
    return gaps.fill_diagonal_(1.0).float()


def boundary_score(head: Head, gaps: Tensor, logits: Logits, predicted: Tensor) -> Tensor:
    """Distance of the features to the nearest boundary of the predicted class.

    Args:
        head: one of :data:`isoserve.models.heads.HEADS`.
        gaps: [C, C], of :func:`class_gaps`.
        logits: what the head gives for the features, float32 [N, C].
        predicted: int64 [N], arg max of the cold logits.

    Returns:
        [N], >= 0, in the unit of the features (of unit-length ones for IsoMax+); higher = more
        in-distribution.
    """
    gaps = gaps.index_select(0, predicted)  # [N, C]
    if isinstance(head, SoftMaxHead):
        best = logits.cold_logits.amax(dim=1, keepdim=True)  # [N, 1]
        found = (best - logits.cold_logits) / gaps
    elif isinstance(head, IsoMax2Head):
        found = _isomax2_distances(head, gaps, -logits.score_logits, predicted)
    else:
        distances = -logits.score_logits
        if isinstance(head, IsoMaxPlusHead):
            distances = distances / head.distance_scale.abs()
        # Scales are the same for all classes, so the nearest prototype is the predicted one's.
        nearest = distances.amin(dim=1, keepdim=True)
        # Factored, since the difference of two large squares loses digits.
        found = (distances - nearest) * (distances + nearest) / (2 * gaps)
    classes = torch.arange(found.shape[1], device=found.device)
    own = classes == predicted.unsqueeze(1)  # there is no boundary of a class with itself
    return torch.where(own, _FAR, found).amin(dim=1)


def _isomax2_distances(
    head: IsoMax2Head, gaps: Tensor, distances: Tensor, predicted: Tensor
) -> Tensor:
    """Distances [N, C] to the boundary with each class; without meaning for the predicted one.

    With i the predicted class and T = t_j - t_i, the boundary is where
    g = (s_j d_j + T)^2 - (s_i d_i)^2 is zero, and g > 0 on the side of i. Its gradient is
    2 (A u_j - B u_i), with A = s_j (s_j d_j + T), B = s_i^2 d_i and u the unit vectors from the
    prototypes to the features; u_i . u_j follows from the three sides of a triangle. Along the
    gradient's direction n, g(x - r n) = g - r |grad g| + q r^2 with
    q = s_j^2 - s_i^2 + (T s_j / d_j) (1 - (u_j . n)^2), so the distance is the smaller root r.
    Where T = 0 (planes and spheres) this is exact; else it is exact to second order in r.
    """
    scales, tilts = head.scales, head.tilts
    d_i = distances.gather(1, predicted.unsqueeze(1))  # [N, 1]
    s_i = scales.index_select(0, predicted).unsqueeze(1)
    tilt = tilts - tilts.index_select(0, predicted).unsqueeze(1)  # T, [N, C]
    reach = scales * distances + tilt  # s_j d_j + T >= s_i d_i >= 0
    d_j = distances.clamp_min(_SMALLEST)
    a, b = scales * reach, s_i.square() * d_i
    # 1 - cos of the angle between u_i and u_j, times 2 d_i d_j: no cancellation where it is small.
    apart = (gaps - distances + d_i) * (gaps + distances - d_i)
    b_apart = s_i.square() * apart / (2 * d_j)  # B (1 - cos)
    slope = ((a - b).square() + 2 * a * b_apart).clamp_min(_SMALLEST).sqrt()  # |A u_j - B u_i|
    along = (a - b + b_apart) / slope  # u_j . n
    bend = scales.square() - s_i.square() + tilt * scales / d_j * (1 - along.square())
    margin = (reach - s_i * d_i) * (reach + s_i * d_i)  # g
    root = (slope.square() - bend * margin).clamp_min(0.0).sqrt()
    return margin / (slope + root)
