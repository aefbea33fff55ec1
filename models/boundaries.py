"""How far features lie from the nearest class boundary, for every head.

fDBD (Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", 2024) measures
this for a linear layer, whose boundaries are hyperplanes. The heads on distances have others:

- SoftMax: the plane z_i = z_j; distance (z_i - z_j) / ||w_i - w_j||.
- IsoMax: the plane halfway between two prototypes; distance (d_j^2 - d_i^2) / (2 ||p_i - p_j||).
- IsoMax+: the same plane, for features and prototypes of length 1.
- IsoMax2: s_i d_i + t_i = s_j d_j + t_j, a surface of revolution about the line through the two
  prototypes: a plane where scales and tilts are equal, a sphere of Apollonius where the tilts are.
  See :func:`_apollonian_distances`.

All that changes from image to image are the cold logits; the rest is a row of numbers a class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from isoserve.models.heads import Head, IsoMax2Head, IsoMaxHead, IsoMaxPlusHead, SoftMaxHead

_SMALLEST = 1e-12
"""Stands in for a distance of zero where one divides by it."""

_FAR = 1e30
"""Stands for the distance to a boundary of a class with itself, which there is not."""


@torch.no_grad()
def boundary_table(head: Head) -> Tensor:
    """What the boundaries of each class are known by, float32 [C, K C], found in float64.

    K rows of length C a class i, of its boundary with each class j: :data:`_FAR` for j = i and
    zero elsewhere; then what the head's kind of boundary needs.

    Raises:
        TypeError: a head whose boundaries are not known.
    """
    if isinstance(head, SoftMaxHead):
        return _rows(_gaps(head.linear.weight))
    if isinstance(head, IsoMax2Head):
        scales, tilts = head.scales.double(), head.tilts.double()
        products = scales * scales.unsqueeze(1) * _gaps(head.prototypes)  # s_i s_j ||p_i - p_j||
        bends = scales.square() - scales.square().unsqueeze(1)  # s_j^2 - s_i^2
        return _rows(products, products.square(), bends, (-2 * tilts).unsqueeze(1).expand_as(bends))
    if isinstance(head, IsoMaxPlusHead):
        scale = head.entropic_scale * head.distance_scale.double().abs()
        return _rows(2 * scale.square() * _gaps(F.normalize(head.prototypes.double())))
    if isinstance(head, IsoMaxHead):
        return _rows(2 * head.entropic_scale**2 * _gaps(head.prototypes))
    raise TypeError(f"the class boundaries of a {type(head).__name__} are not known")


def boundary_score(head: Head, table: Tensor, cold_logits: Tensor, predicted: Tensor) -> Tensor:
    """Distance of the features to the nearest boundary of the predicted class.

    Args:
        head: one of :data:`isoserve.models.heads.HEADS`.
        table: [C, K C], of :func:`boundary_table`.
        cold_logits: what the head gives for the features, [N, C].
        predicted: int64 [N], their arg max.

    Returns:
        [N], >= 0, in the unit of the features (of unit-length ones for IsoMax+); higher = more
        in-distribution.
    """
    # An embedding is one Gather in the graph.
    rows = F.embedding(predicted, table)
    itself, *known = torch.split(rows, cold_logits.shape[1], dim=1)
    best = cold_logits.amax(dim=1, keepdim=True)  # [N, 1]
    behind = best - cold_logits
    if isinstance(head, SoftMaxHead):
        found = behind / known[0]
    elif isinstance(head, IsoMax2Head):
        found = _apollonian_distances(behind, best + cold_logits, known)
    else:
        # (s d_j - s d_i) (s d_j + s d_i), factored since the difference of squares loses digits.
        found = behind * -(best + cold_logits) / known[0]
    nearest: Tensor = (found + itself).amin(dim=1)
    return nearest


def _apollonian_distances(behind: Tensor, total: Tensor, known: list[Tensor]) -> Tensor:
    """Distances [N, C] to the boundary with each class j of the predicted one i, for IsoMax2.

    Let g = (s_j d_j + t_j - t_i)^2 - (s_i d_i)^2, which is zero on the boundary and positive on
    the side of i; from the cold logits, g = (z_i - z_j) (-z_i - z_j - 2 t_i). With equal tilts the
    boundary is the sphere about c = (s_j^2 p_j - s_i^2 p_i) / (s_j^2 - s_i^2) of radius
    s_i s_j ||p_i - p_j|| / |s_j^2 - s_i^2|, and g = (s_j^2 - s_i^2) (||f - c||^2 - radius^2). So
    the distance | ||f - c|| - radius | is g / (a + sqrt(a^2 + (s_j^2 - s_i^2) g)) with
    a = s_i s_j ||p_i - p_j||, which holds for planes too, where the scales are equal.

    With other tilts it is zero in the right places, and elsewhere off by a share of about
    |t_j - t_i| / a: 0.1 % after a training, where tilts stay below 0.01 and scales near 10.

    Args:
        behind: z_i - z_j, [N, C].
        total: z_i + z_j.
        known: a, a^2, s_j^2 - s_i^2 and -2 t_i, [N, C] each.
    """
    a, a_squared, bend, twice_tilt = known
    g = behind * (twice_tilt - total)
    return g / (a + (a_squared + bend * g).clamp_min(0.0).sqrt())


def _gaps(points: Tensor) -> Tensor:
    """Distances [C, C] between the points [C, D] of each two classes, ones on the diagonal."""
    exact = points.double()
    rows = [torch.linalg.vector_norm(exact - point, dim=1) for point in exact]
    return torch.stack(rows).clamp_min(_SMALLEST).fill_diagonal_(1.0)


def _rows(*known: Tensor) -> Tensor:
    itself = _FAR * torch.eye(len(known[0]), dtype=torch.float64)
    return torch.cat((itself.to(known[0].device), *known), dim=1).float()
