"""The window of p-values, its statistics against SciPy, and the route that gives them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_bytes import colour
from running_server import StartServer
from scipy import stats
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.observability.drift import (
    P_VALUE_BUCKETS,
    chi_squared_quantile,
    coarse,
    expected_shares,
    kolmogorov,
    stability,
    wilson,
)
from isoserve.service.observability.p_value_window import (
    FINE_BUCKETS,
    LONGEST_WINDOW,
    PValueWindow,
)

ROOT = Path(__file__).parents[3]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fine_counts(p_values: np.ndarray) -> np.ndarray:
    window = PValueWindow()
    window.add(p_values.astype(np.float32), 0)
    return window.last(LONGEST_WINDOW)[0]


def conformal(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    below = np.searchsorted(np.sort(calibration), scores, side="right")
    return (1 + below) / (1 + len(calibration))


def test_an_image_on_an_edge_is_counted_below_it_as_the_verdict_compares_it() -> None:
    edges = np.array(P_VALUE_BUCKETS, dtype=np.float32)
    assert coarse(fine_counts(edges)).tolist() == [1] * len(P_VALUE_BUCKETS)
    just_above = np.nextafter(edges[:-1], np.float32(1))
    assert coarse(fine_counts(just_above)).tolist() == [0] + [1] * (len(P_VALUE_BUCKETS) - 1)


def test_coarse_counts_are_numpys_histogram() -> None:
    p_values = np.random.default_rng(0).random(5000)
    expected = np.histogram(p_values, [0, *P_VALUE_BUCKETS])[0]
    assert coarse(fine_counts(p_values)).tolist() == expected.tolist()


def test_a_p_value_that_is_no_number_counts_as_the_lowest() -> None:
    assert fine_counts(np.array([np.nan]))[0] == 1


def test_what_is_older_than_the_window_is_left_out_and_its_memory_used_again() -> None:
    clock = Clock()
    window = PValueWindow(clock=clock)
    window.add(np.array([0.5], dtype=np.float32), 1)
    clock.now += 295
    window.add(np.array([0.5, 0.9], dtype=np.float32), 0)
    assert [int(window.last(s)[0].sum()) for s in (60, 300, 3600)] == [2, 3, 3]
    assert window.last(300)[1] == 1
    clock.now += 60
    assert [int(window.last(s)[0].sum()) for s in (60, 300, 3600)] == [0, 2, 3]
    clock.now += LONGEST_WINDOW
    assert int(window.last(3600)[0].sum()) == 0
    window.add(np.array([0.1], dtype=np.float32), 1)
    assert (int(window.last(3600)[0].sum()), window.last(3600)[1]) == (1, 1)


def test_windows_of_one_version_in_several_processes_are_added_up(tmp_path: Path) -> None:
    clock = Clock()
    first = PValueWindow("m-1", tmp_path, clock)
    second = PValueWindow("m-1", tmp_path, clock)
    other = PValueWindow("m-10", tmp_path, clock)
    for window, images in ((first, 3), (second, 4), (other, 100)):
        window.add(np.full(images, 0.5, dtype=np.float32), images)
    for window in (first, second):
        counts, rejected = window.last(60)
        assert (int(counts.sum()), int(counts[FINE_BUCKETS // 2 - 1]), rejected) == (7, 7, 7)
    script = (
        "import sys, numpy, pathlib\n"
        "from isoserve.service.observability.p_value_window import PValueWindow\n"
        "window = PValueWindow('m-1', pathlib.Path(sys.argv[1]), lambda: 1000.0)\n"
        "window.add(numpy.full(5, 0.5, dtype=numpy.float32), 5)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True)
    assert first.last(60)[1] == 12, "what a process that has ended served still counts"
    clock.now += 2 * LONGEST_WINDOW
    PValueWindow("m-1", tmp_path, clock)
    assert len(list(tmp_path.iterdir())) == 1


def test_threads_lose_no_count() -> None:
    from concurrent.futures import ThreadPoolExecutor

    window = PValueWindow()
    batch = np.linspace(0.01, 1, 20, dtype=np.float32)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(400):
            pool.submit(window.add, batch, 1)
    counts, rejected = window.last(LONGEST_WINDOW)
    assert (int(counts.sum()), rejected) == (8000, 400)


@pytest.mark.parametrize(("n", "m"), [(40, 200), (300, 200), (1000, 5000)])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kolmogorov_is_smirnovs_two_sample_test_of_the_scores(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n + m)
    calibration, scores = rng.normal(0, 1, m), rng.normal(-shift, 1, n)
    found = kolmogorov(fine_counts(conformal(scores, calibration)), m)
    expected = stats.ks_2samp(scores, calibration, method="asymp")
    # Read at the edges only: too small by one step and one rank at most, never too large.
    step = 1 / FINE_BUCKETS + 1 / m
    assert expected.statistic - step <= found.distance <= expected.statistic + 1 / (m + 1)
    root = np.sqrt(n * m / (n + m))
    tail = stats.kstwobign.sf((root + 0.12 + 0.11 / root) * found.distance)
    assert found.p_value == pytest.approx(tail, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(30, 200), (1000, 200), (300, 5000), (5000, 1000)])
def test_in_distribution_traffic_is_called_drift_once_in_a_hundred(n: int, m: int) -> None:
    rng = np.random.default_rng(7)
    trials = 300
    alarms = np.zeros(2)
    for _ in range(trials):
        fine = fine_counts(conformal(rng.random(n), rng.random(m)))
        index = stability(coarse(fine), m)
        alarms += kolmogorov(fine, m).p_value < 0.01, index.value > index.limit
    assert (alarms <= stats.binom.ppf(0.9999, trials, 0.01)).all()


def test_a_tenth_of_foreign_images_among_a_thousand_is_called_drift() -> None:
    rng = np.random.default_rng(0)
    p_values = np.concatenate([rng.random(900), np.full(100, 1 / 5001)])
    fine = fine_counts(p_values)
    index = stability(coarse(fine), 5000)
    assert kolmogorov(fine, 5000).p_value < 1e-6
    assert index.value > 2 * index.limit


def test_wilsons_interval_and_the_chi_squared_quantile_are_scipys() -> None:
    for hits, n in [(0, 10), (3, 40), (40, 40), (500, 9000)]:
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)
    for degrees in range(3, 13):
        assert chi_squared_quantile(0.99, degrees) == pytest.approx(
            stats.chi2.ppf(0.99, degrees), rel=0.01
        )


def test_a_small_calibration_can_never_give_the_lowest_p_values() -> None:
    shares = expected_shares(59)
    assert shares[0] == 0
    assert shares.sum() == pytest.approx(1)
    assert np.isfinite(stability(coarse(fine_counts(np.linspace(0.02, 1, 50))), 59).value)


def test_the_route_counts_every_image_once_and_says_how_it_deviates(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx", TinyModel())
    server = start_server(tmp_path)
    empty = server.get("/v1/models/tiny/drift").json()
    assert (empty["images"], empty["kolmogorov"], empty["stability"]) == (0, None, None)
    assert empty["rejection"]["share"] is None
    p_values = [
        server.post("/v1/predict", content=colour(*rgb)).json()["ood"]["p_value"]
        for rgb in [(255, 0, 0)] * 5 + [(128, 128, 128)] * 35
    ]
    found = server.get("/v1/models/tiny/drift", params={"window": 3600}).json()
    assert (found["model"], found["version"], found["window_seconds"]) == ("tiny", 1, 3600)
    assert found["scope"] == "process"
    expected = np.histogram(np.float32(p_values), np.float32([0, *P_VALUE_BUCKETS]))[0]
    assert [bucket["count"] for bucket in found["histogram"]] == expected.tolist()
    assert sum(found["fine_counts"]) == found["images"] == 40
    rejection = found["rejection"]
    assert rejection["rejected"] == sum(p <= 0.05 for p in p_values) == 35
    assert rejection["verdict"] == "above"
    assert rejection["lower"] < rejection["share"] < rejection["upper"]
    assert found["kolmogorov"]["drifted"]
    assert found["stability"]["drifted"]


def test_with_several_workers_the_route_counts_the_images_of_all(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx", TinyModel())
    server = start_server(tmp_path, "--workers", "2", "--slots", "1")
    for _ in range(30):
        assert server.post("/v1/predict", content=colour(128, 128, 128)).status_code == 200
    for _ in range(6):
        found = server.get("/v1/models/tiny/drift").json()
        assert (found["images"], found["rejection"]["rejected"]) == (30, 30)
        assert found["scope"] == "workers"


def test_a_window_out_of_range_and_an_unknown_model_are_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx", TinyModel())
    server = start_server(tmp_path)
    assert server.get("/v1/models/nope/drift").status_code == 404
    for window in ("5", "1e9", "nan", "x"):
        response = server.get("/v1/models/tiny/drift", params={"window": window})
        assert response.status_code == 422, window
        assert response.json()["reason"] == "bad_parameter"
    document = server.get("/openapi.json").json()
    assert "/v1/models/{name}/drift" in document["paths"]
    assert document["components"]["schemas"]["DriftDocument"]["properties"]["scope"]["description"]
