"""The whole graph that is exported: pixels in, verdict out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isoserve.models.boundaries import boundary_score, boundary_table
from isoserve.models.card import SCHEMA_1_OUTPUTS, SCHEMA_2_OUTPUTS, ScoreKind
from isoserve.models.classifier import Classifier
from isoserve.models.combination import VIEWS
from isoserve.models.heads import Head, Logits
from isoserve.models.scores import entropic_score
from isoserve.models.views import DensityForm, combined_score, density_form, density_score

FEATURES = "features"
"""The tensor [N, D] of the exported graph that every view is made from."""


class Calibrated(nn.Module):
    """Conformal p-values and class probabilities, from buffers that calibration sets.

    They are placeholders until :mod:`isoserve.training.onnx_model.calibrate` sets them in the
    exported graph; their names are the initialisers' names there. Denominators are n + 1 as they
    stand: the exporter would fold an addition away, and the name with it.
    """

    temperature: Tensor
    calibration_scores: Tensor
    calibration_denominator: Tensor
    class_calibration_scores: Tensor
    class_calibration_denominators: Tensor
    output_names: tuple[str, ...]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # No placeholder equals another or a likely weight: the exporter makes equal ones into one.
        self.register_buffer("temperature", torch.full((1,), 0.8125))
        self.register_buffer("calibration_scores", _scores(1, 0.0))
        self.register_buffer("calibration_denominator", torch.full((1,), 3.0))
        self.register_buffer("class_calibration_scores", _scores(num_classes, 0.0))
        self.register_buffer("class_calibration_denominators", torch.full((num_classes,), 3.0))

    def probabilities(self, logits: Logits) -> Tensor:
        """[N, C], calibrated."""
        return torch.softmax(logits.cold_logits / self.temperature, dim=1)

    def p_value(self, score: Tensor) -> Tensor:
        """[N], of scores [N] among all calibration images."""
        return p_value(score, self.calibration_scores, self.calibration_denominator)

    def class_p_value(self, score: Tensor, predicted: Tensor) -> Tensor:
        """[N], of scores [N] among the calibration images of the predicted classes [N]."""
        return p_value(
            score,
            F.embedding(predicted, self.class_calibration_scores),  # one Gather in the graph
            self.class_calibration_denominators.index_select(0, predicted),
        )


def p_value(score: Tensor, calibration_scores: Tensor, denominator: Tensor) -> Tensor:
    """(1 + #{calibration scores <= score}) / (n + 1), [N].

    Conformal (Bates et al., Annals of Statistics 2023): uniform on in-distribution images.

    Args:
        score: [N].
        calibration_scores: [N or 1, 1 + n]; the first, minus infinity, stands for the image itself.
        denominator: n + 1, [N or 1].
    """
    at_most = (calibration_scores <= score.unsqueeze(1)).float().sum(dim=1)
    return at_most / denominator


def _scores(rows: int, value: float) -> Tensor:
    """A placeholder [rows, 2] of calibration scores."""
    return torch.tensor([-torch.inf, value]).repeat(rows, 1)


class Verdict(Calibrated):
    """Features float [N, D] -> :data:`isoserve.models.card.SCHEMA_2_OUTPUTS`, in that order.

    Args:
        head: one of :data:`isoserve.models.heads.HEADS`, trained.
        score: ``combined`` decides by all views, ``entropic`` by the entropic score alone.
        form: of the density score; that of :func:`isoserve.models.views.density_form` if not given.

    Raises:
        TypeError: a head whose class boundaries are not known.
    """

    boundaries: Tensor
    whitening: Tensor
    class_means: Tensor
    density_offset: Tensor | None
    view_factors: Tensor
    view_offsets: Tensor
    entropic_calibration_scores: Tensor

    output_names: tuple[str, ...] = SCHEMA_2_OUTPUTS

    def __init__(self, head: Head, score: ScoreKind, form: DensityForm | None = None) -> None:
        super().__init__(head.num_classes)
        self.classifier = Classifier(nn.Identity(), head)
        self.score: ScoreKind = score
        self.register_buffer("boundaries", boundary_table(head))
        directions, has_rest = form or density_form(head.num_features, head.num_classes)
        columns = directions + has_rest
        self.register_buffer("whitening", torch.eye(head.num_features, columns))
        self.register_buffer("class_means", torch.full((head.num_classes, columns), 0.75))
        self.register_buffer("density_offset", torch.full((1,), 5.25) if has_rest else None)
        self.register_buffer("entropic_calibration_scores", _scores(1, 0.5))
        if score == "combined":
            self.register_buffer("view_factors", torch.full((len(VIEWS),), 0.25))
            self.register_buffer("view_offsets", torch.full((len(VIEWS),), 2.0))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        head = self.classifier.head
        logits: Logits = head(features)
        predicted = logits.cold_logits.argmax(dim=1)  # [N]
        entropic = entropic_score(logits.score_logits)  # [N]
        boundary = boundary_score(head, self.boundaries, logits.cold_logits, predicted)
        density = density_score(
            features.float(), self.whitening, self.class_means, self.density_offset
        )
        deciding = entropic
        if self.score == "combined":
            views = torch.stack((entropic, boundary, density), dim=1)  # [N, V]
            deciding = combined_score(views, self.view_factors, self.view_offsets)
        entropic_p = p_value(
            entropic, self.entropic_calibration_scores, self.calibration_denominator
        )
        return (
            self.probabilities(logits),
            entropic,
            boundary,
            density,
            deciding,
            self.p_value(deciding),
            entropic_p,
            self.class_p_value(deciding, predicted),
            -logits.score_logits,
        )


class ServedModel(Verdict):
    """uint8 images [N, H, W, 3] -> the outputs of schema 2, and the features [N, D] after them.

    The features are an output while the model is made, so that their statistics are those of the
    exported graph; the finished file has them as an inner tensor.

    Args:
        classifier: normalised images float [N, 3, H, W] -> logits.
        mean: of each channel of the pixels in 0..1; ``std`` likewise.
        score: as :class:`Verdict` takes it.
    """

    mean: Tensor
    std: Tensor

    output_names = (*SCHEMA_2_OUTPUTS, FEATURES)

    def __init__(
        self,
        classifier: Classifier,
        mean: Sequence[float],
        std: Sequence[float],
        score: ScoreKind = "entropic",
    ) -> None:
        super().__init__(classifier.head, score)
        self.classifier = classifier
        self.register_buffer("mean", _of_bytes(mean))
        self.register_buffer("std", _of_bytes(std))

    def features(self, images: Tensor) -> Tensor:
        """[N, D]."""
        found: Tensor = self.classifier.backbone(_normalize(images, self.mean, self.std))
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.features(images)
        return (*super().forward(features), features)


class PlainModel(Calibrated):
    """uint8 images [N, H, W, 3] -> the outputs of schema 1, for networks of unknown features.

    Args:
        network: normalised images float [N, 3, H, W] -> :class:`isoserve.models.heads.Logits`.
        num_classes: C.
        mean: of each channel of the pixels in 0..1; ``std`` likewise.
    """

    mean: Tensor
    std: Tensor

    output_names = SCHEMA_1_OUTPUTS

    def __init__(
        self, network: nn.Module, num_classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__(num_classes)
        self.classifier = network
        self.register_buffer("mean", _of_bytes(mean))
        self.register_buffer("std", _of_bytes(std))

    def logits(self, images: Tensor) -> Logits:
        """[N, C] each."""
        found: Logits = self.classifier(_normalize(images, self.mean, self.std))
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.logits(images)
        score = entropic_score(logits.score_logits)  # [N]
        predicted = logits.cold_logits.argmax(dim=1)
        return (
            self.probabilities(logits),
            score,
            self.p_value(score),
            self.class_p_value(score, predicted),
            -logits.score_logits,
        )


def _of_bytes(channels: Sequence[float]) -> Tensor:
    return 255 * torch.tensor(channels).view(1, 3, 1, 1)


def _normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (images.permute(0, 3, 1, 2).float() - mean) / std
