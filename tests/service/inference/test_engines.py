"""What computes the network: ONNX Runtime, or OpenVINO where it agrees with it."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
from image_bytes import encode
from numpy.typing import NDArray
from running_server import StartServer
from tiny_model import TinyModel, tiny_model, write_tiny_model

from isoserve.models import openvino_engine
from isoserve.models.card import CARD_KEY, SCHEMA_1_OUTPUTS, InputSpec
from isoserve.models.errors import InputError
from isoserve.models.openvino_engine import open_sessions
from isoserve.service.inference import engines
from isoserve.service.inference.agreement import PROBES, disagreement, probe_images
from isoserve.service.inference.engines import check_available
from isoserve.service.inference.execution import DEFAULT_EXECUTION, ComputeForm, Execution
from isoserve.service.inference.model import Model, ModelRefused, load_model

DEFAULT_MODEL = Path(__file__).parents[3] / "model_repository" / "cifar10" / "1" / "model.onnx"

needs_openvino = pytest.mark.skipif(
    not openvino_engine.is_installed(), reason="the openvino extra is not installed"
)
needs_bfloat16 = pytest.mark.skipif(
    not openvino_engine.computes_bfloat16(), reason="the processor does not compute bfloat16"
)


def loaded(execution: Execution = DEFAULT_EXECUTION, max_batch: int = 4) -> Model:
    return load_model("m", 1, tiny_model().SerializeToString(), 2, max_batch, execution)


@needs_openvino
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_openvino_gives_the_outputs_of_onnx_runtime(batch: int) -> None:
    reference, model = loaded(), loaded(Execution(engine="openvino", precision="float32"))
    assert (model.form.engine, model.form.precision) == ("openvino", "float32")
    images = probe_images(model.card.input)[:batch]
    for slot in (0, 1):
        expected, found = reference.run(0, images), model.run(slot, images)
        for name in SCHEMA_1_OUTPUTS:
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), atol=1e-4, err_msg=name
            )


@needs_openvino
def test_an_answer_is_not_overwritten_by_the_next_run() -> None:
    model = loaded(Execution(engine="openvino", precision="float32"))
    images = probe_images(model.card.input)
    first = model.run(0, images[:2])
    kept = first.distances.copy()
    model.run(0, images[2:4])
    assert np.array_equal(first.distances, kept)


@needs_openvino
@needs_bfloat16
def test_bfloat16_serves_where_it_agrees_and_says_how_far() -> None:
    model = loaded(Execution(engine="openvino", precision="bfloat16"))
    assert model.form.precision == "bfloat16"
    assert 0 <= model.form.disagreement < 0.02


@needs_openvino
def test_a_network_in_two_parts_computes_what_the_whole_computes() -> None:
    data = DEFAULT_MODEL.read_bytes()
    images = probe_images(InputSpec(height=32, width=32))[:4]
    names = ["p_value", "probabilities", "ood_score"]
    results = [
        open_sessions(data, 1, "float32", exact)[0].run(names, {"images": images})
        for exact in range(3)
    ]
    for parts in results[1:]:
        for whole, found in zip(results[0], parts, strict=True):
            np.testing.assert_allclose(found, whole, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"the network has \d bottlenecks, not 99"):
        open_sessions(data, 1, "float32", 99)


@needs_openvino
@needs_bfloat16
def test_the_first_layers_stay_in_float32_where_verdicts_would_change() -> None:
    data = DEFAULT_MODEL.read_bytes()
    found = load_model("m", 1, data, 1, 8, Execution(engine="openvino")).trial
    assert found.form.precision == "bfloat16"
    assert found.form.exact > 0
    assert load_model("m", 1, data, 1, 8, Execution.of_trial("cpu", found)).trial == found


@needs_openvino
def test_an_engine_that_disagrees_is_refused_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Permuted(TinyModel):
        @property
        def prototypes(self) -> NDArray[np.float32]:
            return super().prototypes[::-1].copy()

    other = tiny_model(Permuted())

    def of_another_network(
        data: bytes, count: int, precision: openvino_engine.ComputePrecision, exact: int = 0
    ) -> list[openvino_engine.OpenVinoSession]:
        del data
        return open_sessions(other.SerializeToString(), count, precision, exact)

    monkeypatch.setattr(openvino_engine, "open_sessions", of_another_network)
    with pytest.raises(
        ModelRefused, match=r"disagrees with ONNX Runtime: p-values differ by"
    ) as no:
        loaded(Execution(engine="openvino", precision="float32"))
    assert no.value.reason == "engine"
    assert loaded(Execution(engine="auto")).form.engine == "onnxruntime"


@needs_openvino
@pytest.mark.parametrize(("is_faster", "engine"), [(True, "openvino"), (False, "onnxruntime")])
def test_auto_takes_the_fastest_that_agrees(
    monkeypatch: pytest.MonkeyPatch, is_faster: bool, engine: str
) -> None:
    monkeypatch.setattr(engines, "_is_faster", lambda *_: is_faster)
    assert loaded(Execution(engine="auto")).form.engine == engine


class TimedSession:
    """Takes so many seconds a run, and what else the machine does makes some runs longer."""

    def __init__(self, machine: BusyMachine, seconds: float) -> None:
        self.machine, self.seconds = machine, seconds

    def run(self, *_: object) -> list[NDArray[np.float32]]:
        self.machine.now += self.seconds * next(self.machine.slower)
        return []


class BusyMachine:
    """A clock, and by how much longer each run takes there."""

    def __init__(self, busy: int) -> None:
        self.now = 0.0
        self.slower = chain(repeat(10.0, busy), repeat(1.0))


@pytest.mark.parametrize("busy", range(8))
@pytest.mark.parametrize("seconds", [0.9, 1.1])
def test_a_machine_that_is_busy_for_a_while_does_not_change_the_choice(
    monkeypatch: pytest.MonkeyPatch, busy: int, seconds: float
) -> None:
    machine = BusyMachine(busy)
    monkeypatch.setattr(engines.time, "perf_counter", lambda: machine.now)
    card = loaded().card
    reference = engines.Reference(TimedSession(machine, 1.0), card, b"", card.output_names)
    assert engines._is_faster(TimedSession(machine, seconds), reference, 8) == (seconds < 1)


def _never_compare(*_: object) -> None:
    raise AssertionError("it was compared")


@needs_openvino
def test_what_a_trial_compared_is_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = loaded(Execution(engine="openvino", precision="float32")).trial
    monkeypatch.setattr(engines, "_compare", _never_compare)
    assert loaded(Execution.of_trial("cpu", tried)).trial == tried
    with pytest.raises(AssertionError):
        loaded(Execution(engine="openvino", precision="float32"))


@needs_openvino
def test_the_trial_of_a_file_in_8_bits_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_model()
    (card,) = (entry for entry in file.metadata_props if entry.key == CARD_KEY)
    card.value = json.dumps(json.loads(card.value) | {"precision": "int8"})
    data = file.SerializeToString()
    tried = load_model("m", 1, data, 1, 4, Execution(engine="openvino")).trial
    assert (tried.form.engine, tried.form.precision) == ("openvino", "int8")
    again = Execution.of_trial("cpu", tried)
    assert load_model("m", 1, data, 1, 4, again).trial == tried
    monkeypatch.setattr(engines, "_compare", _never_compare)
    with pytest.raises(AssertionError, match="it was compared"):
        load_model("m", 1, data, 1, 4, again)


def test_auto_without_openvino_is_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: False)
    assert loaded(Execution(engine="auto")).form == ComputeForm("onnxruntime", "float32")
    with pytest.raises(InputError, match=r"pip install 'isoserve\[openvino\]'"):
        check_available(Execution(engine="openvino"))


@pytest.mark.parametrize(
    ("execution", "says"),
    [
        (Execution("cuda", "openvino"), "--engine openvino runs on the CPU, and --device is cuda"),
        (Execution(precision="bfloat16"), "--precision bfloat16 needs --engine openvino or auto"),
    ],
)
def test_what_cannot_be_had_is_refused_before_a_model_is_read(
    execution: Execution, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        check_available(execution)


def test_bfloat16_needs_the_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t\t: fpu sse2 avx2\n")
    monkeypatch.setattr(openvino_engine, "_CPU_INFO", info)
    with pytest.raises(InputError, match="amx_bf16 or avx512_bf16"):
        check_available(Execution(engine="auto", precision="bfloat16"))
    info.write_text("flags\t\t: fpu avx2 amx_bf16 amx_tile\n")
    assert openvino_engine.computes_bfloat16()


def test_int8_of_a_float32_file_says_how_to_make_one() -> None:
    with pytest.raises(ModelRefused, match="make one with 'isoserve quantize'"):
        loaded(Execution(precision="int8"))


def test_disagreement_is_zero_for_the_same_outputs_and_nan_is_too_large() -> None:
    model = loaded()
    images = probe_images(model.card.input)
    assert len(images) == PROBES
    assert np.array_equal(images, probe_images(model.card.input))
    outputs = model.run(0, images)
    same = {name: getattr(outputs, name) for name in SCHEMA_1_OUTPUTS}
    none = disagreement(same, same, model.card)
    assert (none.p_value, none.probability, none.too_large) == (0, 0, False)
    broken = same | {"entropic_score": np.full_like(same["entropic_score"], np.nan)}
    assert disagreement(same, broken, model.card).too_large


def test_a_small_move_of_the_scores_is_the_share_of_calibration_scores_it_passes() -> None:
    card = loaded().card
    quantiles = list(np.linspace(-1, 0, 101))
    card = card.model_copy(
        update={"calibration": card.calibration.model_copy(update={"score_quantiles": quantiles})}
    )
    base = {
        "probabilities": np.full((8, 2), 0.5, dtype=np.float32),
        "entropic_score": np.full(8, -0.5, dtype=np.float32),
        "p_value": np.full(8, 0.5, dtype=np.float32),
    }
    moved = base | {"entropic_score": base["entropic_score"] + np.float32(0.1)}
    # Uniform scores on [-1, 0]: a move of 0.1 passes a tenth of them, but for those at the end.
    assert disagreement(base, moved, card).p_value == pytest.approx(0.095, abs=0.002)


@pytest.mark.parametrize(("n", "bound"), [(10_000, 0.00125), (100, 0.00726)])
def test_the_verdicts_that_change_are_those_whose_scores_pass_the_threshold(
    n: int, bound: float
) -> None:
    card = loaded().card
    update = {"score_quantiles": list(np.linspace(-1, 0, 101)), "n": n, "alpha": 0.05}
    card = card.model_copy(update={"calibration": card.calibration.model_copy(update=update)})
    base = {
        "probabilities": np.full((8, 2), 0.5, dtype=np.float32),
        "entropic_score": np.full(8, -0.5, dtype=np.float32),
        "p_value": np.full(8, 0.5, dtype=np.float32),
    }
    for move, share in ((0.001, 0.001), (0.03, 0.03)):
        moved = base | {"entropic_score": base["entropic_score"] - np.float32(move)}
        found = disagreement(base, moved, card)
        assert found.verdicts == pytest.approx(share, abs=1e-5)
        assert found.verdict_bound == pytest.approx(bound, abs=1e-4)
        assert found.changes_verdicts == (share > bound)


@needs_openvino
def test_the_server_says_which_engine_runs(start_server: StartServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server = start_server(tmp_path, "--engine", "openvino", "--precision", "float32")
    (version,) = server.get("/v1/models/m").json()["versions"]
    assert (version["engine"], version["precision"]) == ("openvino", "float32")
    assert 'engine="openvino"' in server.get("/metrics").text
    assert server.post("/v1/predict", content=encode("PNG")).status_code == 200
