"""The photographs that servers are compared with, and what the page says of the comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.images import PHOTOGRAPHS, SIZES, write_photograph
from benchmarks.serving.photographs import markdown, summary
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
    counts = {"requests": 100, "refused": refused, "errors": errors}
    return {"per_second": answers, "p50_ms": 200.0, "p99_ms": 300.0, **counts}


def test_the_ratio_is_taken_in_each_round_and_429_is_told_from_other_errors() -> None:
    rounds = [
        {"isoserve": load(30.0, 4, 5), "plain FastAPI": load(20.0, 0, 0)},
        {"isoserve": load(10.0, 0, 0), "plain FastAPI": load(10.0, 0, 0)},
        {"isoserve": load(12.0, 2, 2), "plain FastAPI": load(10.0, 0, 0)},
    ]
    found = summary("isoserve", rounds)
    assert found["ratio"] == pytest.approx(1.2)
    assert (found["least"], found["greatest"]) == (1.0, 1.5)
    assert (found["refused"], found["errors"]) == (6, 1)
    page = markdown(
        {
            "command": "python -m benchmarks.serving.photographs",
            "model": "clothes",
            "connections": 8,
            "rounds": 3,
            "seconds": 2,
            "photographs": {
                "JPEG 12": {"bytes": 3_200_000, "servers": {"isoserve": found}},
                "PNG 48": {"bytes": 650_000, "refused": "413 the image is too large"},
            },
        }
    )
    assert (
        "| JPEG 12 MP, 3.2 MB | isoserve | 1.20 (1.00 to 1.50) | 12.0 | 200 / 300 | 6 | 1 |" in page
    )
    assert "not served: 413 the image is too large" in page
