"""``--address auto``: a Ray that runs already, with fewer cores than there are workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_bytes import colour
from running_server import ROOT
from tiny_model import write_tiny_model

from isoserve.score.ray_pool import ENVIRONMENT, START_SECONDS

pytest.importorskip("ray")
parquet = pytest.importorskip("pyarrow.parquet")

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-this-test-0123456789abcdef"}
"""Of a cluster, as its owner gives it to whom may use it."""

CLUSTER = """
import ray, sys
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", name="address")
def _address() -> Iterator[str]:
    """Of a cluster with one core, which ends with the process that started it."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **ENVIRONMENT, **START_SECONDS, **TOKEN},
    ) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        if not address:
            pytest.skip("Ray itself did not start within its two minutes")
        yield address
        cluster.stdin.close()


def test_a_cluster_with_fewer_cores_than_workers_scores_all(address: str, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx")
    images = tmp_path / "images"
    images.mkdir()
    for index in range(12):
        (images / f"{index:02d}.png").write_bytes(colour(index, 0, 0))
    words = [str(images), "--model", str(model), "--output", str(tmp_path / "out")]
    options = ["--address", "auto", "--workers", "3", "--unit-images", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "isoserve", "score", *words, *options],
        cwd=ROOT,
        env={**os.environ, **TOKEN, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        row
        for file in sorted((tmp_path / "out").glob("part-*.parquet"))
        for row in parquet.read_table(file).to_pylist()
    ]
    assert [Path(row["id"]).name for row in rows] == [f"{i:02d}.png" for i in range(12)]
    assert {row["error"] for row in rows} == {None}
