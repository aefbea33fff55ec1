"""Versions on disk: ``NAME/VERSION/model.onnx``, watched, loaded, swapped, rolled back.

The highest version that loads serves. A new one is loaded and warmed up beside it and then takes
its place for the requests that come after; requests already queued keep the version they were
given. A version that does not load is reported and the one before serves on; when the serving
version is removed, or is unloaded by request, the next lower one returns.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from models.card import ModelName
from service.engine import Model, ModelRefused, load_model, read_model_bytes
from service.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from service.versions import Fingerprint, ModelRecord, Served, VersionRecord

log = logging.getLogger("isoserve.repository")

MODEL_FILE = "model.onnx"


class Repository:
    """The models of one folder, or of one file.

    :meth:`scan` and the management calls run in one thread at a time; :meth:`resolve` and
    :attr:`models` are read from the event loop without a lock, since records change whole.
    """

    def __init__(self, settings: Settings, slots: int, metrics: Metrics) -> None:
        self._root = settings.repository
        self._settings = settings
        self._slots = slots
        self._metrics = metrics
        self._changing = threading.RLock()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="repository", daemon=True)
        self._single_file_name = ""
        self.models: dict[str, ModelRecord] = {}
        self.scanned = False

    def start(self) -> None:
        """Scan in the background, now and every ``watch_seconds``."""
        self._watcher.start()

    def close(self) -> None:
        """Stop watching; blocks until a load in progress is done."""
        self._stopping.set()
        self._watcher.join()

    @property
    def ready(self) -> bool:
        """Whether the folder was looked through and each of its models has a version to answer."""
        records = list(self.models.values())
        return self.scanned and any(record.served for record in records)

    def resolve(self, name: str | None, version: int | None) -> Served:
        """The version that answers now.

        Raises:
            Problem: 404 for a model or version that is not here, 503 when none is loaded.
        """
        record = self._record(name)
        served = record.served
        if served is None:
            raise Problem(
                503,
                "no_model_ready",
                f"model '{record.name}' has no version that could be loaded",
                retry_after=5,
            )
        if version is not None and version != served.model.version:
            raise Problem(
                404,
                "no_such_version",
                f"version {version} of model '{record.name}' does not serve; "
                f"version {served.model.version} does",
            )
        return served

    def find(self, name: str) -> ModelRecord:
        """A model's record.

        Raises:
            Problem: 404, no such model.
        """
        record = self.models.get(name)
        if record is None:
            raise Problem(404, "no_such_model", f"no model is called '{name[:64]}'")
        return record

    def load(self, name: str, version: int | None = None) -> None:
        """Try again what was refused or unloaded: one version, or all of the model's.

        Raises:
            Problem: 404, no such model or version.
        """
        with self._changing:
            self.scan()
            for record in self._chosen(name, version):
                if record.state in ("refused", "unloaded"):
                    record.becomes("available")
            self.scan()

    def unload(self, name: str, version: int | None = None) -> None:
        """Take one version, or all of the model's, out of service; the next lower one returns.

        Raises:
            Problem: 404, no such model or version.
        """
        with self._changing:
            for record in self._chosen(name, version):
                record.becomes("unloaded")
            self.scan()

    def scan(self) -> None:
        """Bring what serves in line with what is on disk."""
        with self._changing:
            found = self._on_disk()
            for name in [*self.models]:
                if name not in found:
                    self._serve(self.models.pop(name), None)
                    log.info("model %s is gone", name)
            for name, files in sorted(found.items()):
                record = self.models.get(name) or ModelRecord(name)
                self._refresh(record, files)
                self.models[name] = record
            self.scanned = True

    def _record(self, name: str | None) -> ModelRecord:
        name = name or self._settings.default_model
        if name:
            return self.find(name)
        first = min(self.models, default=None)
        if first is None:
            raise Problem(
                503,
                "no_model_ready",
                "no model is loaded" if self.scanned else "the models are being loaded",
                retry_after=5,
            )
        return self.models[first]

    def _chosen(self, name: str, version: int | None) -> list[VersionRecord]:
        versions = self.find(name).versions
        if version is None:
            return list(versions.values())
        if version not in versions:
            raise Problem(404, "no_such_version", f"model '{name}' has no version {version}")
        return [versions[version]]

    def _watch(self) -> None:
        while True:
            try:
                self.scan()
            except OSError as error:
                log.error("the repository cannot be read: %s", error.strerror)
            except Exception:
                log.exception("the repository could not be scanned")
            if self._stopping.wait(self._settings.watch_seconds):
                return

    def _on_disk(self) -> dict[str, dict[int, Path]]:
        """Model name -> version -> file, for every directory that is named as one."""
        if self._root.is_file():
            return {self._name_of_file(): {1: self._root}}
        found: dict[str, dict[int, Path]] = {}
        for folder in self._root.iterdir():
            if not _is_model_name(folder.name) or not folder.is_dir():
                continue
            versions = {
                int(path.name): path / MODEL_FILE
                for path in folder.iterdir()
                if _is_version(path.name) and path.is_dir()
            }
            if versions:
                found[folder.name] = versions
        return found

    def _name_of_file(self) -> str:
        if not self._single_file_name:
            try:
                data = read_model_bytes(self._root, self._settings.max_model_bytes)
                self._single_file_name = load_model(
                    "file", 1, data, 1, 1, self._settings.device
                ).card.name
            except ModelRefused:
                return self._root.stem  # the scan refuses it again, with the reason
        return self._single_file_name

    def _refresh(self, record: ModelRecord, files: dict[int, Path]) -> None:
        """Find the highest version that loads and let it answer."""
        for version in [*record.versions]:
            if version not in files:
                del record.versions[version]
        for version in files:
            record.versions.setdefault(version, VersionRecord(version))
        chosen = None
        for version in sorted(files, reverse=True):
            if self._try(record, record.versions[version], files[version]):
                chosen = version
                break
        if chosen is None:
            self._serve(record, None)
        for version, known in record.versions.items():
            if known.state == "serving" and version != chosen:
                known.becomes("available")

    def _try(self, record: ModelRecord, known: VersionRecord, path: Path) -> bool:
        """Whether this version answers now, loading it if it has to."""
        if known.state == "unloaded":
            return False
        fingerprint = _fingerprint(path)
        if fingerprint == known.fingerprint and known.state in ("serving", "refused"):
            return known.state == "serving"
        known.fingerprint = fingerprint
        try:
            data = read_model_bytes(path, self._settings.max_model_bytes)
            model = load_model(
                record.name,
                known.version,
                data,
                self._slots,
                self._settings.max_batch,
                self._settings.device,
            )
        except ModelRefused as error:
            self._metrics.model_loads.labels("refused").inc()
            log.error("%s version %d refused: %s", record.name, known.version, error)
            # A serving version whose file was overwritten with a bad one stays in memory.
            serving = known.state == "serving"
            known.becomes("serving" if serving else "refused", error.reason, str(error))
            return serving
        known.card, known.sha256 = model.card, model.sha256
        self._metrics.model_loads.labels("loaded").inc()
        self._serve(record, model)
        known.becomes("serving")
        log.info("%s version %d serves (%s)", record.name, known.version, model.sha256[:12])
        return True

    def _serve(self, record: ModelRecord, model: Model | None) -> None:
        """Swap: from this assignment on, requests get the new version."""
        old = record.served
        if old is None and model is None:
            return
        if old is not None:
            self._metrics.model_left(old.model)
        record.served = (
            None
            if model is None
            else Served(model, self._metrics.model_serves(model, self._settings.alpha))
        )


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name)) and len(name) <= 18


def _is_model_name(name: str) -> bool:
    try:
        _MODEL_NAME.validate_python(name)
    except ValidationError:
        return False
    return True


_MODEL_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
