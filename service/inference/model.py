"""A model file's bytes -> a checked model in memory -> verdict arrays, by ONNX Runtime."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from time import monotonic

import numpy as np
import onnxruntime as ort

from isoserve.models.card import INPUT_NAME, CardError, DecideBy, ModelCard, read_card
from isoserve.models.cpu_quota import usable_cores
from isoserve.models.errors import InputError
from isoserve.models.openvino_engine import OpenVinoSession, Session
from isoserve.models.text import pluralize
from isoserve.service.inference.answer_check import answer_fault
from isoserve.service.inference.engines import (
    Reference,
    check_available,
    check_precision,
    choose,
)
from isoserve.service.inference.execution import (
    DEFAULT_EXECUTION,
    ComputeForm,
    Device,
    Execution,
    Trial,
)
from isoserve.service.inference.execution_providers import check_in_use, providers_of
from isoserve.service.inference.judgement import first_line
from isoserve.service.inference.outputs import Floats, Outputs, Pixels
from isoserve.service.inference.run_size import largest_run

NO_FOLDER = "/nonexistent/isoserve-refuses-external-data"


class ModelRefused(InputError):
    """The file may not serve; the message says why.

    Args:
        reason: a stable slug, the label of the refusal in metrics and in ``/v1/models``.
        detail: what was wrong, with which value, and what would be right.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Model:
    """One version of one model in memory: its card and a single-threaded session a slot.

    A batch that holds a model keeps it alive, so a version is freed when its last batch is done.

    Attributes:
        ended: why it runs no more; empty as a rule.
        images_a_run: how many a run of the network takes at once; more are run in parts.
        warm_up_seconds: what a run of one image and one of as many took together.
    """

    def __init__(
        self,
        name: str,
        version: int,
        data: bytes,
        sessions: Sequence[Session],
        computed: tuple[ModelCard, ComputeForm],
    ) -> None:
        self.name = name
        self.version = version
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.card, self.form = computed
        self.labels = self.card.classes
        self.ended = ""
        self.images_a_run = 1
        self.warm_up_seconds = 0.0
        self._sessions = sessions
        self.decide_by: DecideBy = "p_value"
        """Which p-value the operator decides on; set before the model serves."""
        self._runs: list[tuple[float, ort.RunOptions] | None] = [None] * len(sessions)

    @property
    def trial(self) -> Trial:
        """What loading it has found, for another process that loads the same file."""
        return Trial(self.form, self.images_a_run)

    def run(self, slot: int, images: Pixels) -> Outputs:
        """One pass in the calling thread, on the slot's own session.

        Args:
            images: uint8 [N, H, W, 3], RGB, at the card's size.

        Raises:
            RuntimeError: a run was ended before: see :meth:`end_run`.
        """
        values = self._run(slot, images[: self.images_a_run])
        if len(images) > self.images_a_run:
            starts = range(self.images_a_run, len(images), self.images_a_run)
            more = [self._run(slot, images[start : start + self.images_a_run]) for start in starts]
            values = [np.concatenate(parts) for parts in zip(values, *more, strict=True)]
        names = self.card.output_names
        return Outputs.of_graph(dict(zip(names, values, strict=True)), self.decide_by)

    def _run(self, slot: int, images: Pixels) -> list[Floats]:
        if self.ended:
            raise RuntimeError(self.ended)
        options = ort.RunOptions()
        self._runs[slot] = (monotonic(), options)
        try:
            return self._sessions[slot].run(self.card.output_names, {INPUT_NAME: images}, options)
        finally:
            self._runs[slot] = None

    def end_run(self, slot: int, seconds: float) -> bool:
        """End the slot's run if it has taken longer, from another thread; no run follows it.

        Returns:
            Whether it had. ONNX Runtime ends it before its next operator: one operator that does
            not end goes on.
        """
        run = self._runs[slot]
        if run is None or run[0] >= monotonic() - seconds:
            return False
        self.ended = f"a run of the network took longer than {seconds:g} s and was ended"
        run[1].terminate = True
        session = self._sessions[slot]
        if isinstance(session, OpenVinoSession):
            session.cancel()
        return True


