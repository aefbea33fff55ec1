"""What the throughput run keeps of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.serving.servers import in_a_tensor, in_base64
from benchmarks.serving.throughput import taken_before


def test_networks_of_earlier_runs_stay_with_their_circumstances(tmp_path: Path) -> None:
    kept = {"taken": {"date": "2026-01-01"}, "rounds": []}
    found = {"networks": {"small": kept, "of no known run": {"rounds": []}}}
    (tmp_path / "serving_throughput.json").write_text(json.dumps(found))
    assert taken_before(tmp_path) == {"small": kept}


def test_nothing_is_kept_where_nothing_was_run(tmp_path: Path) -> None:
    assert taken_before(tmp_path) == {}


def test_the_binary_form_says_where_its_head_ends() -> None:
    headers, body = in_a_tensor(b"\xff\xd8 image")
    length = int(headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body[:length])["inputs"]
    assert body[length:] == b"\xff\xd8 image"
    assert tensor["shape"] == [1, 8]
    assert tensor["parameters"]["binary_data_size"] == 8


def test_the_json_form_holds_the_image() -> None:
    assert json.loads(in_base64(b"abc")[1]) == {"images": ["YWJj"]}
