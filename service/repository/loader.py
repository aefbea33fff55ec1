"""From a model's file to a model in memory, by way of a process where it may fail."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isoserve.service.inference.execution import Execution
from isoserve.service.repository.load_checks import Key, LoadChecks
from isoserve.service.repository.load_request import LoadReply, LoadRequest
from isoserve.service.repository.model_files import Fingerprint, fingerprint_of
from isoserve.service.settings import Settings

if TYPE_CHECKING:
    from isoserve.service.inference.model import Model

log = logging.getLogger("isoserve.repository")

LOOK_SECONDS = 0.01
"""Between two looks for what came of a file."""


class ModelLoader:
    """Asked by one thread at a time.

    The first file is being tried in its process while this one still imports the engines.

    Args:
        replies: what came of files that another process of this server has tried.
    """

    def __init__(self, settings: Settings, replies: Mapping[Key, LoadReply] | None = None) -> None:
        self._settings = settings
        self._checks = LoadChecks(settings.load_seconds)
        self._wanted: set[Key] = set()
        self._replies: dict[Key, LoadReply] = dict(replies or {})
        self._name = ""
        self._nameless: Fingerprint | None = None

    def tried(self, path: Path) -> LoadReply | None:
        """What came of loading this file in another process; None while it is not known.

        Once :meth:`load` was called, the next question tries the file again.
        """
        key = (path, fingerprint_of(path))
        if key not in self._replies:
            settings = self._settings
            limits = (settings.max_model_bytes, settings.max_load_bytes)
            execution = settings.execution
            request = LoadRequest(
                str(path),
                settings.max_batch,
                execution.device,
                execution.engine,
                execution.precision,
                *limits,
                str(settings.trusted_key or ""),
            )
            reply = self._checks.reply(key, request)
            if reply is None:
                self._wanted.add(key)
                return None
            self._replies[key] = reply
        return self._replies[key]

    def good_replies(self, seconds: float) -> dict[Key, LoadReply]:
        """Of the files asked for that may serve; waits so long at most until all are known.

        For other processes: they load those files without trying them again.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            replies = [self.tried(path) for path, _ in [*self._wanted]]
            if None not in replies:
                break
            time.sleep(LOOK_SECONDS)
        return {key: reply for key, reply in self._replies.items() if not reply.reason}

    def load(self, name: str, version: int, path: Path, slots: int) -> Model:
        """The model of a file that was tried.

        Raises:
            ModelRefused: why it may not serve.
        """
        from isoserve.service.inference.model import ModelRefused, load_model, read_model_bytes

        reply = self._replies.pop((path, fingerprint_of(path)), None)
        if reply is None:
            raise ModelRefused("changed", "the file was changed while it was being loaded")
        if reply.trial is None:
            raise ModelRefused(reply.reason, reply.detail)
        settings = self._settings
        try:
            data = read_model_bytes(path, settings.max_model_bytes)
            if hashlib.sha256(data).hexdigest() != reply.sha256:
                raise ModelRefused("changed", "the file was changed while it was being loaded")
            chosen = Execution.of_trial(settings.device, reply.trial)
            model = load_model(name, version, data, slots, settings.max_batch, chosen)
            model.decide_by = settings.decide_by
            return model
        except ModelRefused:
            raise
        except Exception as error:  # whatever one file brings about, the others are looked at
            log.exception("%s version %d failed to load", name, version)
            said = f"loading it failed with {type(error).__name__}; see the server's log"
            raise ModelRefused("failed", said) from error

    def name_of(self, path: Path) -> str | None:
        """The name in the card of a server's one file; None while the file is being tried.

        A file that is overwritten keeps the name that it began with; one that may not serve has
        its own, without the suffix.
        """
        if not self._name:
            fingerprint = fingerprint_of(path)
            if fingerprint is not None and fingerprint == self._nameless:
                return path.stem
            reply = self.tried(path)
            if reply is None:
                return None
            self._name = reply.name
            self._nameless = None if reply.name else fingerprint
        return self._name or path.stem

    def tidy(self) -> bool:
        """To be called after each look at the disk; whether it left nothing to be tried."""
        settled = not self._wanted
        self._checks.tidy(self._wanted)
        self._wanted = set()
        return settled

    def close(self) -> None:
        """Give up what is being tried."""
        self._checks.close()
