"""What the throughput run keeps of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.serving.servers import in_a_tensor, in_base64
from benchmarks.serving.throughput import CONNECTIONS, markdown, taken_before


def test_networks_of_earlier_runs_stay_with_their_circumstances(tmp_path: Path) -> None:
    kept = {"taken": {"date": "2026-01-01"}, "rounds": []}
    found = {"networks": {"small": kept, "of no known run": {"rounds": []}}}
    (tmp_path / "serving_throughput.json").write_text(json.dumps(found))
    assert taken_before(tmp_path) == {"small": kept}


def test_nothing_is_kept_where_nothing_was_run(tmp_path: Path) -> None:
    assert taken_before(tmp_path) == {}


def load(refused: int, errors: int) -> dict[str, Any]:
    times = {"ratio": 0.9, "ratio_range": [0.8, 1.0], "p50_ms": 1.0, "p99_ms": 2.0}
    return {**times, "refused": refused, "errors": errors}


def test_the_page_tells_429_from_other_errors() -> None:
    loads = {str(each): load(0, 0) for each in CONNECTIONS} | {"64": load(4696, 3)}
    network = {
        "bare_images_per_second": 800.0,
        "bare_decode_and_run_ms": 2.0,
        "batched_ratio": 1.0,
        "memory_mb": {"isoserve": 200.0},
        "did_not_start": [],
        "servers": {"isoserve": loads},
        "taken": {"rounds": 1, "seconds": 1, "date": "today", "load_average_before": 0.0},
    }
    page = markdown({"small": network})
    assert "| 429 | other errors | memory MB |" in page
    assert "| 1.0 / 2.0 | 4696 | 3 | 200 |" in page


def test_the_binary_form_says_where_its_head_ends() -> None:
    headers, body = in_a_tensor(b"\xff\xd8 image")
    length = int(headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body[:length])["inputs"]
    assert body[length:] == b"\xff\xd8 image"
    assert tensor["shape"] == [1, 8]
    assert tensor["parameters"]["binary_data_size"] == 8


def test_the_json_form_holds_the_image() -> None:
    assert json.loads(in_base64(b"abc")[1]) == {"images": ["YWJj"]}
