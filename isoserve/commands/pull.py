"""``isoserve pull`` and ``isoserve push``: models from and to where a team keeps them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from isoserve.commands.inspect import open_model
from isoserve.commands.options import build, defaults_but
from isoserve.models.errors import InputError
from isoserve.service.inference.model import Model
from isoserve.service.repository.folder import MODEL_FILE, SIGNATURE_FILE
from isoserve.service.repository.model_files import is_model_name, signature_of
from isoserve.service.repository.store import Store, StoredFile, StoredFileError, store_url
from isoserve.service.settings import ENV_PREFIX, Settings

TRIES = 5
"""Of a version's number, where others push at the same time."""


@click.command()
@click.argument("url")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
def pull(url: str, destination: Path) -> None:
    """Copy the models at URL to DEST.

    Of a repository, DEST becomes a folder of NAME/VERSION/model.onnx; of the URL of one .onnx
    file, that file, or model.onnx in DEST if DEST is a folder. Each file is checked as a server
    checks it before it takes its place; signatures come along.

    \b
    Examples:
      isoserve pull s3://bucket/repository model_repository
      isoserve pull https://example.org/model.onnx model.onnx
    """
    store = _store(url)
    files = _listed(store)
    if not files:
        raise InputError(f"no model at {url}: a repository has files NAME/VERSION/{MODEL_FILE}")
    settings = build(Settings, defaults_but(Settings, ("max_model_bytes",)), ENV_PREFIX)
    for place in sorted(files):  # a model before its signature
        target = destination / place
        if store.is_file and not destination.is_dir():
            target = destination if place == MODEL_FILE else signature_of(destination)
        _pull_file(store, files[place], target, settings.max_model_bytes)


def _pull_file(store: Store, file: StoredFile, target: Path, limit: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".isoserve-", dir=target.parent) as folder:
        part = Path(folder, target.name)
        try:
            store.fetch(file, part, limit)
        except StoredFileError as error:
            raise InputError(f"{file.path} is refused: {error}") from error
        except Exception as error:  # every store has its own
            raise InputError(f"{file.path} cannot be read: {_said(error)}") from error
        said = ""
        if not target.name.endswith(".sig"):
            said = f"  (sha256 {_opened(part, file.path).sha256})"
        part.replace(target)
    click.echo(f"{target}{said}")


def _opened(part: Path, path: str) -> Model:
    try:
        return open_model(part)
    except InputError as error:
        raise InputError(str(error).replace(str(part), path)) from error


@click.command()
@click.argument("model_file", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("url")
@click.option("--name", default=None, help="Of the model in the repository; default: its card's.")
def push(model_file: Path, url: str, name: str | None) -> None:
    """Write MODEL to the repository at URL, as the version after its newest.

    It becomes NAME/VERSION/model.onnx, after its signature if there is one beside it, and appears
    whole as far as the store allows.

    \b
    Example:
      isoserve push model.onnx s3://bucket/repository
    """
    model = open_model(model_file)
    name = name or model.card.name
    if not is_model_name(name):
        raise InputError(
            f"'{name}' cannot name a model: letters, digits, dots, dashes and underscores can; "
            "give another with --name"
        )
    store = _store(url)
    if store.is_file:
        raise InputError(f"'{url}' names one file: give a repository, to which a version is added")
    place = _add(store, name, model_file)
    click.echo(f"{url.rstrip('/')}/{place}  (sha256 {model.sha256})")


def _add(store: Store, name: str, model_file: Path) -> str:
    signature = signature_of(model_file)
    for _ in range(TRIES):
        versions = [int(place.split("/")[1]) for place in _of(name, store)]
        folder = f"{name}/{max(versions, default=0) + 1}"
        try:
            if signature.is_file():
                store.add(f"{folder}/{SIGNATURE_FILE}", signature)
            store.add(f"{folder}/{MODEL_FILE}", model_file)
        except FileExistsError:
            continue
        except Exception as error:  # every store has its own
            raise InputError(f"{store.url} cannot be written: {_said(error)}") from error
        return f"{folder}/{MODEL_FILE}"
    raise InputError(f"others add versions of {name} to {store.url} all the time; try again")


def _of(name: str, store: Store) -> list[str]:
    try:
        files = store.files()
    except FileNotFoundError:
        return []  # nothing was written there yet
    except Exception as error:  # every store has its own
        raise InputError(f"{store.url} cannot be read: {_said(error)}") from error
    return [place for place in files if place.startswith(f"{name}/")]


def _listed(store: Store) -> dict[str, StoredFile]:
    try:
        return store.files()
    except Exception as error:  # every store has its own
        raise InputError(f"{store.url} cannot be read: {_said(error)}") from error


def _store(url: str) -> Store:
    return Store(store_url(url) or f"file://{Path(url).resolve()}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
