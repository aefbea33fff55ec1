"""Command-line options generated from a pydantic model, so that a setting is described once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError

from isoserve.models.errors import InputError

Command = Callable[..., Any]
Model = TypeVar("Model", bound=BaseModel)


def options_of(
    model: type[BaseModel], env_prefix: str | None = None, leave_out: frozenset[str] = frozenset()
) -> Callable[[Command], Command]:
    """Decorate a click command with an option a field: ``batch_size`` becomes ``--batch-size``.

    Options that were not given arrive as None, so that the model's own defaults, environment
    variables or checks decide; the others arrive as text, so that the model alone converts them
    and says what is wrong.

    Args:
        env_prefix: of the model's environment variables, where it reads them; named in the help.
        leave_out: fields that the command declares itself.
    """

    def decorate(command: Command) -> Command:
        for name, field in reversed(model.model_fields.items()):
            if name in leave_out:
                continue
            command = _option(name, field, env_prefix)(command)
        return command

    return decorate


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def build(model: type[Model], given: dict[str, Any], env_prefix: str | None = None) -> Model:
    """Make the model from the options that were given, and for settings from the environment.

    Args:
        env_prefix: of the model's environment variables, where it reads them; named in the error.

    Raises:
        InputError: names the first option that does not fit, its value and what would.
    """
    try:
        return model(**{key: value for key, value in given.items() if value is not None})
    except SettingsError as error:
        raise InputError(f"bad setting in the environment: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(message) from error
        name, value = str(first["loc"][0]), first["input"]
        if env_prefix is None:
            raise InputError(f"{flag(name)} is {value!r}: {message}") from error
        named = f"{flag(name)} ({env_prefix}{name.upper()})"
        raise InputError(f"{named}: {message}, got {value!r}") from error


def defaults_but(model: type[BaseModel], wanted: Collection[str]) -> dict[str, Any]:
    """The defaults of all fields but those wanted, to be given to :func:`build`.

    A command that needs a few of the settings reads no other, and no other's bad value stops it.
    """
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if name not in wanted
    }


class _Field(click.ParamType[Any]):
    """A field's text as it was given; shells complete its choices and paths."""

    def __init__(self, annotation: Any) -> None:
        if get_origin(annotation) in (Union, UnionType):
            annotation = next(part for part in get_args(annotation) if part is not type(None))
        self._path = annotation is Path
        self.choices: tuple[str, ...] = ()
        if get_origin(annotation) is Literal:
            self.choices = tuple(str(choice) for choice in get_args(annotation))
        words = {str: "TEXT", int: "INTEGER", float: "FLOAT", Path: "PATH"}
        self.name = f"[{'|'.join(self.choices)}]" if self.choices else words[annotation]

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        if self._path:
            return [CompletionItem(incomplete, type="file")]
        found = [choice for choice in self.choices if choice.startswith(incomplete)]
        return [CompletionItem(choice) for choice in found]


def _option(name: str, field: FieldInfo, env_prefix: str | None) -> Callable[[Command], Command]:
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    notes = [] if env_prefix is None else [env_prefix + name.upper()]
    notes.append("required" if field.is_required() else f"default: {_shown(default)}")
    text = f"{field.description}  [{'; '.join(notes)}]"
    if field.annotation is bool:
        declared = f"{flag(name)}/--no-{flag(name)[2:]}"
        return click.option(declared, name, default=None, help=text)
    kind = _Field(field.annotation)
    return click.option(flag(name), name, type=kind, metavar=kind.name, default=None, help=text)


def _shown(default: Any) -> str:
    return "none" if default in (None, "") else str(default)
