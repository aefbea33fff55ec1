"""Cells: computed once, whole or absent, named by everything that determines them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from isoserve.models.errors import InputError
from isoserve.training.reproduce.eta import EtaEstimator
from isoserve.training.reproduce.store import Store, digest

HOLD = """
import sys
from pathlib import Path
from isoserve.training.reproduce.store import Store
with Store(Path(sys.argv[1])).claim("training", "k"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"scores": np.array([1.5, -2.0])}

    first = store.arrays("scores", "k", compute)
    again = Store(tmp_path).arrays("scores", "k", compute)
    assert np.array_equal(first["scores"], again["scores"])
    assert len(calls) == 1


def test_a_cell_whose_computation_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).arrays("scores", "k", fail)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_broken_cell_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "k.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"k\.npz is not a cell of this grid"):
        Store(tmp_path).arrays("scores", "k", dict)
    (tmp_path / "scores" / "k.json").write_bytes(content)
    with pytest.raises(InputError, match=r"k\.json is not a cell of this grid"):
        Store(tmp_path).values("scores", "k", dict)


def test_a_digest_changes_with_each_of_its_parts_and_not_with_their_order() -> None:
    base = digest(recipe={"epochs": 1, "seed": 0}, images="a")
    assert base == digest(images="a", recipe={"seed": 0, "epochs": 1})
    assert base != digest(images="b", recipe={"seed": 0, "epochs": 1})
    assert base != digest(images="a", recipe={"seed": 0, "epochs": 2})


def test_the_pace_estimates_from_what_took_time() -> None:
    now, said = [0.0], []
    pace = EtaEstimator(100.0, said.append, clock=lambda: now[0])
    for words, work, seconds in (("found", 40.0, 0.0), ("made", 20.0, 60.0)):
        with pace.step(words, work):
            now[0] += seconds
    with pace.step("next", 10.0):
        pass
    # 20 of 60 units took a minute; 40 are left.
    assert said == ["found", "made", "next  (about 2 min 00 s left)"]


def test_a_claim_keeps_other_processes_out_until_its_own_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin
    assert holder.stdout
    with holder:
        assert holder.stdout.readline() == b"held\n"
        store = Store(tmp_path)
        with store.claim("training", "k") as mine:
            assert not mine
        with store.claim("training", "other") as mine:
            assert mine
        holder.kill()
        holder.wait()
        with store.claim("training", "k") as mine:
            assert mine


def test_two_at_the_same_cell_compute_it_once(tmp_path: Path) -> None:
    begun, calls = threading.Event(), []

    def compute() -> dict[str, int]:
        begun.set()
        time.sleep(0.2)
        calls.append(1)
        return {"value": 7}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Store(tmp_path).values, "chosen", "k", compute)
        begun.wait(10)
        second = pool.submit(Store(tmp_path).values, "chosen", "k", compute)
        assert first.result() == second.result() == {"value": 7}
    assert len(calls) == 1
