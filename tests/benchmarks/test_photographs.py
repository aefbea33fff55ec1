"""The photographs that servers are compared with, and what the page says of the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.images import PHOTOGRAPHS, SIZES, write_photograph
from benchmarks.serving.photographs import markdown, summary, taken_before
from benchmarks.serving.report import save_result
from isoserve.models.card import InputSpec
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import check_header, decode

SPEC = InputSpec(height=224, width=224)
LIMITS = ImageLimits()


@pytest.mark.parametrize("name", ["JPEG 1", "HEIC 1", "PNG 1", "JPEG 12"])
def test_a_photograph_is_what_it_is_called_and_is_served(tmp_path: Path, name: str) -> None:
    kind, size = PHOTOGRAPHS[name]
    body = write_photograph(tmp_path / "photograph", name).read_bytes()
    header = check_header(body, LIMITS)
    assert header.format == kind.replace("HEIC", "HEIF")
    assert (header.width, header.height) == size
    assert decode(body, SPEC, LIMITS).std() > 10  # a picture, not one colour


def test_a_jpeg_has_as_many_bytes_as_a_telephones(tmp_path: Path) -> None:
    body = write_photograph(tmp_path / "photograph", "JPEG 12").read_bytes()
    assert 2e6 < len(body) < 5e6


@pytest.mark.parametrize("megapixels", SIZES)
def test_sizes_are_their_names(megapixels: str) -> None:
    width, height = SIZES[megapixels]
    assert width * height / 1e6 == pytest.approx(float(megapixels), rel=0.15)


def load(answers: float, refused: int, errors: int) -> dict[str, float]:
    counts = {"requests": 100, "answered": 100 - refused - errors, "awaited": 8}
    times = {"p50_ms": 200.0, "p99_ms": 300.0, "processor_seconds": 0.5}
    return {"per_second": answers, **times, **counts, "refused": refused, "errors": errors}


ROUNDS = [
    {"isoserve": load(30.0, 4, 1), "plain FastAPI": load(20.0, 0, 0)},
    {"isoserve": load(10.0, 0, 0), "plain FastAPI": load(10.0, 0, 0)},
    {"isoserve": load(12.0, 2, 3), "plain FastAPI": load(10.0, 0, 0)},
]
TAKEN = {"date": "2026-11-27", "load_average_before": 0.5, "command": "the command"}


def result(photographs: dict[str, Any]) -> dict[str, Any]:
    run = {"model": "clothes", "connections": 8, "rounds": 3, "seconds": 2}
    engines = {"isoserve, auto": "openvino in bfloat16"}
    machine = {"versions": {}, "processor": "one", "cores": 2, "python": "3"}
    return {**TAKEN, **run, **machine, "engines": engines, "photographs": photographs}


def test_the_ratio_is_taken_in_each_round_and_429_is_told_from_other_errors() -> None:
    found = summary("isoserve", ROUNDS)
    assert found["ratio"] == pytest.approx(1.2)
    assert (found["least"], found["greatest"]) == (1.0, 1.5)
    assert (found["refused"], found["errors"]) == (6, 4)


def test_processor_time_is_over_all_answers_that_were_awaited() -> None:
    rounds = [{"isoserve": {**ROUNDS[0]["isoserve"], "awaited": 4}}, *ROUNDS[1:]]
    assert summary("isoserve", rounds)["processor_ms"] == pytest.approx(1_500 / 20)
    once = [ROUNDS[0], *({"isoserve": {**load(1.0, 0, 0), "awaited": 0}} for _ in range(2))]
    assert summary("isoserve", once)["processor_ms"] == pytest.approx(500 / 8)


def test_without_an_answer_there_is_no_processor_time_of_one() -> None:
    none = [{"isoserve": {**load(0.0, 100, 0), "awaited": 0}}]
    page = markdown(
        result(
            {"PNG 12": {"bytes": 0, "taken": TAKEN, "servers": {"a": summary("isoserve", none)}}}
        )
    )
    assert "| PNG 12 MP, 0.0 MB | a | – | 0.0 | – | 200 / 300 | 100 | 0 |" in page


def test_the_page_shows_each_server_and_what_is_not_served() -> None:
    servers = {name: summary("isoserve", ROUNDS) for name in ("isoserve", "isoserve, auto")}
    page = markdown(
        result(
            {
                "JPEG 12": {"bytes": 3_200_000, "taken": TAKEN, "servers": servers},
                "PNG 48": {"bytes": 1, "taken": TAKEN, "refused": "413 the image is too large"},
            }
        )
    )
    for name in servers:
        row = f"| {name} | 1.20 (1.00 to 1.50) | 12.0 | 62.5 | 200 / 300 | 6 | 4 |"
        assert f"| JPEG 12 MP, 3.2 MB {row}" in page
    assert "not served: 413 the image is too large" in page
    assert "`--engine auto`, which took openvino in bfloat16." in page
    assert "load average" not in page


def test_photographs_of_an_earlier_run_stay_with_its_circumstances(tmp_path: Path) -> None:
    assert taken_before(tmp_path) == {}
    earlier = {**result({"JPEG 1": {"bytes": 1, "refused": "no"}}), "date": "2026-11-01"}
    save_result(tmp_path, "serving_photographs", earlier, "")
    page = markdown(result(taken_before(tmp_path)))
    assert "Of 2026-11-01, load average 0.5 beforehand, `the command`: JPEG 1." in page
