"""A process that tries to load models for another, run by ``python -m``.

A model file may ask for any amount of memory, never end, or bring the process down. So each is
loaded and warmed up here first, where that harms nobody. A line of JSON comes in for each file and
one goes out; the process ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from isoserve.service.inference.execution import Execution
from isoserve.service.inference.model import ModelRefused, load_model, read_model_bytes
from isoserve.service.repository.load_request import LoadReply, LoadRequest
from isoserve.service.repository.signature import check_signature

_DIES_WITH_ITS_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""


def try_to_load(request: LoadRequest) -> LoadReply:
    """Load the model, warm it up, and forget it."""
    _bound_memory(request)
    path = Path(request.path)
    key = Path(request.trusted_key) if request.trusted_key else None
    try:
        data = read_model_bytes(path, request.max_model_bytes)
        check_signature(path, data, key)
        execution = Execution(request.device, request.engine, request.precision)
        model = load_model("", 1, data, 1, request.max_batch, execution)
        return LoadReply(model.card.name, model.sha256, model.trial)
    except Exception as error:  # whatever one file brings about, others are tried
        if isinstance(error, MemoryError) or _is_of_memory(str(error)):
            most = request.max_load_bytes
            detail = f"loading it takes more memory than max_load_bytes ({most}) allows"
            return LoadReply(reason="memory", detail=detail)
        if isinstance(error, ModelRefused):
            return LoadReply(reason=error.reason, detail=str(error))
        return LoadReply(reason="failed", detail=f"loading it failed: {error!r:.300}")


def _is_of_memory(text: str) -> bool:
    return any(sign in text.lower() for sign in ("bad_alloc", "bad alloc", "allocate memory"))


def _bound_memory(request: LoadRequest) -> None:
    if request.device != "cpu" or sys.platform != "linux":
        return  # a GPU's driver reserves far more than it uses
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + request.max_load_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def main() -> None:
    """Answer until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_ITS_PARENT, signal.SIGKILL)
    # Ctrl-C reaches the whole terminal; the parent ends this process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    for line in sys.stdin:
        reply = try_to_load(LoadRequest(**json.loads(line)))
        print(json.dumps(asdict(reply)), file=out, flush=True)


if __name__ == "__main__":
    main()
