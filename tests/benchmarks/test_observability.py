"""The run that says what metrics and the log cost compares what it says it compares."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from image_bytes import colour
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import write_tiny_model

from benchmarks.serving.observability import ALL, METRICS, NAME, OFF, rounds_before, summary
from benchmarks.serving.servers import Candidate, running

COUNTED = ("isoserve_images_total", "isoserve_p_value_count", "isoserve_batch_size_count")


@pytest.mark.slow
@pytest.mark.parametrize(("candidate", "counts"), [(OFF, 0), (METRICS, 1), (ALL, 1)])
def test_each_server_counts_and_tells_what_its_name_says(
    tmp_path: Path, candidate: Candidate, counts: int
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx")
    image = tmp_path / "image.png"
    image.write_bytes(colour(255, 0, 0))
    with (
        (tmp_path / "said").open("wb") as said,
        running(candidate, model, image, stderr=said) as server,
    ):
        text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
        assert server.processor_seconds() > 0
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    for name in COUNTED:
        assert sum(each.value for each in samples if each.name == name) == counts, name
    answered = [each for each in samples if each.name == "isoserve_request_duration_seconds_count"]
    assert sum(each.value for each in answered if each.labels["status"] == "200") == counts
    verdicts = (tmp_path / "said").read_text().count('"is_ood":')
    assert verdicts == (candidate is ALL)


def load(per_second: float, cpu_us: float) -> dict[str, dict[str, float]]:
    one = {"per_second": per_second, "cpu_us": cpu_us, "errors": 0}
    return {"8": one, "64": one}


def test_ratios_are_taken_within_a_round() -> None:
    fast = {"off": load(1000, 2000), "metrics": load(990, 2020)}
    slow = {"off": load(500, 4000), "metrics": load(490, 4080)}
    found = summary([fast, slow, slow], "metrics")["8"]
    assert found["throughput"] == pytest.approx(0.98)
    assert found["throughput_range"] == pytest.approx([0.98, 0.99])
    assert found["cpu"] == pytest.approx(1.02)
    assert found["off_per_second"] == 500


def test_rounds_of_an_earlier_run_are_added_to(tmp_path: Path) -> None:
    assert rounds_before(tmp_path) == []
    rounds = [{"off": load(1, 1)}]
    (tmp_path / f"{NAME}.json").write_text(json.dumps({"rounds": rounds}))
    assert rounds_before(tmp_path) == rounds
