"""Models where they are kept: a repository, or one file, under a URL that fsspec can read."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoserve.models.errors import InputError
from isoserve.service.repository.folder import MODEL_FILE, SIGNATURE_FILE
from isoserve.service.repository.model_files import is_model_name, is_version

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf", "models": "mlflow"}
"""Of a scheme; ``stores`` brings the others."""

_MLFLOW = "models"
"""The scheme of MLflow's registered models, of which a version is one file."""

_FLAT = frozenset(("s3", "s3a", "gs", "gcs"))
"""Schemes of stores that list all that lies below a prefix in one answer."""

_WHOLE_AT_ONCE = _FLAT | {"hf"}
"""Schemes of stores where a file that is being written is not there before it is whole."""

_IDENTITY = (
    *("ETag", "etag", "generation", "md5Hash", "blob_id"),
    *("mtime", "LastModified", "Last-Modified", "last_modified", "created"),
)
"""What stores call the mark of a file's contents, or the time they were written."""


class StoredFileError(InputError):
    """A file that could not be brought whole; the message says what was wrong with it."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as the store describes it."""

    path: str
    """As the store's file system names it."""
    size: int | None
    """In bytes; None where the store does not say."""
    identity: str
    """Another one, another content: etag, size and time, as far as the store has them."""


def store_url(location: str | Path) -> str | None:
    """The URL that a location is, or None for a path.

    A :class:`~pathlib.Path` of a URL has lost one of the two slashes: it returns here.
    """
    found = _URL.fullmatch(str(location))
    if found is None:
        return None
    scheme, rest = found.groups()
    if scheme == _MLFLOW:
        return f"{scheme}:/{rest}"  # as MLflow writes it
    return f"{scheme}://{'/' if scheme in ('file', 'local') else ''}{rest}"


def file_system(url: str) -> tuple[Any, str]:
    """What reads a URL or path, and what it calls that place.

    Raises:
        ImportError: it needs a package that is not installed.
        ValueError: no such URL.
    """
    import fsspec
    from fsspec.core import url_to_fs

    fsspec.register_implementation(
        _MLFLOW, "isoserve.service.repository.mlflow_models.MlflowModels", clobber=True
    )
    known = store_url(url) or url
    file_system, root = url_to_fs(known.replace(f"{_MLFLOW}:/", f"{_MLFLOW}://", 1))
    return file_system, str(root)


class Store:
    """``NAME/VERSION/model.onnx`` below a URL, or the one file that the URL names.

    Raises:
        InputError: nothing here reads such URLs; the message says what to install.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._scheme = url.partition(":")[0]
        path = url.partition("?")[0]
        self.is_file = path.endswith(".onnx") or (
            self._scheme == _MLFLOW and bool(re.search(r"[^:/][/@][^/]+$", path))
        )
        if importlib.util.find_spec("fsspec") is None:
            raise InputError(f"{url} needs fsspec: pip install 'isoserve[{self._extra}]'")
        try:
            self._fs, root = file_system(url)
        except ImportError as error:
            raise InputError(
                f"{url} needs what only an extra installs: pip install 'isoserve[{self._extra}]' "
                f"({' '.join(str(error).split())})"
            ) from error
        except ValueError as error:
            raise InputError(f"{url} cannot be read: {error}") from error
        self._root = str(root).rstrip("/")
        self._above = "" if self._scheme == _MLFLOW else self._root

    @property
    def _extra(self) -> str:
        return _EXTRAS.get(self._scheme, "stores")

    def files(self) -> dict[str, StoredFile]:
        """What is there now, by its place in a repository: ``NAME/VERSION/model.onnx``.

        Of a URL of one file it is ``model.onnx``. Signatures are beside their models.

        Raises:
            Exception: whatever the store's own file system raises where it cannot be reached.
        """
        self._fs.invalidate_cache()
        found = dict(self._one() if self.is_file else self._all())
        if self._scheme in ("http", "https"):  # a list of links says nothing of what they lead to
            found = {place: self._fs.info(info["name"]) for place, info in found.items()}
        return {place: _described(info) for place, info in found.items()}

    def fetch(self, file: StoredFile, to: Path, limit: int) -> None:
        """Copy the file to ``to``, where it may be left in part.

        Raises:
            StoredFileError: it is over the limit, ended early, or was changed meanwhile.
            Exception: as in :meth:`files`.
        """
        from fsspec.callbacks import Callback

        class Bounded(Callback):  # type: ignore[misc]  # fsspec has no types
            def relative_update(self, inc: int = 1) -> None:
                super().relative_update(inc)
                if self.value > limit:
                    raise StoredFileError(f"it has more bytes than max_model_bytes ({limit})")

        if file.size is not None and file.size > limit:
            raise StoredFileError(f"it has {file.size} bytes, more than max_model_bytes ({limit})")
        self._fs.get_file(file.path, str(to), callback=Bounded())
        size = to.stat().st_size
        if file.size is not None and size != file.size:
            raise StoredFileError(
                f"{size} bytes came of the {file.size} that the store says it has"
            )
        self._fs.invalidate_cache()
        now = _described(self._fs.info(file.path))
        if now.size != file.size:
            raise StoredFileError("it was changed while it was being copied")

    def add(self, place: str, from_: Path) -> None:
        """Write a file that is not there yet; it appears whole, as far as the store allows.

        Raises:
            FileExistsError: there is one, as when two write at the same time.
            Exception: as in :meth:`files`.
        """
        path = f"{self._root}/{place}"
        if self._fs.exists(path):
            raise FileExistsError(path)
        if self._scheme in _WHOLE_AT_ONCE:
            only_new = {"mode": "create"} if self._scheme in ("s3", "s3a") else {}
            self._fs.put_file(str(from_), path, **only_new)
            return
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        part = f"{path}.part"
        self._fs.put_file(str(from_), part)
        self._fs.mv(part, path)

    def _one(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield MODEL_FILE, self._fs.info(self._root)
        path, mark, query = self._root.partition("?")
        try:
            yield SIGNATURE_FILE, self._fs.info(f"{path}.sig{mark}{query}")
        except FileNotFoundError:
            return

    def _all(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._scheme in _FLAT:
            listing = self._fs.find(self._root, detail=True).values()
        else:
            listing = self._walk()
        for info in listing:
            place = info["name"].rstrip("/").removeprefix(self._above).lstrip("/")
            parts = place.split("/")
            if len(parts) != 3 or parts[2] not in (MODEL_FILE, SIGNATURE_FILE):
                continue
            if is_model_name(parts[0]) and is_version(parts[1]):
                yield place, info

    def _walk(self) -> Iterator[dict[str, Any]]:
        # fsspec's own walk passes over a folder that cannot be read, as if it had been emptied.
        models = self._folders(self._root, is_model_name)
        for model in [self._root] if self._scheme == _MLFLOW and self._root else models:
            for version in self._folders(model, is_version):
                yield from self._fs.ls(version, detail=True)

    def _folders(self, path: str, is_wanted: Any) -> Iterator[str]:
        for info in self._fs.ls(path, detail=True):
            name = info["name"].rstrip("/")
            if info["type"] == "directory" and is_wanted(posixpath.basename(name)):
                yield info["name"]


def _described(info: dict[str, Any]) -> StoredFile:
    size = info.get("size")
    marks = [f"{name}={info[name]}" for name in _IDENTITY if info.get(name) is not None]
    return StoredFile(info["name"], size, f"size={size} {' '.join(marks)}")
