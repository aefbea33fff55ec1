"""A store's models in a folder on disk, which the repository watches as it does any other.

The store is looked at by a thread of its own, so that one that is slow or away holds nothing up;
what was brought serves on. A file comes under another name and is moved to its place when it is
whole; its digest is noted, and what no longer has it at the next start is brought again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.service.repository.cache_bounds import choose_within, newest_first
from isoserve.service.repository.folder import MODEL_FILE
from isoserve.service.repository.store import Store, StoredFile, StoredFileError
from isoserve.service.settings import Settings

log = logging.getLogger("isoserve.repository")

FIRST_LOOK_SECONDS = 10.0
"""With nothing in the cache, so long a start waits for the store to say whether it has anything."""

TALKATIVE = ("aiobotocore", "botocore", "httpx")
"""Libraries of stores that log each credential they find, or each request."""

LONGEST_PAUSE_SECONDS = 300.0
"""A file that did not come whole is tried again after a pause that doubles, up to this."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a file that was brought."""

    identity: str
    size: int
    sha256: str


@dataclass(slots=True)
class _Failure:
    identity: str
    detail: str
    pause: float
    not_before: float


class Mirror:
    """The folder of one URL in the cache, filled from the store.

    Raises:
        InputError: the URL cannot be read, or another server fills the same folder.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        for library in TALKATIVE:
            logging.getLogger(library).setLevel(logging.WARNING)
        self.store = Store(url)
        self._settings = settings
        self._shadows = {name: each.version for name, each in settings.shadows.items()}
        base = settings.store_cache or default_cache()
        self._cache = base / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder = self._cache / "repository"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        self._incoming = self._cache / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._state = self._cache / "files.json"
        self._kept = self._checked()
        self._failures: dict[str, _Failure] = {}
        self._left_out: frozenset[str] = frozenset()
        self._away = ""
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._is_awaited = False
        self._first_fault: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="store", daemon=True)

    @property
    def root(self) -> Path:
        """What a repository is to watch: the folder, or of a URL of one file that file."""
        return self.folder / MODEL_FILE if self.store.is_file else self.folder

    def start(self) -> None:
        """Look at the store now and every ``watch_seconds``.

        Raises:
            InputError: nothing is in the cache, and the store says that it has no such place or
                lets nobody in. One that does not answer is waited for while the server runs.
        """
        self._is_awaited = not self._kept
        self._thread.start()
        if not self._is_awaited:
            return
        self._looked.wait(FIRST_LOOK_SECONDS)
        self._is_awaited = False
        if self._first_fault is not None:
            self.close()
            raise InputError(f"no repository at {self.store.url}: {_in_words(self._first_fault)}")

    def close(self) -> None:
        """Look no more; what is being brought is left to the next start."""
        self._stopping.set()
        self._lock.close()

    def look(self) -> None:
        """Bring the folder in line with the store, once.

        Raises:
            Exception: the store cannot be reached; nothing in the folder was changed.
        """
        stored = self.store.files()
        if not stored and self._kept:
            raise FileNotFoundError("it lists no model, which is taken for a fault of the store")
        chosen = self._within_bounds(stored)
        whole = True
        for version in chosen:
            new = {
                place: stored[place]
                for place in version
                if not self._is_current(place, stored[place])
            }
            if self._stopping.is_set():
                return
            if new:
                whole = self._bring(new) and whole
        wanted = {place for version in chosen for place in version}
        for place in [*self._kept]:
            if place not in stored or (whole and place not in wanted):
                self._remove(place)
        self._note()

    def _within_bounds(self, stored: dict[str, StoredFile]) -> list[list[str]]:
        versions = [MODEL_FILE] if self.store.is_file else newest_first(stored, self._shadows)
        room = self._settings.store_cache_bytes
        chosen, left_out = choose_within(room, stored, versions)
        if left_out - self._left_out:
            log.warning(
                "%s of %s left there: store_cache_bytes (%d) has no room (%s)",
                *(pluralize(len(left_out), "model file"), self.store.url, room, min(left_out)),
            )
        self._left_out = left_out
        return chosen

    def _is_current(self, place: str, file: StoredFile) -> bool:
        kept = self._kept.get(place)
        return (
            kept is not None and kept.identity == file.identity and (self.folder / place).is_file()
        )

    def _bring(self, new: dict[str, StoredFile]) -> bool:
        """Whether a version's new files are in their place; if not, they are tried again later.

        They get there together: a model without its signature would be refused for that.
        """
        place = [*new][-1]
        identity = " ".join(file.identity for file in new.values())
        failed = self._failures.get(place)
        if failed is not None and failed.identity != identity:
            failed = None
        if failed is not None and time.monotonic() < failed.not_before:
            return False
        try:
            brought = self._fetched(new)
            self._put(place, brought)
        except Exception as error:  # one file that does not come keeps no other from coming
            self._failed(place, identity, failed, error)
            return False
        finally:
            shutil.rmtree(self._incoming, ignore_errors=True)
        self._failures.pop(place, None)
        self._kept |= brought
        self._note()
        for each, kept in brought.items():
            log.info(
                "%s of %s is here (%d bytes, %s)",
                *(each, self.store.url, kept.size, kept.sha256[:12]),
            )
        return True

    def _fetched(self, new: dict[str, StoredFile]) -> dict[str, Kept]:
        self._incoming.mkdir(exist_ok=True)
        brought = {}
        for place, file in new.items():
            part = self._incoming / Path(place).name
            self.store.fetch(file, part, self._settings.max_model_bytes)
            brought[place] = Kept(file.identity, part.stat().st_size, sha256_of(part))
        return brought

    def _put(self, place: str, brought: dict[str, Kept]) -> None:
        target = (self.folder / place).parent
        if target.exists():
            for each in brought:
                (self._incoming / Path(each).name).replace(self.folder / each)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self._incoming.rename(target)

    def _failed(self, place: str, identity: str, before: _Failure | None, error: Exception) -> None:
        detail = str(error) if isinstance(error, StoredFileError) else _in_words(error)
        if before is None or before.detail != detail:
            log.error("%s of %s is refused: %s", place, self.store.url, detail)
        pause = self._settings.watch_seconds if before is None else 2 * before.pause
        pause = min(pause, LONGEST_PAUSE_SECONDS)
        self._failures[place] = _Failure(identity, detail, pause, time.monotonic() + pause)

    def _remove(self, place: str) -> None:
        path = self.folder / place
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            if self.folder in folder.parents and not any(folder.iterdir()):
                folder.rmdir()
        del self._kept[place]
        log.info("%s of %s is gone", place, self.store.url)

    def _watch(self) -> None:
        while True:
            try:
                self.look()
                self._report("")
            except Exception as error:  # every store has its own; the thread outlives them all
                definite = isinstance(error, FileNotFoundError | PermissionError)
                if definite and self._is_awaited and not self._looked.is_set():
                    self._first_fault = error
                    self._looked.set()
                    return
                self._report(_in_words(error))
            self._looked.set()
            if self._stopping.wait(self._settings.watch_seconds):
                return

    def _report(self, fault: str) -> None:
        """Log what keeps the store from being read, once until that changes."""
        if bool(fault) == bool(self._away):
            return
        self._away = fault
        if fault:
            log.error("%s cannot be read: %s; what came of it serves on", self.store.url, fault)
        else:
            log.info("%s can be read again", self.store.url)

    def _locked(self) -> TextIO:
        lock = (self._cache / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise InputError(
                f"another server fills {self._cache} from {self.store.url}; "
                "name another folder with --store-cache"
            ) from error
        return lock

    def _checked(self) -> dict[str, Kept]:
        """What was brought before and still has its digest; all else goes."""
        try:
            noted = json.loads(self._state.read_text())
            known = {place: Kept(**kept) for place, kept in noted.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            known = {}
        kept = {}
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder).as_posix()
            if not path.is_file():
                continue
            if place in known and sha256_of(path) == known[place].sha256:
                kept[place] = known[place]
            else:
                log.warning("%s in the cache is not as it came and goes", place)
                path.unlink()
        return kept

    def _note(self) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps({place: asdict(kept) for place, kept in self._kept.items()}))
        part.replace(self._state)


def default_cache() -> Path:
    """Where the user's programs keep what they can fetch again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isoserve"


def sha256_of(path: Path) -> str:
    """The file's digest, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_words(error: Exception) -> str:
    said = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {said:.300}"
