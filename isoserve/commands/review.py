"""``isoserve review``: the kept images from a terminal."""

from __future__ import annotations

from pathlib import Path

import click

from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.service.review import open_store
from isoserve.service.settings import ENV_PREFIX


@click.group()
def review() -> None:
    """The images kept for review.

    \b
    Example:
      isoserve review export next --database sqlite:///review.db
    """


@review.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--database",
    envvar=f"{ENV_PREFIX}REVIEW_DATABASE",
    show_envvar=True,
    required=True,
    help="The URL that the server has as review_database.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An image folder whose images go in too: what the serving model was trained on.",
)
def export(folder: Path, database: str, base: Path | None) -> None:
    """Write the labelled images to FOLDER, as CLASS/*, ready for 'isoserve train FOLDER'.

    \b
    Example:
      isoserve review export next --database sqlite:///review.db --base photos
      isoserve train next --output runs/next
    """
    _check_is_there(database)
    store = open_store(database)
    from sqlalchemy.exc import SQLAlchemyError

    from isoserve.service.review.export import export_images

    try:
        written = export_images(store, folder, base)
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the review database cannot be read: {reason}") from error
    finally:
        store.close()
    for class_name, count in sorted(written.items()):
        click.echo(f"{count:8d}  {class_name}")
    classes = pluralize(len(written), "class", "classes")
    click.echo(f"{written.total():8d}  in all: {classes} in {folder}")


def _check_is_there(database: str) -> None:
    path = database.partition("sqlite:///")[2]
    if path and not Path(path).is_file():
        raise InputError(f"no review database at '{path}'")
