"""The shadow's queue and thread, its place in the repository, and how it is named."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_model import TinyModel, write_tiny_model

from isoserve.commands.options import build
from isoserve.commands.serve import serve
from isoserve.models.errors import InputError
from isoserve.service.batching.job import Job
from isoserve.service.batching.shadow_runner import WAITING_IMAGES, ShadowRunner
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.shadow import Shadow, ShadowCounts
from isoserve.service.settings import ENV_PREFIX, Settings

ALPHA = 0.05
LIVE = TinyModel()


class HeldModel:
    """A shadow's network that waits to be let go, and agrees with everything."""

    name, version, labels = "m", 2, LIVE.classes

    def __init__(self) -> None:
        self.card = SimpleNamespace(input=(8, 8))
        self.running, self.go = threading.Event(), threading.Event()

    def run(self, slot: int, images: NDArray[np.uint8]) -> Outputs:  # noqa: ARG002
        self.running.set()
        assert self.go.wait(30)
        return outputs(len(images))


def outputs(n: int) -> Outputs:
    ones = np.ones(n, dtype=np.float32)
    equal = np.full((n, 3), 1 / 3, dtype=np.float32)
    return Outputs(equal, -ones, -ones, ones, ones, ones, equal)


class Setup:
    """A runner with a held shadow, and a live version to offer it batches."""

    def __init__(self, share: float = 1.0, draw: float = 0.0) -> None:
        self.model = HeldModel()
        self.metrics = Metrics()
        self.shadow: Shadow | None = self.loaded(self.model, share)
        self.runner = ShadowRunner(
            lambda _: self.shadow, ImageLimits(), ALPHA, max_batch=1, draw=lambda: draw
        )
        live = SimpleNamespace(name="m", version=1, labels=LIVE.classes, card=self.model.card)
        self.job = cast("Job", SimpleNamespace(served=SimpleNamespace(model=live), original=b""))

    def loaded(self, model: HeldModel, share: float = 1.0) -> Shadow:
        return Shadow(cast("Model", model), share, ShadowCounts(self.metrics, "m", 2))

    def offer(self, images: int) -> None:
        pixels = np.zeros((images, 8, 8, 3), dtype=np.uint8)
        self.runner.observe([self.job] * images, pixels, outputs(images))


def test_what_a_slow_shadow_cannot_take_is_dropped_and_never_waited_for() -> None:
    setup = Setup()
    counts = cast("Shadow", setup.shadow).counts
    setup.offer(1)
    assert setup.model.running.wait(30)
    setup.offer(WAITING_IMAGES + 7)  # returns while the shadow still runs
    assert not setup.model.go.is_set()
    assert counts.dropped == {"full": 7}
    setup.model.go.set()
    until = threading.Event()
    while sum(counts.beside(1).images.values()) < WAITING_IMAGES + 1:
        until.wait(0.01)
    assert counts.beside(1).images == {(True, "neither"): WAITING_IMAGES + 1}
    setup.runner.close()


def test_a_replaced_shadow_is_freed_and_is_not_compared_under_its_successors_name() -> None:
    setup = Setup()
    counts = cast("Shadow", setup.shadow).counts
    setup.offer(1)
    assert setup.model.running.wait(30)
    setup.offer(3)
    old = weakref.ref(setup.model)
    go = setup.model.go
    setup.model = HeldModel()
    setup.shadow = setup.loaded(setup.model)
    go.set()
    until = threading.Event()
    while counts.dropped["gone"] < 3:
        until.wait(0.01)
    gc.collect()
    assert old() is None
    assert sum(counts.beside(1).images.values()) == 1
    assert setup.shadow.counts.dropped == {}
    setup.runner.close()


@pytest.mark.parametrize(("draw", "taken"), [(0.0, True), (0.249, True), (0.25, False)])
def test_the_share_is_drawn_for_each_image(draw: float, taken: bool) -> None:
    setup = Setup(share=0.25, draw=draw)
    setup.model.go.set()
    setup.offer(5)
    assert setup.model.running.wait(30 if taken else 0.3) == taken
    setup.runner.close()


def test_a_shadow_that_leaves_the_disk_is_freed(tmp_path: Path) -> None:
    root = tmp_path
    for version in (1, 2):
        write_tiny_model(root / "m" / str(version) / "model.onnx", LIVE)
    settings = Settings(repository=root, max_batch=2, shadow="m:2")
    repository = Repository(settings, 1, Metrics())
    repository.scan()
    shadow = repository.shadow_of("m")
    assert shadow is not None
    assert (shadow.model.version, shadow.share) == (2, 0.1)
    assert repository.resolve("m", None).model.version == 1
    old = weakref.ref(shadow.model)
    del shadow
    (root / "m" / "2" / "model.onnx").unlink()
    (root / "m" / "2").rmdir()
    repository.scan()
    gc.collect()
    assert old() is None
    assert repository.shadow_of("m") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("m", "MODEL:VERSION or MODEL:VERSION:SHARE, not 'm'"),
        ("m:latest", "not 'm:latest'"),
        ("m:-1", "not 'm:-1'"),
        ("m:1:0.1:2", "not 'm:1:0.1:2'"),
        ("../m:1", "not '../m:1'"),
        ("m:1:0", "the share of 'm:1:0' must be a number over 0 and at most 1"),
        ("m:1:1.01", "the share of 'm:1:1.01'"),
        ("m:1:nan", "the share of 'm:1:nan'"),
        ("m:1:all", "the share of 'm:1:all'"),
        ("m:1,n:1,m:2", "model 'm' has two shadows"),
    ],
)
def test_a_wrong_shadow_is_said_at_the_door(given: str, said: str) -> None:
    with pytest.raises(InputError, match=r"--shadow \(ISOSERVE_SHADOW\)") as caught:
        build(Settings, {"shadow": given}, ENV_PREFIX)
    assert said in str(caught.value)


def test_several_models_may_have_a_shadow_each() -> None:
    shadows = Settings(shadow="m:2, n:10:0.5").shadows
    assert [(each.version, each.share) for each in shadows.values()] == [(2, 0.1), (10, 0.5)]


def test_one_file_has_no_shadow(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="is one file"):
        serve.main([str(path), "--shadow", "file:1"], standalone_mode=False)
