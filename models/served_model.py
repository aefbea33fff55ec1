"""The whole graph that is exported: pixels in, verdict out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isoserve.models.scores import entropic_score


class ServedModel(nn.Module):
    """uint8 images [N, H, W, 3] -> the outputs of :data:`isoserve.models.card.OUTPUT_NAMES`.

    The calibration buffers are placeholders until
    :mod:`isoserve.training.onnx_model.calibrate` sets them in the exported graph; their names are
    the initialisers' names there. Denominators are n + 1 as they stand: the exporter would fold
    an addition away, and the name with it.

    Args:
        classifier: normalised images float [N, 3, H, W] -> :class:`isoserve.models.heads.Logits`;
            a :class:`isoserve.models.classifier.Classifier` or any other module.
        num_classes: C.
        mean: of each channel of the pixels in 0..1; ``std`` likewise.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    calibration_scores: Tensor
    calibration_denominator: Tensor
    class_calibration_scores: Tensor
    class_calibration_denominators: Tensor

    def __init__(
        self, classifier: nn.Module, num_classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("temperature", torch.ones(1))
        self.register_buffer("calibration_scores", torch.zeros(1, 2))
        self.register_buffer("calibration_denominator", torch.full((1,), 3.0))
        self.register_buffer("class_calibration_scores", torch.zeros(num_classes, 2))
        self.register_buffer("class_calibration_denominators", torch.full((num_classes,), 3.0))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> float32 [N, 3, H, W], what the classifier takes."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        logits = self.classifier(self.normalize(images))
        probabilities = torch.softmax(logits.cold_logits / self.temperature, dim=1)
        score = entropic_score(logits.score_logits)  # [N]
        p_value = _p_value(score, self.calibration_scores, self.calibration_denominator)
        predicted = logits.cold_logits.argmax(dim=1)
        class_p_value = _p_value(
            score,
            self.class_calibration_scores.index_select(0, predicted),
            self.class_calibration_denominators.index_select(0, predicted),
        )
        return probabilities, score, p_value, class_p_value, -logits.score_logits


def _p_value(score: Tensor, calibration_scores: Tensor, denominator: Tensor) -> Tensor:
    """(1 + #{calibration scores <= score}) / (n + 1), [N]; calibration scores [N or 1, n].

    Conformal (Bates et al., Annals of Statistics 2023): uniform on in-distribution images.
    """
    at_most = (calibration_scores <= score.unsqueeze(1)).float().sum(dim=1)
    return (1 + at_most) / denominator