def read_model_bytes(path: Path, limit: int) -> bytes:
    """The file's bytes.

    Raises:
        ModelRefused: it cannot be read, or is over the limit.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to read a pipe would wait for its writer
            raise ModelRefused("unreadable", "it is not a regular file")
        size = status.st_size
        if size > limit:
            raise ModelRefused(
                "too_large", f"the file has {size} bytes, more than max_model_bytes ({limit})"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused("unreadable", f"the file cannot be read: {error.strerror}") from error


def load_model(
    name: str,
    version: int,
    data: bytes,
    slots: int,
    max_batch: int,
    execution: Execution = DEFAULT_EXECUTION,
) -> Model:
    """Build the sessions, check the contract, warm up.

    On the CPU each slot has a single-threaded session of its own; any other device has one that
    they share, since the device's memory is what there is least of. Another engine than ONNX
    Runtime, or another precision, is compared with it first.

    Raises:
        ModelRefused: not an ONNX model, no valid card, other inputs or outputs than the contract's,
            an engine or precision that cannot run it, or an answer to a plain image that cannot
            be right.
    """
    device = execution.device
    first = _session(data, device)
    card = _card(first)
    check_contract(first, card)
    sessions: list[Session]
    try:
        check_available(execution)
        check_precision(execution, card)
        reference = Reference(first, card, data, card.output_names)
        form, sessions = choose(execution, reference, slots, max_batch)
    except InputError as error:
        raise ModelRefused("engine", str(error)) from error
    # On the CPU a core for each slot, as later; a device's memory holds one run at a time.
    with ThreadPoolExecutor(min(slots, usable_cores()) if device == "cpu" else 1) as threads:
        if not sessions and device == "cpu":
            sessions = [first, *threads.map(_session, [data] * (slots - 1), repeat(device))]
        elif not sessions:
            sessions = [first] * slots
        model = Model(name, version, data, sessions, (card, form))
        model.images_a_run = execution.trial.images_a_run if execution.trial else max_batch
        cold, seconds = range(slots), 0.0
        if execution.trial is None and device == "cpu":
            started = monotonic()
            model.images_a_run = largest_run(lambda size: _try_run(model, 0, size), max_batch)
            cold, seconds = range(1, slots), monotonic() - started  # which warmed up the first
        model.warm_up_seconds = max([seconds, *threads.map(_warm_up, repeat(model), cold)])
    return model


def check_contract(session: ort.InferenceSession, card: ModelCard) -> None:
    """Compare the graph's inputs and outputs with the contract.

    Raises:
        ModelRefused: the first difference found.
    """
    height, width, classes = card.input.height, card.input.width, len(card.classes)
    inputs = session.get_inputs()
    names = [value.name for value in inputs]
    if names != [INPUT_NAME]:
        raise ModelRefused("contract", f"the inputs are {names}, expected ['{INPUT_NAME}']")
    expected = {INPUT_NAME: ("tensor(uint8)", [height, width, 3])}
    outputs = session.get_outputs()
    names = [value.name for value in outputs]
    if set(names) != set(card.output_names):
        raise ModelRefused(
            "contract",
            f"the outputs are {names}, expected {list(card.output_names)} "
            f"(schema_version {card.schema_version})",
        )
    for name in card.output_names:
        per_class = name in ("probabilities", "distances")
        expected[name] = ("tensor(float)", [classes] if per_class else [])
    for value in (*inputs, *outputs):
        dtype, shape = expected[value.name]
        if value.type != dtype:
            raise ModelRefused("contract", f"'{value.name}' is a {value.type}, expected {dtype}")
        if len(value.shape) != len(shape) + 1 or any(
            isinstance(size, int) and size != expected_size
            for size, expected_size in zip(value.shape[1:], shape, strict=True)
        ):
            raise ModelRefused(
                "contract",
                f"'{value.name}' has shape {value.shape}, expected {['N', *shape]} as in the card",
            )
        if isinstance(value.shape[0], int):
            raise ModelRefused(
                "contract",
                f"'{value.name}' has the fixed batch size {value.shape[0]}, expected any",
            )


def _session(data: bytes, device: Device) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Weights beside the file would be read relative to this folder: there are none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NO_FOLDER
    )
    providers = providers_of(device)
    try:
        session = ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        raise ModelRefused("not_onnx", f"ONNX Runtime refuses it: {first_line(error)}") from error
    try:
        check_in_use(device, session)
    except InputError as error:
        raise ModelRefused("device", str(error)) from error
    return session


def _card(session: ort.InferenceSession) -> ModelCard:
    try:
        return read_card(session.get_modelmeta().custom_metadata_map)
    except CardError as error:
        raise ModelRefused("card", str(error)) from error


def _warm_up(model: Model, slot: int) -> float:
    """Run the smallest and the largest batch: it allocates what serving needs, and shows faults.

    Returns:
        The seconds that took.
    """
    started = monotonic()
    for size in (1, model.images_a_run):
        _try_run(model, slot, size)
    return monotonic() - started


def _try_run(model: Model, slot: int, size: int) -> None:
    spec = model.card.input
    noise = np.random.default_rng(0).integers(
        0, 256, (size, spec.height, spec.width, 3), dtype=np.uint8
    )
    try:
        outputs = model.run(slot, noise)
    except Exception as error:  # as above
        raise ModelRefused(
            "warm_up", f"it fails on {pluralize(size, 'image')}: {first_line(error)}"
        ) from error
    if fault := answer_fault(outputs, model.card, size):
        raise ModelRefused("warm_up", fault)
