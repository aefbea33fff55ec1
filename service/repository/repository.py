"""Versions on disk: ``NAME/VERSION/model.onnx``, watched, loaded, swapped, rolled back.

The highest version that loads serves. A new one is loaded and warmed up beside it and then takes
its place for the requests that come after; requests already queued keep the version they were
given. A version that does not load is reported and the one before serves on; when the serving
version is removed, or is unloaded by request, the next lower one returns. The version that the
settings name as a model's shadow is loaded beside it and never answers.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from isoserve.service.inference.model import Model, ModelRefused
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.folder import Files, ModelFolder
from isoserve.service.repository.freed_memory import return_freed_memory
from isoserve.service.repository.index import ModelIndex
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.repository.missing_shadows import MissingShadows
from isoserve.service.repository.model_files import fingerprint_of
from isoserve.service.repository.shadow import Shadow, ShadowCounts
from isoserve.service.repository.versions import ModelRecord, ServingModel, State, VersionRecord
from isoserve.service.settings import Settings

log = logging.getLogger("isoserve.repository")

TRIED_AGAIN_SECONDS = 0.02
"""Between two looks while the load of a version is being tried in another process."""

PATIENCE_SECONDS = 10.0
"""At start: models that load sooner are waited for before the server says that it is ready; one
that takes longer, or does not end, holds up the others no longer than this."""


class Repository(ModelIndex):
    """The models of one folder, or of one file, kept as they are on disk.

    :meth:`scan` and the management calls run in one thread at a time.
    """

    def __init__(
        self, settings: Settings, slots: int, metrics: Metrics, loader: ModelLoader | None = None
    ) -> None:
        super().__init__(settings.default_model)
        self._root = settings.repository
        self._folder = ModelFolder(settings.repository)
        self._settings = settings
        self._slots = slots
        self._metrics = metrics
        self._changing = threading.RLock()
        self._stopping = threading.Event()
        self._loader = loader or ModelLoader(settings)
        self._patient_until = math.inf
        self._left = False
        self._watcher = threading.Thread(target=self._watch, name="repository", daemon=True)
        self._root_fault = ""
        self.shadows = settings.shadows
        self._missing_shadows = MissingShadows(self.shadows)

    def start(self) -> None:
        """Scan in the background, now and every ``watch_seconds``."""
        self._patient_until = time.monotonic() + PATIENCE_SECONDS
        self._watcher.start()

    def close(self) -> None:
        """Stop watching; a load that is being tried is given up."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        with self._changing:
            self._loader.close()

    def load(self, name: str, version: int | None = None) -> None:
        """Try again what was refused or unloaded: one version, or all of the model's.

        The highest that loads serves, here too.

        Raises:
            Problem: 404, no such model or version.
        """
        self.scan()
        with self._changing:
            for known in self._chosen(name, version):
                if known.state in ("refused", "unloaded"):
                    known.becomes("available")
            self.find(name).unloaded = False
        self.scan()

    def unload(self, name: str, version: int | None = None) -> None:
        """Take one version out of service, and the next lower one returns, or the whole model.

        A version that is published later serves, unless the whole model was taken out.

        Raises:
            Problem: 404, no such model or version.
        """
        with self._changing:
            for known in self._chosen(name, version):
                known.becomes("unloaded")
            if version is None:
                self.find(name).unloaded = True
        self.scan()

    def scan(self) -> None:
        """Bring what serves in line with what is on disk; blocks until nothing is being tried."""
        while not self._look() and not self._stopping.wait(TRIED_AGAIN_SECONDS):
            pass

    def _look(self) -> bool:
        """Look at the disk once; False while the load of a version is being tried."""
        with self._changing:
            for record in self.models.values():
                served = record.served
                if served is not None and (ended := served.model.ended):
                    known = record.versions.get(served.model.version)
                    if known is not None and known.state == "serving":
                        known.becomes("refused", "run_seconds", ended)
            found = self._on_disk()
            for name in [*self.models]:
                if name not in found:
                    self._serve(self.models.pop(name), None)
                    log.info("model %s is gone", name)
            for name in sorted(found):
                files = found[name]
                if files is not None:
                    record = self.models.get(name) or ModelRecord(name)
                    self._refresh(record, files)
                    self.models[name] = record
            settled = self._loader.tidy()
            if settled and self._left:
                self._left = False
                return_freed_memory()
            if settled:
                self._missing_shadows.report(self.models)
            self.settled = self.settled or settled
            if settled or time.monotonic() > self._patient_until:
                self.scanned = True
            return settled

    def _watch(self) -> None:
        while True:
            settled = True
            try:
                settled = self._look()
                self._report_root("")
            except OSError as error:
                self._report_root(error.strerror or str(error))
            except Exception:
                log.exception("the repository could not be scanned")
            pause = self._settings.watch_seconds
            if self._stopping.wait(pause if settled else min(pause, TRIED_AGAIN_SECONDS)):
                return

    def _report_root(self, fault: str) -> None:
        """Log what keeps the root from being read, once until that changes."""
        if fault == self._root_fault:
            return
        self._root_fault = fault
        if fault:
            log.error("the repository '%s' cannot be read: %s", self._root, fault)
        else:
            log.info("the repository '%s' can be read again", self._root)

    def _on_disk(self) -> Mapping[str, Files | None]:
        """Each model's files by version; None where they are not to be seen now."""
        if self._root.is_file():
            name = self._loader.name_of(self._root)
            return {} if name is None else {name: {1: self._root}}
        if self._root.suffix == ".onnx" and not self.models and not self._root.exists():
            return {}  # one file, which a store has not given yet
        return self._folder.models()

    def _refresh(self, record: ModelRecord, files: Files) -> None:
        """Find the highest version that loads and let it answer; see to the shadow beside it."""
        for version in [*record.versions]:
            if version not in files:
                del record.versions[version]
        at_first: State = "unloaded" if record.unloaded else "available"
        for version in files:
            record.versions.setdefault(version, VersionRecord(version, at_first))
        chosen = None
        for version in sorted(files, reverse=True):
            if self._role(record, version) != "serving":
                continue
            serves = self._try(record, record.versions[version], files[version])
            if serves is None:
                return  # until it is known, all stays as it is
            if serves:
                chosen = version
                break
        if chosen is None:
            self._serve(record, None)
        for version, known in record.versions.items():
            if known.state == "serving" and version != chosen:
                known.becomes("available")
        self._refresh_shadow(record, files)

    def _refresh_shadow(self, record: ModelRecord, files: Files) -> None:
        shadow = self.shadows.get(record.name)
        if shadow is None:
            return
        path = files.get(shadow.version)
        known = record.versions.get(shadow.version)
        serves = self._try(record, known, path) if path is not None and known else False
        if serves is None:
            return
        if not serves:
            record.shadow = None
        elif record.shadow is not None and record.served is not None:
            record.shadow.counts.beside(record.served.model.version)

    def _role(self, record: ModelRecord, version: int) -> State:
        """What the version is when it is in memory."""
        shadow = self.shadows.get(record.name)
        return "serving" if shadow is None or version != shadow.version else "shadow"

    def _try(self, record: ModelRecord, known: VersionRecord, path: Path) -> bool | None:
        """Whether this version is in its role now, loading it if it has to; None: not known yet."""
        if known.state == "unloaded":
            return False
        role = self._role(record, known.version)
        fingerprint = fingerprint_of(path)
        if fingerprint == known.fingerprint and known.state in (role, "refused"):
            return known.state == role
        reply = self._loader.tried(path)
        if reply is None:
            return None
        known.fingerprint = fingerprint
        slots = self._slots if role == "serving" else 1
        try:
            model = self._loader.load(record.name, known.version, path, slots)
        except ModelRefused as error:
            self._metrics.model_loads.labels("refused").inc()
            log.error("%s version %d refused: %s", record.name, known.version, error)
            # A version in its role whose file was overwritten with a bad one stays in memory.
            stays = known.state == role
            known.becomes(role if stays else "refused", error.reason, str(error))
            return stays
        known.card, known.sha256, known.form = model.card, model.sha256, model.form
        self._metrics.model_loads.labels("loaded").inc()
        if role == "serving":
            self._serve(record, model)
        else:
            counts = ShadowCounts(self._metrics, record.name, known.version)
            record.shadow = Shadow(model, self.shadows[record.name].share, counts)
        known.becomes(role)
        log.info(
            "%s version %d is %s (%s; %s in %s)",
            *(record.name, known.version, role, model.sha256[:12]),
            *(model.form.engine, model.form.precision),
        )
        return True

    def _serve(self, record: ModelRecord, model: Model | None) -> None:
        """Swap: from this assignment on, requests get the new version."""
        old = record.served
        if old is None and model is None:
            return
        if old is not None:
            self._metrics.models.model_left(old.model)
            old.series.window.close()
            self._left = True
        record.served = (
            None
            if model is None
            else ServingModel(model, self._metrics.models.model_serves(model, self._settings.alpha))
        )
