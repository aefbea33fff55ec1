"""``isoserve review``: the kept images from a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoserve.commands.inspect import open_model
from isoserve.commands.options import flag
from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.service.review import open_store
from isoserve.service.settings import ENV_PREFIX

if TYPE_CHECKING:
    from isoserve.service.review.store import ReviewStore


@click.group()
def review() -> None:
    """The images kept for review.

    \b
    Example:
      isoserve review export next --database sqlite:///review.db
    """


LAYOUT_OPTIONS = {
    "folder": ("base",),
    "label-studio": ("model", "image_url"),
    "fiftyone": ("model",),
}

DATABASE = click.option(
    "--database",
    envvar=f"{ENV_PREFIX}REVIEW_DATABASE",
    show_envvar=True,
    required=True,
    help="The URL that the server has as review_database.",
)


@review.command()
@click.argument("target", type=click.Path(path_type=Path))
@DATABASE
@click.option(
    "--format",
    "layout",
    type=click.Choice([*LAYOUT_OPTIONS]),
    default="folder",
    show_default=True,
    help="folder has the labelled images, label-studio and fiftyone the unlabelled ones.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="folder: an image folder whose images go in too: what the serving model was trained on.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="label-studio, fiftyone: a model.onnx whose classes are offered, besides the queue's.",
)
@click.option(
    "--image-url",
    metavar="PREFIX",
    help="label-studio: write image files, which tasks call PREFIX and their name; if not given, "
    "the images are in the tasks.",
)
def export(target: Path, database: str, layout: str, **options: Any) -> None:
    """Write the labelled images to TARGET, or what Label Studio or FiftyOne imports.

    As a folder: CLASS/*, ready for 'isoserve train TARGET'. For Label Studio: TARGET/tasks.json,
    what the model knows least first, and TARGET/tasks.xml, the labelling interface; or TARGET
    itself, where it ends in .json, and the interface beside it. For FiftyOne: a
    FiftyOneImageClassificationDataset, in the same order.

    \b
    Examples:
      isoserve review export next --database sqlite:///review.db --base photos
      isoserve train next --output runs/next
      isoserve review export tasks --database sqlite:///review.db --format label-studio
    """
    for name, value in options.items():
        if value is not None and name not in LAYOUT_OPTIONS[layout]:
            raise InputError(f"{flag(name)} does not go with --format {layout}")
    with _opened(database, "read") as store:
        if layout == "folder":
            _export_folder(store, target, options["base"])
        elif layout == "label-studio":
            _export_tasks(store, target, options["model"], options["image_url"])
        else:
            _export_dataset(store, target, options["model"])


@review.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@DATABASE
def import_(file: Path, database: str) -> None:
    """Take the labels of FILE into the queue.

    FILE is Label Studio's JSON export, or FiftyOne's labels.json, of images that
    'isoserve review export' wrote for them. All labels are taken, or, where one cannot be, none.
    Images that were given several classes stay as they are.

    \b
    Examples:
      isoserve review import project-1.json --database sqlite:///review.db
      isoserve review import labelled/labels.json --database sqlite:///review.db
    """
    with _opened(database, "written") as store:
        from isoserve.service.review.labels_file import import_labels

        done = import_labels(store, file)
    for class_name, count in sorted(done.labelled.items()):
        click.echo(f"{count:8d}  {class_name}")
    for count, what in (
        (done.junk, "of no class: junk"),
        (done.unlabelled, "without a label, left as they were"),
        (done.disagreeing, "with several classes, left as they were"),
        (done.absent, "no longer in the queue"),
    ):
        if count:
            click.echo(f"{count:8d}  {what}")
    classes = pluralize(len(done.labelled), "class", "classes")
    click.echo(f"{sum(done.labelled.values()):8d}  labelled in all: {classes}")


def _export_folder(store: ReviewStore, folder: Path, base: Path | None) -> None:
    from isoserve.service.review.export import export_images

    written = export_images(store, folder, base)
    for class_name, count in sorted(written.items()):
        click.echo(f"{count:8d}  {class_name}")
    classes = pluralize(len(written), "class", "classes")
    click.echo(f"{written.total():8d}  in all: {classes} in {folder}")


def _export_tasks(
    store: ReviewStore, target: Path, model: Path | None, image_url: str | None
) -> None:
    from isoserve.service.review.label_studio_tasks import TaskOptions, export_tasks

    count = export_tasks(store, target, TaskOptions(_classes(model), image_url))
    click.echo(f"{pluralize(count, 'task')} in {target}, what the model knows least first")


def _export_dataset(store: ReviewStore, target: Path, model: Path | None) -> None:
    from isoserve.service.review.fiftyone_dataset import export_dataset

    count = export_dataset(store, target, _classes(model))
    click.echo(f"{pluralize(count, 'image')} in {target}, what the model knows least first")


def _classes(model: Path | None) -> tuple[str, ...]:
    return tuple(open_model(model).labels) if model is not None else ()


@contextmanager
def _opened(database: str, use: str) -> Iterator[ReviewStore]:
    _check_is_there(database)
    store = open_store(database)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield store
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the review database cannot be {use}: {reason}") from error
    finally:
        store.close()


def _check_is_there(database: str) -> None:
    path = database.partition("sqlite:///")[2]
    if path and not Path(path).is_file():
        raise InputError(f"no review database at '{path}'")
