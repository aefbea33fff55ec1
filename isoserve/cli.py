"""The ``isoserve`` program: a thin table of commands, each loaded only when it is called."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import shutil
import sys
import tempfile

import click
from click.shell_completion import CompletionItem

from isoserve.extras import missing_extra
from isoserve.models.errors import InputError
from isoserve.models.text import escape_control

COMMANDS = {
    "serve": ("isoserve.commands.serve:serve", "Serve a model repository over HTTP."),
    "train": (
        "isoserve.commands.train:train",
        "Train on SOURCE, calibrate, and write OUTPUT/model.onnx.",
    ),
    "export": (
        "isoserve.commands.export:export",
        "Make a model.onnx of the last checkpoint in RUN, a folder that train wrote.",
    ),
    "average": (
        "isoserve.commands.average:average",
        "Average the weights of RUNS that were fine-tuned from the same published weights.",
    ),
    "wrap": (
        "isoserve.commands.wrap:wrap",
        "Make a model.onnx of a classifier trained elsewhere, MODEL, without training.",
    ),
    "calibrate": (
        "isoserve.commands.calibrate:calibrate",
        "Calibrate MODEL_FILE again, on images it was not trained on: IMAGES_FOLDER/CLASS/*.",
    ),
    "upgrade": (
        "isoserve.commands.upgrade:upgrade",
        "Give MODEL_FILE the combined score, from the images SOURCE that it was trained on.",
    ),
    "evaluate": (
        "isoserve.commands.evaluate:evaluate",
        "Evaluate MODEL_FILE on SOURCE's test images and against out-distributions.",
    ),
    "quantize": (
        "isoserve.commands.quantize:quantize",
        "Make an int8 version of MODEL_FILE, calibrated on IMAGES_FOLDER/CLASS/*.",
    ),
    "predict": (
        "isoserve.commands.predict:predict",
        "Say of each image what it shows and whether the model knows such images.",
    ),
    "score": (
        "isoserve.commands.score:score",
        "Judge many images by many workers; one Parquet file for each unit of work.",
    ),
    "inspect": (
        "isoserve.commands.inspect:inspect",
        "Show what MODEL_FILE says of itself, after checking that it can serve.",
    ),
    "card": (
        "isoserve.commands.card:card",
        "Write MODEL_FILE's card as a page that needs no other file and no network.",
    ),
    "review": (
        "isoserve.commands.review:review",
        "The images kept for review.",
    ),
    "pull": (
        "isoserve.commands.pull:pull",
        "Copy the models at URL to DEST.",
    ),
    "push": (
        "isoserve.commands.pull:push",
        "Write MODEL to the repository at URL, as the version after its newest.",
    ),
    "sign": (
        "isoserve.commands.sign:sign",
        "Sign MODEL: the signature is written beside it, as MODEL.sig.",
    ),
    "reproduce": (
        "isoserve.commands.reproduce:reproduce",
        "Train and evaluate every system of the papers and write the report.",
    ),
}
"""Command -> where it lives, and the first sentence of its help, which needs no import to show.

Serving never imports torch; training never imports the service.
"""

LIGHT = frozenset(("serve", "predict", "inspect", "review", "pull", "push", "sign"))
"""Commands that import nothing of the train extra."""

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
"""As shells report a program that Ctrl-C ended."""


class LazyGroup(click.Group):
    """Imports a command's module when that command is called, and not to list or complete it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in LIGHT:
            _keep_matplotlib_from_home()
        module, attribute = COMMANDS[cmd_name][0].split(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            missing = missing_extra(f"'isoserve {cmd_name}'", error)
            if missing is None:
                raise
            raise click.UsageError(str(missing)) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isoserve")
def cli() -> None:
    """Train, inspect and serve image classifiers that know what they do not know."""


def _keep_matplotlib_from_home() -> None:
    """Its cache of fonts takes a tenth of a second to make, and would stay in the user's home."""
    if os.environ.get("MPLCONFIGDIR"):
        return
    folder = tempfile.mkdtemp(prefix="isoserve-matplotlib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MPLCONFIGDIR"] = folder


def main() -> None:
    """Run the program; bad input is one line on stderr and exit code 2, never a stack trace."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(prog_name="isoserve", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except (InputError, click.ClickException) as error:
        click.echo(f"isoserve: {escape_control(_in_one_line(error))}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:  # a path that is too long or forbidden, a full disk
        place = f": {error.filename}" if error.filename else ""
        said = escape_control(f"{error.strerror or error}{place}")
        click.echo(f"isoserve: {said}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except click.Abort:
        click.echo("isoserve: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code)


def _in_one_line(error: InputError | click.ClickException) -> str:
    if isinstance(error, InputError):
        return str(error)
    message = " ".join(error.format_message().split()).removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see '{context.command_path} --help')" if context else message
