"""Command-line options generated from a pydantic model, so that a setting is described once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from models.errors import InputError

Command = Callable[..., Any]
Model = TypeVar("Model", bound=BaseModel)


def options_of(model: type[BaseModel]) -> Callable[[Command], Command]:
    """Decorate a click command with an option a field: ``batch_size`` becomes ``--batch-size``.

    Options that were not given arrive as None, so that the model's own defaults, environment
    variables or checks decide.
    """

    def decorate(command: Command) -> Command:
        for name, field in reversed(model.model_fields.items()):
            command = _option(name, field)(command)
        return command

    return decorate


def build(model: type[Model], given: dict[str, Any]) -> Model:
    """Make the model from the options that were given.

    Raises:
        InputError: names the first option that does not fit, its value and what would.
    """
    try:
        return model(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InputError(f"{name} is {first['input']!r}: {first['msg']}") from error


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag = "--" + name.replace("_", "-")
    kind = _click_type(field.annotation)
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    shown = None if default in (None, PydanticUndefined) else str(default)
    if kind is click.BOOL:
        flag = f"{flag}/--no-{flag[2:]}"
    return click.option(
        flag, name, type=kind, default=None, help=field.description, show_default=shown or False
    )


def _click_type(annotation: Any) -> click.ParamType[Any] | type[Any]:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return click.Choice([str(choice) for choice in get_args(annotation)])
    if annotation is bool:
        return click.BOOL
    return annotation if annotation in (int, float, Path) else str
