"""Metrics against scikit-learn where ties permit, against brute force where they do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score, roc_curve

from isoserve.training.evaluation import metrics

RNG = np.random.default_rng(20)


def samples(n: int, m: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    inside, outside = RNG.normal(1.0, 1.0, n), RNG.normal(0.0, 1.3, m)
    if levels is not None:
        inside, outside = np.round(inside * levels) / levels, np.round(outside * levels) / levels
    return inside, outside


def brute_auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    return float(np.mean([[i > o for o in outside] for i in inside]))


def brute_dtacc(inside: np.ndarray, outside: np.ndarray) -> float:
    values = sorted({*inside.tolist(), *outside.tolist()})
    cuts = [values[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(values))]
    cuts.append(values[-1] + 1)
    truth = [1] * len(inside) + [0] * len(outside)
    scores = np.concatenate([inside, outside])
    return max(float(balanced_accuracy_score(truth, scores > cut)) for cut in cuts)


def brute_tnr(inside: np.ndarray, outside: np.ndarray) -> float:
    ranked = sorted(inside.tolist())
    threshold = ranked[int(0.05 * (len(ranked) - 1))]
    return sum(o < threshold for o in outside.tolist()) / len(outside)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (19, 20), (500, 137), (1000, 2000)])
def test_without_ties_auroc_is_scikit_learns(n: int, m: int) -> None:
    inside, outside = samples(n, m)
    truth = np.repeat([1, 0], [n, m])
    expected = roc_auc_score(truth, np.concatenate([inside, outside]))
    assert metrics.auroc(inside, outside) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (7, 1), (20, 20), (21, 40), (60, 90)])
@pytest.mark.parametrize("levels", [None, 1, 4])
def test_all_three_equal_brute_force_with_and_without_ties(
    n: int, m: int, levels: int | None
) -> None:
    inside, outside = samples(n, m, levels)
    assert metrics.auroc(inside, outside) == pytest.approx(brute_auroc(inside, outside), abs=1e-12)
    assert metrics.dtacc(inside, outside) == pytest.approx(brute_dtacc(inside, outside), abs=1e-12)
    assert metrics.tnr_at_tpr95(inside, outside) == brute_tnr(inside, outside)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 1), (20, 20), (60, 99), (300, 1000)])
@pytest.mark.parametrize("levels", [None, 4])
def test_fpr_has_the_out_distribution_as_positive_as_openood_does(
    n: int, m: int, levels: int | None
) -> None:
    inside, outside = samples(n, m, levels)
    truth = np.repeat([0, 1], [n, m])
    fpr, tpr, _ = roc_curve(truth, -np.concatenate([inside, outside]), drop_intermediate=False)
    assert metrics.fpr_at_95(inside, outside) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_fpr_is_of_the_in_distribution() -> None:
    # 19 of 20 others lie at or below 18; of the 4 inside, one does.
    assert metrics.fpr_at_95([18.0, 18.5, 30.0, 40.0], np.arange(20.0)) == 0.25
    assert metrics.fpr_at_95([0.5] * 40, [0.5] * 30) == 1.0


def test_ties_count_against_the_detector() -> None:
    constant = metrics.ood_metrics([0.5] * 40, [0.5] * 30)
    assert constant == metrics.OODMetrics(tnr_at_tpr95=0.0, auroc=0.0, dtacc=0.5)
    assert roc_auc_score([1, 1, 0, 0], [0.5] * 4) == 0.5
    assert metrics.auroc([1.0, 0.0], [0.0]) == 0.5


def test_perfect_and_inverted_separation() -> None:
    high, low = np.linspace(2, 3, 100), np.linspace(0, 1, 50)
    assert metrics.ood_metrics(high, low) == metrics.OODMetrics(1.0, 1.0, 1.0)
    assert metrics.ood_metrics(low, high) == metrics.OODMetrics(0.0, 0.0, 0.5)


def test_at_least_95_percent_of_the_in_distribution_stay_above_the_threshold() -> None:
    inside = np.arange(100.0)
    # The lower 5 % quantile of 0..99 is 4: 96 of 100 stand at or above it, 4 outsiders below.
    assert metrics.tnr_at_tpr95(inside, [3.0, 4.0, 3.999, -1.0, 50.0]) == pytest.approx(3 / 5)


def test_dtacc_is_never_below_what_tnr_at_tpr95_implies() -> None:
    for _ in range(50):
        both = metrics.ood_metrics(*samples(200, 150))
        assert both.dtacc >= (0.95 + both.tnr_at_tpr95) / 2 - 1e-12


def test_a_score_and_a_growing_function_of_it_give_the_same_metrics() -> None:
    inside, outside = samples(300, 200, 8)
    assert metrics.ood_metrics(inside, outside) == metrics.ood_metrics(
        np.exp(inside), np.exp(outside)
    )


def test_float32_scores_are_compared_exactly() -> None:
    inside = np.array([0.1], dtype=np.float32)
    assert metrics.auroc(inside, [0.1]) == 1.0  # float32(0.1) is above 0.1
    assert metrics.auroc(inside, inside) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["ood_metrics", "auroc", "tnr_at_tpr95", "fpr_at_95", "dtacc"])
def test_scores_that_are_no_numbers_are_refused_with_their_count(name: str, bad: float) -> None:
    measure = getattr(metrics, name)
    with pytest.raises(ValueError, match="2 of 3 in-distribution scores are NaN or infinite"):
        measure([bad, 1.0, bad], [0.0])
    with pytest.raises(ValueError, match="1 of 1 out-distribution scores"):
        measure([1.0], [bad])


@pytest.mark.parametrize("name", ["ood_metrics", "auroc", "tnr_at_tpr95", "fpr_at_95", "dtacc"])
def test_empty_samples_and_tables_are_refused(name: str) -> None:
    measure = getattr(metrics, name)
    with pytest.raises(ValueError, match="no in-distribution scores"):
        measure([], [1.0])
    with pytest.raises(ValueError, match="no out-distribution scores"):
        measure([1.0], [])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        measure([[1.0, 2.0]], [1.0])


def brute_ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    total = 0.0
    for b in range(bins):
        inside = [
            (row.max(), int(row.argmax()) == target)
            for row, target in zip(probabilities, targets, strict=True)
            if b / bins < row.max() <= (b + 1) / bins
        ]
        if inside:
            confidence, correct = np.mean(inside, axis=0)
            total += len(inside) / len(targets) * abs(correct - confidence)
    return total


def test_calibration_error_equals_its_definition() -> None:
    probabilities = RNG.dirichlet(np.full(5, 0.4), size=400)
    targets = RNG.integers(0, 5, 400)
    expected = brute_ece(probabilities, targets)
    assert expected > 0.1
    assert metrics.expected_calibration_error(probabilities, targets) == pytest.approx(
        expected, abs=1e-12
    )


def test_calibration_error_of_sure_predictions() -> None:
    sure = np.eye(4)
    assert metrics.expected_calibration_error(sure, [0, 1, 2, 3]) == 0.0
    assert metrics.expected_calibration_error(sure, [1, 2, 3, 0]) == 1.0
    assert metrics.expected_calibration_error(sure, [0, 1, 3, 2]) == 0.5


def test_calibration_error_stays_in_its_bins_where_confidence_and_accuracy_differ() -> None:
    # Two bins that err in opposite directions must not cancel.
    probabilities = np.array([[0.6, 0.4], [0.95, 0.05]])
    assert metrics.expected_calibration_error(probabilities, [0, 1]) == pytest.approx(
        (0.4 + 0.95) / 2
    )


def test_accuracy_and_likelihood_equal_scikit_learns() -> None:
    probabilities = RNG.dirichlet(np.ones(3), size=200)
    targets = RNG.integers(0, 3, 200)
    assert metrics.accuracy(probabilities, targets) == np.mean(probabilities.argmax(1) == targets)
    assert metrics.negative_log_likelihood(probabilities, targets) == pytest.approx(
        log_loss(targets, probabilities, labels=[0, 1, 2])
    )


def test_a_probability_of_zero_has_a_finite_likelihood() -> None:
    assert metrics.negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(87.336, abs=1e-2)


@pytest.mark.parametrize(
    "name", ["accuracy", "expected_calibration_error", "negative_log_likelihood"]
)
def test_probabilities_that_do_not_fit_their_targets_are_refused(name: str) -> None:
    measure = getattr(metrics, name)
    with pytest.raises(ValueError, match=r"\[N, C\] and \[N\] are wanted"):
        measure([[0.5, 0.5]], [0, 1])
    with pytest.raises(ValueError, match="no rows"):
        measure(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match="1 of 2 probabilities are NaN"):
        measure([[np.nan, 0.5]], [0])
    with pytest.raises(ValueError, match="targets from 2 to 2 for 2 classes"):
        measure([[0.5, 0.5]], [2])
    with pytest.raises(ValueError, match="whole numbers are wanted"):
        measure([[0.5, 0.5]], [0.0])
