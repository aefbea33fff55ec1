"""OpenVINO's own runtime behind the interface of an ONNX Runtime session.

OpenVINO computes a float32 network in bfloat16 where the processor has instructions for it (AMX,
AVX-512 BF16), which ONNX Runtime on x86 does not. The package is the extra ``openvino``.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from isoserve.models.errors import InputError
from isoserve.models.openvino_parts import split_network

ComputePrecision = Literal["float32", "bfloat16"]
"""What the floating-point operators compute in; 8-bit operators of a file stay 8-bit."""

BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
_CPU_INFO = Path("/proc/cpuinfo")
_HINTS: dict[ComputePrecision, str] = {"float32": "f32", "bfloat16": "bf16"}

_first_use = threading.Lock()


class Session(Protocol):
    """What runs a network: an ``onnxruntime.InferenceSession``, or a stand-in for one."""

    def run(
        self,
        output_names: Sequence[str],
        input_feed: Mapping[str, NDArray[np.uint8]],
        run_options: Any = None,
    ) -> list[NDArray[np.float32]]:
        """The named outputs, in that order, of one batch.

        Args:
            run_options: an ``onnxruntime.RunOptions``.
        """


class OpenVinoSession:
    """One inference request of each part of a network; for one thread at a time.

    Args:
        parts: compiled models, of which each but the last has one output, the next one's input.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        *self._before, self._request = [part.create_infer_request() for part in parts]
        self._outputs = {output.any_name: output for output in parts[-1].outputs}

    def run(
        self,
        output_names: Sequence[str],
        input_feed: Mapping[str, NDArray[np.uint8]],
        run_options: Any = None,  # noqa: ARG002
    ) -> list[NDArray[np.float32]]:
        """As :meth:`onnxruntime.InferenceSession.run`; the arrays are the caller's own."""
        feed: Any = input_feed
        for request in self._before:
            feed = {0: request.infer(feed, share_inputs=True)[0]}
        results = self._request.infer(feed, share_inputs=True)
        return [results[self._outputs[name]] for name in output_names]

    def cancel(self) -> None:
        """End the run in progress; from another thread."""
        for request in (*self._before, self._request):
            request.cancel()


def is_installed() -> bool:
    """Whether the package is there; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def computes_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions; emulated, it would be slower."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not BFLOAT16_FLAGS.isdisjoint(flags.split())


def check_installed() -> None:
    """Ask for the package where it is missing.

    Raises:
        InputError: it is.
    """
    if not is_installed():
        raise InputError("--engine openvino needs OpenVINO: pip install 'isoserve[openvino]'")


def check_computes(precision: ComputePrecision) -> None:
    """Refuse a precision that this processor would only emulate.

    Raises:
        InputError: it would.
    """
    if precision == "bfloat16" and not computes_bfloat16():
        raise InputError(
            "--precision bfloat16 needs a processor that computes it "
            f"({' or '.join(sorted(BFLOAT16_FLAGS))} in {_CPU_INFO}), and this one does not"
        )


def package_version() -> str:
    """Of the installed package."""
    return version("openvino")


def open_sessions(
    data: bytes, count: int, precision: ComputePrecision, exact: int = 0
) -> list[OpenVinoSession]:
    """One compiled network and ``count`` requests that run side by side, a core each.

    Args:
        data: an ONNX file's bytes, without weights outside it.
        exact: up to which of its :func:`~isoserve.models.openvino_parts.bottlenecks` it is computed
            in float32; 0: nothing.

    Raises:
        InputError: as :func:`check_installed` and :func:`check_computes`, or OpenVINO refuses the
            network, or it has fewer bottlenecks.
    """
    check_installed()
    check_computes(precision)
    core = _openvino().Core()
    options = {
        "NUM_STREAMS": count,
        "INFERENCE_NUM_THREADS": count,
        # The slots are counted from the cgroup's quota; cores pinned beyond it would be waited for.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        network = core.read_model(data, b"")
        parts = [(network, precision)]
        if exact:
            first, second = split_network(network, exact)
            parts = [(first, "float32"), (second, precision)]
        compiled = [
            core.compile_model(part, "CPU", {**options, "INFERENCE_PRECISION_HINT": _HINTS[each]})
            for part, each in parts
        ]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:300]
        raise InputError(f"OpenVINO refuses the network: {reason}") from error
    return [OpenVinoSession(compiled) for _ in range(count)]


def _openvino() -> Any:
    """The package, imported without its telemetry: that reports each import to its maker."""
    with _first_use:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        # OpenVINO fills its table of NumPy's types on first use and lets go of the interpreter's
        # lock meanwhile: two threads that come to it at once would stop the process for good.
        openvino.Type.f32.to_dtype()
        return openvino
