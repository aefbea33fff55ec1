"""The cache between a store and the repository: bounds, digests, truncation, removal, HTTP."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny_model import write_tiny_model

from isoserve.models.errors import InputError
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.mirror import Mirror
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.store import Store, store_url
from isoserve.service.settings import Settings

pytest.importorskip("fsspec")


def write(root: Path, version: int, size: int = 1000) -> Path:
    path = root / "m" / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([version]) * size)
    return path


def mirror_of(store: str, cache: Path, **settings: Any) -> Mirror:
    return Mirror(store, Settings(store_cache=cache, **settings))


def versions(mirror: Mirror) -> list[str]:
    return sorted(path.parent.name for path in mirror.folder.rglob("model.onnx"))


def test_urls_and_paths_are_told_apart() -> None:
    for url in ("s3://b/r", "https://host/a/model.onnx", "file:///tmp/r", "hf://org/repo"):
        assert store_url(url) == url
        assert store_url(Path(url)) == url
    for path in ("model_repository", "/srv/models", "a:b/c", Path("C/model.onnx")):
        assert store_url(path) is None


def test_what_is_in_the_store_comes_and_what_leaves_it_goes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(store, 1)
    (write(store, 2).parent / "model.onnx.sig").write_text("signature")
    (store / "m" / "latest").mkdir()
    (store / "README.md").write_text("hello")
    mirror = mirror_of(f"file://{store}", tmp_path / "cache")
    mirror.look()
    assert versions(mirror) == ["1", "2"]
    assert (mirror.folder / "m/2/model.onnx.sig").read_text() == "signature"
    (store / "m/1/model.onnx").unlink()
    mirror.look()
    assert versions(mirror) == ["2"]
    assert not (mirror.folder / "m/1").exists()
    mirror.close()


def test_a_store_that_is_away_or_empty_changes_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(store, 1)
    mirror = mirror_of(f"file://{store}", tmp_path / "cache")
    mirror.look()
    for left in ("moved", None):
        if left:
            store.rename(tmp_path / left)
        else:
            store.mkdir()
        with pytest.raises(FileNotFoundError):
            mirror.look()
        assert versions(mirror) == ["1"]
    mirror.close()


def test_the_cache_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for version in (1, 2, 10):
        write(store, version)
    mirror = mirror_of(f"file://{store}", tmp_path / "cache", store_cache_bytes=2500)
    mirror.look()
    assert versions(mirror) == ["10", "2"]
    write(store, 11)
    mirror.look()
    assert versions(mirror) == ["10", "11"]
    write(store, 12, size=5000)
    mirror.look()
    assert versions(mirror) == ["10", "11"]
    mirror.close()


def test_a_shadow_is_kept_before_other_versions(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for version in (1, 2, 3):
        write(store, version)
    mirror = mirror_of(f"file://{store}", tmp_path / "cache", store_cache_bytes=2500, shadow="m:1")
    mirror.look()
    assert versions(mirror) == ["1", "3"]
    mirror.close()


def test_a_file_over_the_limit_is_left_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "store", 1)
    write(tmp_path / "store", 2, size=5000)
    mirror = mirror_of(f"file://{tmp_path}/store", tmp_path / "cache", max_model_bytes=2000)
    mirror.look()
    assert versions(mirror) == ["1"]
    assert "5000 bytes, more than max_model_bytes (2000)" in caplog.text
    mirror.close()


def test_a_cached_file_that_lost_its_digest_is_brought_again(tmp_path: Path) -> None:
    original = write(tmp_path / "store", 1)
    first = mirror_of(f"file://{tmp_path}/store", tmp_path / "cache")
    first.look()
    first.close()
    kept = first.folder / "m/1/model.onnx"
    kept.write_bytes(b"x" * 1000)
    again = mirror_of(f"file://{tmp_path}/store", tmp_path / "cache")
    assert not kept.exists()
    again.look()
    assert kept.read_bytes() == original.read_bytes()
    again.close()


def test_two_servers_do_not_fill_one_folder(tmp_path: Path) -> None:
    mirror = mirror_of(f"file://{tmp_path}", tmp_path / "cache")
    with pytest.raises(InputError, match="--store-cache"):
        mirror_of(f"file://{tmp_path}", tmp_path / "cache")
    mirror.close()
    mirror_of(f"file://{tmp_path}", tmp_path / "cache").close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://a/b", "cannot be read"),
        ("gs://bucket/repository", "isoserve[gcs]"),
    ],
)
def test_a_url_that_nothing_reads_is_one_line(url: str, words: str) -> None:
    if "gcs" in words:
        try:
            import gcsfs  # noqa: F401

            pytest.skip("gcsfs is installed")
        except ModuleNotFoundError:
            pass
    with pytest.raises(InputError) as caught:
        Store(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class _Handler(SimpleHTTPRequestHandler):
    cut = 0

    def log_message(self, *_: object) -> None:
        return

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        outputfile.write(data[: len(data) - type(self).cut])


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """Serves the folder ``store``; ``_Handler.cut`` bytes are missing of each answer."""
    (tmp_path / "store").mkdir()
    handler = functools.partial(_Handler, directory=str(tmp_path / "store"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_file_that_the_store_has_not_yet_is_waited_for(tmp_path: Path) -> None:
    missing = Settings(repository=tmp_path / "model.onnx", max_batch=2)
    repository = Repository(missing, 1, Metrics())
    repository.scan()
    assert repository.scanned
    assert repository.not_ready
    write_tiny_model(tmp_path / "model.onnx")
    repository.scan()
    assert not repository.not_ready
    repository.close()


def test_https_repositories_and_single_files(website: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    store = tmp_path / "store"
    write(store, 1)
    whole = mirror_of(website, tmp_path / "cache", watch_seconds=0.01)
    whole.look()
    assert versions(whole) == ["1"]
    whole.close()

    one = mirror_of(f"{website}/m/1/model.onnx", tmp_path / "cache", watch_seconds=0.01)
    one.look()
    assert one.root.read_bytes() == b"\x01" * 1000
    write(store, 1, size=1200).write_bytes(b"new" * 400)
    _Handler.cut = 300
    try:
        one.look()
    finally:
        _Handler.cut = 0
    assert one.root.read_bytes() == b"\x01" * 1000  # what broke off never takes its place
    threading.Event().wait(0.05)
    one.look()
    assert one.root.read_bytes() == b"new" * 400
    one.close()
