"""``isoserve serve``: the options are the fields of Settings, so a name is written once."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

import isoserve
from isoserve.commands.options import build, options_of
from isoserve.models.errors import InputError
from isoserve.service.environment import ignored_variables
from isoserve.service.observability.log_writer import configure_logging
from isoserve.service.repository.folder import ModelFolder
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.settings import ENV_PREFIX, Settings

log = logging.getLogger("isoserve")

LOOK_SECONDS = 0.02
"""Between two looks whether the one file has been tried."""

TRIAL_SECONDS = 3.0
"""So long at most workers wait until models have been tried for all of them; then each tries them
itself."""

PACKAGED_REPOSITORY = Path(isoserve.__file__).with_name("model_repository")
"""The default models, which the wheel carries."""


@click.command()
@click.argument("model", required=False, type=click.Path())
@options_of(Settings, ENV_PREFIX)
def serve(model: str | None, **options: Any) -> None:
    """Serve a model repository over HTTP.

    MODEL is a repository folder or a single model.onnx, or the URL of either (s3://, gs://,
    hf://, https://, ...); short for --repository MODEL. With neither it is the folder
    model_repository, or where there is none the models that come with the program.

    \b
    Examples:
      isoserve serve model_repository/ --port 8000
      isoserve serve s3://bucket/repository --trusted-key release.pub
    """
    given = {name: value for name, value in options.items() if value is not None}
    if model is not None:
        if "repository" in given:
            raise InputError(f"both MODEL ({model}) and --repository were given; give one")
        given["repository"] = model
    settings = _or_own_models(build(Settings, given, ENV_PREFIX))
    loader = ModelLoader(settings)
    _begin_to_load(settings, loader)
    _serve(settings, loader)


def _begin_to_load(settings: Settings, loader: ModelLoader) -> None:
    """Start the processes that try the models: they import the engines while this one does."""
    path = settings.repository
    if path.is_file():
        loader.tried(path)
    elif path.is_dir():
        with suppress(OSError):  # the repository's watcher says so, and looks again
            for versions in ModelFolder(path).models().values():
                if versions:
                    loader.tried(versions[max(versions)])


def _serve(settings: Settings, loader: ModelLoader) -> None:
    from isoserve.service.auth import Tokens
    from isoserve.service.inference.engines import check_available
    from isoserve.service.inference.execution_providers import providers_of
    from isoserve.service.observability.metrics import disable_multiprocess_metrics
    from isoserve.service.repository.signature import check_trusted_key
    from isoserve.service.repository.store import store_url
    from isoserve.service.review import open_store
    from isoserve.service.server import serve_until_stopped
    from isoserve.service.supervisor import serve_with_workers

    providers_of(settings.device)
    check_available(settings.execution)
    if settings.trusted_key is not None:
        check_trusted_key(settings.trusted_key)
    url = store_url(settings.repository)
    if url is None:
        _check_repository(settings, loader)
    for tokens in (settings.token_file, settings.review_token_file):
        if tokens is not None:
            Tokens(tokens)
    _check_grpc(settings)
    if settings.review_database:
        open_store(settings.review_database).close()
    listener = _listen(settings, settings.port)
    log_writer = configure_logging(settings.log_format, settings.workers > 1)
    for ignored in ignored_variables(os.environ, ENV_PREFIX, list(Settings.model_fields)):
        log.warning(ignored)
    if url is not None:
        settings = _mirrored(url, settings)
    _say_where(settings, listener)
    if settings.workers == 1:
        disable_multiprocess_metrics()
        serve_until_stopped(settings, listener, log_writer, loader=loader)
    else:
        replies = loader.good_replies(min(settings.load_seconds, TRIAL_SECONDS))
        loader.close()
        serve_with_workers(settings, listener, replies)


def _mirrored(url: str, settings: Settings) -> Settings:
    """With the folder that is filled from the URL from now on as the repository."""
    from isoserve.service.repository.mirror import Mirror

    mirror = Mirror(url, settings)
    if settings.shadow and mirror.store.is_file:
        raise InputError(f"--shadow needs a repository with versions; '{url}' is one file")
    mirror.start()
    return settings.model_copy(update={"repository": mirror.root})


def _or_own_models(settings: Settings) -> Settings:
    """With the package's repository, where none was named and the default is not there."""
    if "repository" in settings.model_fields_set or settings.repository.exists():
        return settings
    if not PACKAGED_REPOSITORY.is_dir():
        return settings
    return settings.model_copy(update={"repository": PACKAGED_REPOSITORY})


def _say_where(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    where = f"listening on http://{shown}:{port} (docs at /docs)"
    if settings.log_format == "json":
        log.info(where)
    else:
        click.echo(f"isoserve: {where}", err=True)


def _check_repository(settings: Settings, loader: ModelLoader) -> None:
    """Refuse what is no repository, and a server's one file that does not load."""
    path = settings.repository
    if path.is_file():
        if settings.shadow:
            raise InputError(f"--shadow needs a repository with versions; '{path}' is one file")
        while (reply := loader.tried(path)) is None:
            time.sleep(LOOK_SECONDS)
        if reply.reason:
            raise InputError(f"'{path}' cannot be served: {reply.detail}")
    elif not path.is_dir():
        raise InputError(
            f"no repository at '{path}': give a folder of NAME/VERSION/model.onnx or a model.onnx"
        )


def _check_grpc(settings: Settings) -> None:
    if not settings.grpc_port:
        return
    if importlib.util.find_spec("grpc") is None:
        raise InputError("--grpc-port needs grpcio: pip install 'isoserve[grpc]'")
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(
            "--grpc-port needs a folder for its socket: set TMPDIR to one that can be written"
        ) from error
    _listen(settings, settings.grpc_port).close()


def _listen(settings: Settings, port: int) -> socket.socket:
    from isoserve.service.server import BACKLOG

    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {settings.host} port {port}: {error.strerror}"
        ) from error
    return listener
