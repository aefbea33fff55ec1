"""What Prometheus sees of each version: that it serves, and its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from isoserve.models.combination import VIEWS
from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs
from isoserve.service.inference.reasons import reasons
from isoserve.service.observability.batch_histogram import BatchHistogram
from isoserve.service.observability.drift import P_VALUE_BUCKETS
from isoserve.service.observability.exemplars import exemplar_of
from isoserve.service.observability.metric_files import slot_name
from isoserve.service.observability.p_value_window import PValueWindow
from isoserve.service.observability.prometheus_text import LEFT

VERDICTS = ("in_distribution", "ood")
OF_MODEL = ("model", "version")

SCORE_BUCKETS = (
    -7,
    -5,
    -4,
    -3,
    -2.5,
    -2,
    -1.75,
    -1.5,
    -1.25,
    -1,
    -0.75,
    -0.5,
    -0.25,
    -0.1,
    -0.05,
    -0.01,
)
"""In nats: minus an entropy lies between -log(classes) and 0."""

KEPT_VERSIONS = 10
"""Versions that have left and whose counts stay, for a rollback and for the scrapes after it."""


class ModelMetrics:
    """The series of all versions.

    Args:
        shared_folder: where several processes count together; None where this is the only one.
    """

    def __init__(self, registry: CollectorRegistry, shared_folder: Path | None) -> None:
        self.shared_folder = shared_folder
        self._gone: dict[tuple[str, str], Sequence[str]] = {}
        self.images = Counter(
            "isoserve_images_total",
            "Verdicts at the operator's alpha.",
            (*OF_MODEL, "verdict"),
            registry=registry,
        )
        self.predictions = Counter(
            "isoserve_predictions_total",
            "Verdicts by predicted class.",
            (*OF_MODEL, "label", "verdict"),
            registry=registry,
        )
        self.rejections = Counter(
            "isoserve_rejections",
            "Images judged out-of-distribution, by the view that spoke most against them.",
            (*OF_MODEL, "reason"),
            registry=registry,
        )
        self.p_value = BatchHistogram(
            "isoserve_p_value",
            "Conformal p-values; uniform on in-distribution traffic.",
            OF_MODEL,
            buckets=P_VALUE_BUCKETS,
            registry=registry,
        )
        self.entropic_score = BatchHistogram(
            "isoserve_entropic_score",
            "Entropic scores in nats; higher = more in-distribution.",
            OF_MODEL,
            buckets=SCORE_BUCKETS,
            registry=registry,
        )
        self._info = Gauge(
            "isoserve_model_info",
            "1 for each version that serves.",
            (*OF_MODEL, "sha256", "network", "loss", "engine", "precision"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._alpha = Gauge(
            "isoserve_model_alpha",
            "The operator's alpha.",
            OF_MODEL,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._calibration_images = Gauge(
            "isoserve_model_calibration_images",
            "Images that the version's p-values are calibrated on.",
            OF_MODEL,
            registry=registry,
            multiprocess_mode="livemax",
        )

    def model_serves(self, model: Model, alpha: float) -> ModelSeries:
        """Create the version's series, at zero, and mark it as serving."""
        key = (model.name, str(model.version))
        self._gone.pop(key, None)
        self._info.labels(*_info_labels(model)).set(1)
        self._alpha.labels(*key).set(alpha)
        self._calibration_images.labels(*key).set(model.card.calibration.n)
        return ModelSeries(self, model, alpha)

    def model_left(self, model: Model) -> None:
        """The version serves no more; its counts stay, until several others have left after it.

        Where several processes count, the counts of all versions stay: they are in files.
        """
        key = (model.name, str(model.version))
        self._gone[key] = model.labels
        while len(self._gone) > KEPT_VERSIONS and self.shared_folder is None:
            oldest = next(iter(self._gone))
            self._forget(oldest, self._gone.pop(oldest))
        for gauge, labels in (
            (self._info, _info_labels(model)),
            (self._alpha, key),
            (self._calibration_images, key),
        ):
            if self.shared_folder is None:
                gauge.remove(*labels)
            else:
                gauge.labels(*labels).set(LEFT)

    def _forget(self, key: tuple[str, str], labels: Sequence[str]) -> None:
        """Remove a version's counts: each swap would add some kilobytes to every scrape."""
        for verdict in VERDICTS:
            self.images.remove(*key, verdict)
            for label in labels:
                self.predictions.remove(*key, label, verdict)
        for view in VIEWS:
            self.rejections.remove(*key, view)
        self.p_value.remove(*key)
        self.entropic_score.remove(*key)


class ModelSeries:
    """One version's series, bound once, so that counting looks nothing up."""

    def __init__(self, metrics: ModelMetrics, model: Model, alpha: float) -> None:
        key = (model.name, str(model.version))
        window_key = f"{model.name}-{model.version}-{model.sha256}"
        self.window = PValueWindow(window_key, metrics.shared_folder, owner=slot_name())
        self._alpha = np.float32(alpha)
        self._images = [metrics.images.labels(*key, verdict) for verdict in VERDICTS]
        self._card = model.card
        self._rejections = {view: metrics.rejections.labels(*key, view) for view in VIEWS}
        self._predictions = [
            [metrics.predictions.labels(*key, label, verdict) for verdict in VERDICTS]
            for label in model.labels
        ]
        self._p_value = metrics.p_value.labels(*key)
        self._entropic_score = metrics.entropic_score.labels(*key)

    def count(self, outputs: Outputs, request_ids: Sequence[str]) -> None:
        """Count a batch's verdicts, at the operator's alpha whatever a request asked for.

        Args:
            request_ids: of the images, in the outputs' order.
        """
        rejected = (~(outputs.deciding_p_value > self._alpha)).tolist()
        ood = sum(rejected)
        self._images[0].inc(len(rejected) - ood)
        if ood:
            self._images[1].inc(ood, exemplar_of(request_ids[rejected.index(True)]))
            for view, out in zip(reasons(self._card, outputs), rejected, strict=True):
                if out:
                    self._rejections[view].inc()
        self.window.add(outputs.p_value, ood)
        predictions: dict[tuple[int, bool], int] = {}
        for each in zip(outputs.predicted, rejected, strict=True):
            predictions[each] = predictions.get(each, 0) + 1
        for (index, out), count in predictions.items():
            self._predictions[index][out].inc(count)
        self._p_value.observe_all(outputs.p_value.tolist())
        self._entropic_score.observe_all(outputs.entropic_score.tolist())


def _info_labels(model: Model) -> tuple[str, ...]:
    card, form = model.card, (model.form.engine, model.form.precision)
    return (model.name, str(model.version), model.sha256, card.network, card.loss, *form)
