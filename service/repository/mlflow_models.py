"""MLflow's registered models as a file system of fsspec: ``models://NAME/VERSION``.

A path is ``NAME`` (a folder of its versions), ``NAME/VERSION``, ``NAME/latest`` or ``NAME@ALIAS``
(the ``model.onnx`` of that version; with ``.sig`` after it, its signature), or the whole
``NAME/VERSION/model.onnx``. What an alias leads to is asked each time, so that it may be moved.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK

from isoserve.extras import import_mlflow, mlflow_server
from isoserve.service.repository.folder import MODEL_FILE, SIGNATURE_FILE

_PATH = re.compile(
    r"(?P<name>[^/@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[\w-]+))?"
    rf"(?:/(?P<file>{re.escape(MODEL_FILE)}))?(?P<signature>\.sig)?"
)


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    version: str
    alias: str
    file: str


class MlflowModels(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Of the server that MLFLOW_TRACKING_URI names, or MLFLOW_REGISTRY_URI; only read.

    Raises:
        ImportError: mlflow is not installed.
        ValueError: neither variable is set: mlflow would make a database in this folder.
    """

    protocol = "models"
    cachable = False  # or it would outlive a change of the server's variable

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not mlflow_server():
            raise ValueError("MLFLOW_TRACKING_URI must name the MLflow server, and is not set")
        self._mlflow = import_mlflow()
        self._sizes: dict[tuple[str, str, int], dict[str, int | None]] = {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The registered models, the versions of one, or the files of a version."""
        path = self._strip_protocol(path).strip("/")
        found = list(self._listed(path))
        return found if detail else [info["name"] for info in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Of a model or a version's file.

        Raises:
            FileNotFoundError: there is none.
        """
        path = self._strip_protocol(path).strip("/")
        place = _parsed(path)
        with _translated(path):
            if not place.file:
                self._client.get_registered_model(place.name)
                return {"name": path, "type": "directory", "size": 0}
            version = self._version(place)
            for info in self._files(version):
                if info["name"].endswith(f"/{place.file}"):
                    return info | {"name": path}
        raise FileNotFoundError(f"version {version.version} of '{place.name}' has no {place.file}")

    def get_file(self, rpath: str, lpath: str, callback: Any = DEFAULT_CALLBACK, **_: Any) -> None:
        """Copy one file; the callback is told of it before and after."""
        path = self._strip_protocol(rpath).strip("/")
        place = _parsed(path)
        target = Path(lpath)
        with _translated(path), tempfile.TemporaryDirectory(dir=target.parent) as folder:
            version = self._version(place)
            self._sizes.pop(_key(version), None)  # asked again after what may have changed it
            got = self._mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{place.name}/{version.version}/{place.file}",
                dst_path=folder,
            )
            callback.relative_update(Path(got).stat().st_size)
            Path(got).replace(target)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            raise NotImplementedError("models:/ is only read; isoserve train --logger mlflow adds")
        with tempfile.TemporaryDirectory() as folder:
            self.get_file(path, str(Path(folder, "file")))
            return Path(folder, "file").open("rb")

    @property
    def _client(self) -> Any:
        return self._mlflow.MlflowClient()

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        with _translated(path):
            if not path:
                for model in self._paged(self._client.search_registered_models):
                    yield {"name": model.name, "type": "directory", "size": 0}
                return
            place = _parsed(path)
            if place.version or place.alias:
                yield from self._files(self._version(place))
                return
            for version in self._versions(place.name):
                name = f"{version.name}/{version.version}"
                yield {"name": name, "type": "directory", "size": 0}

    def _files(self, version: Any) -> Iterator[dict[str, Any]]:
        """A version's content never changes, so its sizes are asked once."""
        key = _key(version)
        if key not in self._sizes:
            uri = f"models:/{version.name}/{version.version}"
            listed = self._mlflow.artifacts.list_artifacts(artifact_uri=uri)
            there = {each.path: each.file_size for each in listed if not each.is_dir}
            sizes = {n: there[n] for n in (MODEL_FILE, SIGNATURE_FILE) if n in there}
            if MODEL_FILE not in sizes:
                return
            self._sizes[key] = sizes
        for name, size in self._sizes[key].items():
            yield {
                "name": f"{version.name}/{version.version}/{name}",
                "type": "file",
                "size": size,
                "etag": f"{version.version} {version.creation_timestamp} {version.source}",
            }

    def _version(self, place: _Place) -> Any:
        if place.alias:
            return self._client.get_model_version_by_alias(place.name, place.alias)
        if place.version != "latest":
            return self._client.get_model_version(place.name, place.version)
        versions = self._versions(place.name)
        if not versions:
            raise FileNotFoundError(f"the registered model '{place.name}' has no version")
        return max(versions, key=lambda version: int(version.version))

    def _versions(self, name: str) -> list[Any]:
        """Those that are ready; MLflow finds none of a model that is not there."""
        self._client.get_registered_model(name)
        quoted = name.replace("'", "''")
        found = self._paged(self._client.search_model_versions, f"name='{quoted}'")
        return [version for version in found if version.status == "READY"]

    def _paged(self, search: Any, wanted: str | None = None) -> Iterator[Any]:
        token = None
        while True:
            page = search(filter_string=wanted, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _parsed(path: str) -> _Place:
    found = _PATH.fullmatch(path)
    if found is None or (found["file"] and not (found["version"] or found["alias"])):
        raise FileNotFoundError(
            f"'models:/{path}' names no model: it must be models:/NAME, models:/NAME/VERSION, "
            "models:/NAME/latest or models:/NAME@ALIAS"
        )
    version, alias = found["version"] or "", found["alias"] or ""
    file = (MODEL_FILE + (found["signature"] or "")) if version or alias else ""
    return _Place(found["name"] + ("" if file else found["signature"] or ""), version, alias, file)


def _key(version: Any) -> tuple[str, str, int]:
    return version.name, str(version.version), version.creation_timestamp


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """MLflow's errors as those of files."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = f"models:/{path}: {' '.join(str(error).split()):.300}"
        code = error.error_code
        if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            raise FileNotFoundError(said) from error
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
            raise PermissionError(said) from error
        raise OSError(said) from error
