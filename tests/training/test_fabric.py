"""How many processes a training starts: never more than there are cores for."""

from __future__ import annotations

import pytest

from isoserve.models.errors import InputError
from isoserve.training import fabric as devices
from isoserve.training.fabric import make_fabric
from isoserve.training.recipe import Recipe


def test_more_processes_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    assert make_fabric(Recipe(), "cpu", "2", 1).world_size == 2
    with pytest.raises(InputError, match=r"--devices is 3: .* here are 2 cores; give at most 2"):
        make_fabric(Recipe(), "cpu", "3", 1)


def test_the_processes_that_torchrun_started_are_its_own_affair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 1)
    of_torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in of_torchrun.items():
        monkeypatch.setenv(name, value)
    assert make_fabric(Recipe(), "cpu", "2", 1).strategy.num_processes == 2
