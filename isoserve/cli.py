"""The ``isoserve`` program: a thin table of commands, each loaded only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from models.errors import InputError

COMMANDS = {
    "serve": "service.cli:serve",
    "train": "training.cli:train",
    "export": "training.cli:export",
    "calibrate": "training.cli:calibrate",
    "evaluate": "training.cli:evaluate",
    "reproduce": "training.reproduce.cli:reproduce",
}
"""Command -> where it lives. Serving never imports torch; training never imports the service."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is called or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if module.startswith("training") and error.name in (
                "torch",
                "onnx",
                "lightning_fabric",
                "pytorch_ood",
                "sklearn",
            ):
                raise click.UsageError(
                    f"'isoserve {cmd_name}' needs {error.name}: pip install 'isoserve[train]'"
                ) from error
            raise
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isoserve")
def cli() -> None:
    """Train, inspect and serve image classifiers that know what they do not know."""


def main() -> None:
    """Run the program; bad input is one line on stderr and exit code 2, never a stack trace."""
    try:
        cli()
    except InputError as error:
        click.echo(f"isoserve: {error}", err=True)
        sys.exit(2)
