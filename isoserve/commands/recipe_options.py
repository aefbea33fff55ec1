"""``--recipe``: a whole recipe out of the options that were given and those that were not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from isoserve.commands.options import build, options_of
from isoserve.models.errors import InputError
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS
from isoserve.training.recipes.auto import choose

Command = Callable[..., Any]
AUTO = "auto"


def recipe_options(command: Command) -> Command:
    """``--recipe`` and an option a field of :class:`Recipe`."""
    command = options_of(Recipe, leave_out=frozenset({"recipe"}))(command)
    return click.option(
        "--recipe",
        metavar=f"[{'|'.join((AUTO, *WAYS))}]",
        help="How to train; auto chooses by the images and the machine, and says why. Each has "
        "defaults of its own for what follows.  [default: auto]",
    )(command)


def read_recipe(given: dict[str, Any], source: str, accelerator: str, run: Path | None) -> Recipe:
    """The recipe, its defaults filled in; of a run to resume, those of that run.

    Args:
        given: settings by the recipe's field, None where the user gave none.
        source: the images.
        accelerator: as the user gave it.
        run: folder of the run to resume.

    Raises:
        InputError: names the first option that does not fit, its value and what would.
    """
    named = given["recipe"]
    if named not in (None, AUTO, *WAYS):
        raise InputError(f"--recipe is {named!r}; it must be one of {', '.join((AUTO, *WAYS))}")
    stated = {key: value for key, value in given.items() if value is not None and key != "recipe"}
    if run is not None and named in (None, AUTO) and (run / FILE_NAME).exists():
        return build(Recipe, Checkpoint.load(run).recipe | stated)
    if named in (None, AUTO):
        choice = choose(source, stated, accelerator)
        recipe = build(
            Recipe,
            {
                "recipe": choice.recipe,
                **WAYS[choice.recipe].defaults,
                **choice.settings,
                **stated,
            },
        )
        click.echo(f"recipe {choice.recipe}: {choice.reason}")
        return recipe
    return build(Recipe, {"recipe": named, **WAYS[named].defaults, **stated})
