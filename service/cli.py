"""``isoserve serve``: the options are the fields of Settings, so a name is written once."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from models.errors import InputError
from service.engine import load_model, read_model_bytes
from service.server import BACKLOG, serve_until_stopped
from service.settings import ENV_PREFIX, Settings, flag, read_settings


def _settings_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, field in reversed(Settings.model_fields.items()):
        default = f"default: {field.default}" if field.default != "" else "default: none"
        command = click.option(
            flag(name),
            name,
            metavar=getattr(field.annotation, "__name__", "value").upper(),
            help=f"{field.description}  [{ENV_PREFIX}{name.upper()}; {default}]",
        )(command)
    return command


@click.command(context_settings={"show_default": False})
@click.argument("model", required=False, type=click.Path(path_type=Path))
@_settings_options
def serve(model: Path | None, **options: Any) -> None:
    """Serve a model repository over HTTP.

    MODEL is a repository folder or a single model.onnx; short for --repository MODEL.

    \b
    Example:
      isoserve serve model_repository/ --port 8000
    """
    given = {name: value for name, value in options.items() if value is not None}
    if model is not None:
        if "repository" in given:
            raise InputError(f"both MODEL ({model}) and --repository were given; give one")
        given["repository"] = model
    settings = read_settings(**given)
    _check_repository(settings)
    listener = _listen(settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"isoserve: listening on http://{shown}:{port} (docs at /docs)", err=True)
    serve_until_stopped(settings, listener)


def _check_repository(settings: Settings) -> None:
    path = settings.repository
    if path.is_file():
        load_model("file", 1, read_model_bytes(path, settings.max_model_bytes), 1, 1)
    elif not path.is_dir():
        raise InputError(
            f"no repository at '{path}': give a folder of NAME/VERSION/model.onnx or a model.onnx"
        )


def _listen(settings: Settings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        ) from error
    return listener
