"""Numbers that name a request, and the formats they are served in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from image_bytes import colour
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from prometheus_client.samples import Sample
from running_server import RunningServer

from isoserve.service.observability.exemplars import (
    MOST_CHARACTERS,
    PAUSE_SECONDS,
    Exemplars,
    exemplar_of,
)
from isoserve.service.observability.request_record import RequestRecord

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"


def samples(server: RunningServer, name: str) -> Iterator[Sample]:
    """Of a metric, as a scraper that takes OpenMetrics gets them."""
    answer = server.get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    for family in openmetrics(answer.text):
        yield from (sample for sample in family.samples if sample.name == name)


def test_the_latency_histogram_names_a_request_of_each_bucket(server: RunningServer) -> None:
    ids = set()
    for _ in range(3):
        answer = server.post("/v1/predict", content=colour(255, 0, 0))
        ids.add(answer.headers["x-request-id"])
    named = {
        sample.exemplar.labels["request_id"]: sample.exemplar.value
        for sample in samples(server, "isoserve_request_duration_seconds_bucket")
        if sample.exemplar and sample.labels["route"] == "/v1/predict"
    }
    assert named
    assert all(seconds > 0 for seconds in named.values())
    assert ids & set(named)


def test_the_counter_of_rejections_names_a_rejected_request(server: RunningServer) -> None:
    files = [("files", ("x", colour(*rgb))) for rgb in ((255, 0, 0), (128, 128, 128))]
    answer = server.post("/v1/predict/batch", files=files)
    assert [each["ood"]["is_ood"] for each in answer.json()["results"]] == [False, True]
    (rejected,) = [
        sample
        for sample in samples(server, "isoserve_images_total")
        if sample.labels["verdict"] == "ood"
    ]
    assert rejected.exemplar
    assert rejected.exemplar.labels == {"request_id": answer.json()["id"]}


@pytest.mark.parametrize("accept", ["*/*", "text/plain;version=0.0.4", "", "application/json"])
def test_who_does_not_ask_for_openmetrics_gets_the_plain_format(
    server: RunningServer, accept: str
) -> None:
    answer = server.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "request_id" not in answer.text
    assert "# EOF" not in answer.text


def test_both_formats_tell_the_same_numbers_but_what_openmetrics_forbids(
    server: RunningServer,
) -> None:
    server.post("/v1/predict", content=colour(0, 255, 0))

    def numbers(families: Iterator[object]) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples  # type: ignore[attr-defined]
            if sample.name.startswith("isoserve_") and "/metrics" not in sample.labels.values()
        }

    first = numbers(plain(server.get("/metrics").text))
    second = numbers(openmetrics(server.get("/metrics", headers={"Accept": OPENMETRICS}).text))
    uncounted = {key for key in first if key[0] == "isoserve_entropic_score_count"}
    assert {key: value for key, value in first.items() if key not in uncounted} == second


def record(started: float, seconds: float) -> RequestRecord:
    made = RequestRecord("an-id", "POST")
    made.started, made.seconds = started, seconds
    return made


def test_quick_requests_are_thinned_and_slow_ones_all_named() -> None:
    exemplars = Exemplars()
    times = np.arange(0, 1, PAUSE_SECONDS / 10)
    quick = sum(exemplars.of_request(record(at, 0.001)) is not None for at in times)
    assert 0.8 / PAUSE_SECONDS <= quick <= 1 / PAUSE_SECONDS
    assert all(exemplars.of_request(record(at, 0.2)) for at in times)


@pytest.mark.parametrize("trace_id", ["", "f" * 32])
def test_an_exemplar_is_never_longer_than_openmetrics_allows(trace_id: str) -> None:
    for length in range(1, 129):
        exemplar = exemplar_of("x" * length, trace_id)
        size = sum(len(name) + len(value) for name, value in (exemplar or {}).items())
        assert size <= MOST_CHARACTERS
        assert exemplar is not None or length > 70
