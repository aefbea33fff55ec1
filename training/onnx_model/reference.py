"""The outputs of an exported model once more, in float64 NumPy and written apart from torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from isoserve.models.heads import (
    HEADS,
    Head,
    IsoMax2Head,
    IsoMaxHead,
    IsoMaxPlusHead,
    SoftMaxHead,
)
from isoserve.models.served_model import PlainModel, ServedModel

Fitted = dict[str, NDArray[np.float32]]
"""What was fitted after the export, by the initialiser's name."""

Floats = NDArray[np.float64]
References = dict[str, Floats]


@torch.no_grad()
def network_outputs(
    served: ServedModel | PlainModel, fitted: Fitted, pixels: NDArray[np.uint8]
) -> References:
    """What comes out of the network for uint8 [N, H, W, 3]: of :func:`outputs_of_features`.

    Of a network whose head is not one of ours: the distances and probabilities of torch's logits.
    """
    images = torch.from_numpy(pixels)
    if isinstance(served, PlainModel):
        cold_logits, score_logits = (logits.double().numpy() for logits in served.logits(images))
        return {
            "distances": -score_logits,
            "probabilities": softmax(cold_logits / fitted["temperature"], axis=1),
        }
    return outputs_of_features(
        served.classifier.head, served.features(images).double().numpy(), fitted
    )


@torch.no_grad()
def outputs_of_features(head: Head, features: Floats, fitted: Fitted) -> References:
    """Distances [N, C], boundary and density score [N] of features [N, D]."""
    cold_logits, score_logits = numpy_logits(head, features)
    return {
        "distances": -score_logits,
        "boundary_score": numpy_boundary(head, features, cold_logits.argmax(axis=1)),
        "density_score": _density(features, fitted),
    }


@torch.no_grad()
def logits_of_distances(head: Head, distances: Floats) -> Floats:
    """Cold logits [N, C] of distances [N, C]."""
    state = _state(head)
    if isinstance(head, IsoMax2Head):
        return -state["scales"] * distances - state["tilts"]
    if isinstance(head, (IsoMaxHead, IsoMaxPlusHead)):
        return -head.entropic_scale * distances
    assert isinstance(head, SoftMaxHead)
    return -distances


def numpy_logits(head: Head, features: Floats) -> tuple[Floats, Floats]:
    """Cold and score logits [N, C] of features [N, D]."""
    state, f = _state(head), features
    if isinstance(head, SoftMaxHead):
        z = f @ state["linear.weight"].T + state["linear.bias"]
        return z, z
    p = state["prototypes"]
    if isinstance(head, IsoMaxPlusHead):
        f = f / np.linalg.norm(f, axis=1, keepdims=True)
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
    d = np.sqrt(((f[:, np.newaxis] - p) ** 2).sum(axis=-1))
    if isinstance(head, IsoMaxPlusHead):
        d = np.abs(state["distance_scale"]) * d
    if isinstance(head, IsoMax2Head):
        return -state["scales"] * d - state["tilts"], -d
    assert isinstance(head, (IsoMaxHead, IsoMaxPlusHead))
    return -head.entropic_scale * d, -d


def numpy_boundary(head: Head, features: Floats, predicted: NDArray[np.int64]) -> Floats:
    """Distance [N] of features [N, D] to the nearest boundary of the predicted class [N].

    From vectors, where :mod:`isoserve.models.boundaries` needs only distances.
    """
    state = _state(head)
    nearest = np.full(len(features), np.inf)
    for n, (f, i) in enumerate(zip(features, predicted, strict=True)):
        for j in range(len(state["linear.weight" if "linear.weight" in state else "prototypes"])):
            if j != i:
                nearest[n] = min(nearest[n], _distance(head, state, f, (int(i), j)))
    return nearest


@torch.no_grad()
def boundary_per_distance(head: Head, distances: Floats) -> float:
    """By how much a boundary score moves, at most, as distances [N, C] move by the longest of them.

    A boundary lies between two prototypes: it moves by d / gap where d moves by one. In a head just
    begun the gaps are a hundredth of the distances.
    """
    state = _state(head)
    rows = state["linear.weight" if isinstance(head, SoftMaxHead) else "prototypes"]
    longest = float(np.abs(distances).max())
    if isinstance(head, IsoMaxPlusHead):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        longest /= float(np.abs(state["distance_scale"]).max())
    gaps = np.linalg.norm(rows[:, np.newaxis] - rows, axis=2)
    gap = float(gaps[~np.eye(len(rows), dtype=bool)].min())
    power = 1 if isinstance(head, SoftMaxHead) else 2
    return longest**power / gap if gap else np.inf


def numpy_combined(
    scores: NDArray[np.floating], factors: NDArray[np.floating], offsets: NDArray[np.floating]
) -> Floats:
    """The combined score [N] of the views' scores [N, V]."""
    found: Floats = -logsumexp(scores * factors.astype(np.float64) + offsets, axis=1)
    return found


def _distance(head: Head, state: dict[str, Floats], f: Floats, pair: tuple[int, int]) -> float:
    i, j = pair
    if isinstance(head, SoftMaxHead):
        w, b = state["linear.weight"], state["linear.bias"]
        return float(((w[i] - w[j]) @ f + b[i] - b[j]) / np.linalg.norm(w[i] - w[j]))
    p = state["prototypes"]
    if isinstance(head, IsoMaxPlusHead):
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
        f = f / np.linalg.norm(f)
    if not isinstance(head, IsoMax2Head):
        across = p[j] - p[i]
        return float(((p[i] + p[j]) / 2 - f) @ across / np.linalg.norm(across))
    # As if the tilts were equal, but for where it is zero: see isoserve.models.boundaries.
    s, tilts = state["scales"], state["tilts"]
    d_i, d_j = np.linalg.norm(f - p[i]), np.linalg.norm(f - p[j])
    margin = (s[j] * d_j + tilts[j] - tilts[i]) ** 2 - (s[i] * d_i) ** 2
    a, bend = s[i] * s[j] * np.linalg.norm(p[i] - p[j]), s[j] ** 2 - s[i] ** 2
    return float(margin / (a + np.sqrt(max(a**2 + bend * margin, 0.0))))


def _density(features: Floats, fitted: Fitted) -> Floats:
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    whitened = unit @ fitted["whitening"].astype(np.float64)
    away = whitened[:, np.newaxis] - fitted["class_means"].astype(np.float64)
    squares: Floats = (away**2).sum(axis=2)
    if "density_offset" in fitted:
        squares = fitted["density_offset"].astype(np.float64) - squares
    found: Floats = -np.sqrt(np.maximum(squares, 0.0)).min(axis=1)
    return found


def numpy_entropic(distances: Floats) -> Floats:
    """Minus the entropy [N] of distances [N, C], in nats."""
    found: Floats = (softmax(-distances, axis=1) * log_softmax(-distances, axis=1)).sum(axis=1)
    return found


def p_values(scores: Floats, rows: NDArray[np.float32], denominator: NDArray[np.float32]) -> Floats:
    """The share [N] of calibration scores [1 + n], in one row, at or below each of the scores [N].

    The first score of a row is minus infinity and stands for the image itself.
    """
    at_most = (rows.reshape(1, -1) <= scores[:, np.newaxis]).sum(axis=1)
    found: Floats = at_most / denominator
    return found


def _state(head: Head) -> dict[str, Floats]:
    assert type(head) in HEADS.values()
    return {name: value.double().numpy() for name, value in head.state_dict().items()}
