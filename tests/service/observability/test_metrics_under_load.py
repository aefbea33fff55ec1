"""Scraped while many clients send everything at once, the numbers are right to the unit."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from image_bytes import colour
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

CLIENTS, ROUNDS = 6, 12
IMAGES = [colour(*rgb) for rgb in ((255, 0, 0), (0, 255, 0), (128, 128, 128), (10, 20, 200))]
BROKEN = b"no image"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

Counts = Counter[tuple[str, ...]]
"""(metric, values of its labels but model and version) -> count."""


def scraped(server: RunningServer) -> Counts:
    """The counters and the histograms' counts."""
    found: Counts = Counter()
    for family in openmetrics(server.get("/metrics", headers=OPENMETRICS).text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model", "version")}
            if sample.name.endswith(("_total", "_count")) or labels.get("le") == "+Inf":
                found[sample.name, *(labels[key] for key in sorted(labels))] += int(sample.value)
    return found


def send(server: RunningServer, client_number: int) -> Counts:
    """Single images, batches and what is not an image; what must have been counted of it."""
    sent: Counts = Counter()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(ROUNDS):
            image = IMAGES[(number + client_number) % len(IMAGES)]
            answer = client.post("/v1/predict", content=image)
            count_answers(sent, "/v1/predict", [answer.raise_for_status().json()])
            refused = client.post("/v1/predict", content=BROKEN)
            route = "isoserve_request_duration_seconds_count"
            sent[route, "/v1/predict", str(refused.status_code)] += 1
            sent["isoserve_invalid_images_total", refused.json()["reason"]] += 1
            files = [("files", ("x.png", data)) for data in (*IMAGES, image)]
            batch = client.post("/v1/predict/batch", files=files).raise_for_status().json()
            count_answers(sent, "/v1/predict/batch", batch["results"])
    return sent


def count_answers(sent: Counts, route: str, answers: list[dict[str, dict[str, str]]]) -> None:
    sent["isoserve_request_duration_seconds_count", route, "200"] += 1
    for answer in answers:
        verdict = "ood" if answer["ood"]["is_ood"] else "in_distribution"
        sent["isoserve_images_total", verdict] += 1
        sent["isoserve_predictions_total", answer["prediction"]["label"], verdict] += 1
        for histogram in ("p_value", "entropic_score"):
            sent[f"isoserve_{histogram}_bucket", "+Inf"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_scraped_under_load_is_what_was_answered(
    start_server: StartServer, tmp_path: Path, workers: int
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server = start_server(tmp_path, "--workers", str(workers), "--queue-seconds", "30")
    before = scraped(server)
    scrapes = [before]
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            scrapes.append(scraped(server))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            sent = sum(pool.map(lambda number: send(server, number), range(CLIENTS)), Counter())
    finally:
        over.set()
        scraper.join()
    after = scraped(server)
    assert sent["isoserve_images_total", "ood"]
    assert {key: after[key] - before[key] for key in sent} == dict(sent)
    judged = sum(count for key, count in sent.items() if key[0] == "isoserve_images_total")
    assert judged == 6 * ROUNDS * CLIENTS
    for of_image in ("isoserve_queue_wait_seconds", "isoserve_decode_duration_seconds"):
        assert after[f"{of_image}_count",] - before[f"{of_image}_count",] == judged
    # Counters only grow, in whichever order scrapes and answers meet.
    for earlier, later in zip(scrapes, [*scrapes[1:], after], strict=True):
        assert all(later[key] >= count for key, count in earlier.items())
