"""``isoserve predict``: verdicts on files, folders and standard input.

Images go through in batches, a few of them at a time, and each answer is written as soon as all
before it are: the memory taken does not grow with the number of images.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from isoserve.client.client import Client, Patience
from isoserve.client.exceptions import IsoserveError
from isoserve.client.results import Problem, Verdict
from isoserve.commands.image_paths import check_paths, find_images
from isoserve.commands.options import build, defaults_but
from isoserve.commands.predictors import LOCAL_SETTINGS, LocalPredictor, Predictor, RemotePredictor
from isoserve.local_model import Result
from isoserve.models.cpu_quota import usable_cores
from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import LeftOut, describe_left_out
from isoserve.models.text import escape_control, pluralize
from isoserve.service.inference.reasons import WORDS
from isoserve.service.inference.verdicts import VerdictRequest
from isoserve.service.settings import ENV_PREFIX, Settings

REMOTE_BATCH = 32
"""Images in one request to a server."""

REQUESTS_AT_ONCE = 2
PATIENCE = Patience(timeout=60.0, retries=60)
"""A server that others use too says "later" often; a folder has time."""
WAITING_PER_THREAD = 2

EXIT_SOME_FAILED = 1


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="A model.onnx to run here.")
@click.option("--url", help="A server to ask instead, such as http://localhost:8000.")
@click.option(
    "--token",
    envvar="ISOSERVE_TOKEN",
    show_envvar=True,
    help="Bearer token of the server; other users of this machine do not see the variable.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="table for people; jsonl is one JSON object a line for programs.",
)
@click.option("--alpha", type=float, help="Out-of-distribution where p_value is at most this.")
@click.option("--top-k", type=click.IntRange(min=1), help="How many classes jsonl names.")
def predict(
    paths: tuple[Path, ...],
    model: Path | None,
    url: str | None,
    token: str | None,
    output_format: str,
    alpha: float | None,
    top_k: int | None,
) -> None:
    """Say of each image what it shows and whether the model knows such images.

    PATHS are image files, folders (searched at any depth) or - for one image on standard input.
    With --model limits, slots and the default alpha are those of the server's settings
    (ISOSERVE_ALPHA, ...); with --url they are the server's own.

    \b
    Exit codes:
      0  every image has a verdict
      1  some image has none; the others have
      2  bad usage, a model that cannot serve, or a server that does not answer

    \b
    Examples:
      isoserve predict photos/ --model model.onnx
      isoserve predict *.jpg --url http://localhost:8000 --format jsonl > verdicts.jsonl
    """
    if (model is None) == (url is None):
        raise InputError("give either --model model.onnx or --url http://...")
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"--alpha is {alpha}; it must be between 0 and 1")
    if token is not None and not (token.isascii() and token.isprintable()):
        raise InputError("the token (--token or ISOSERVE_TOKEN) is not of printable ASCII")
    check_paths(paths)
    with ExitStack() as stack:
        predictor: Predictor
        if model is not None:
            given = {**defaults_but(Settings, LOCAL_SETTINGS), "alpha": alpha}
            settings = build(Settings, given, ENV_PREFIX)
            batch = settings.max_batch
            threads = settings.slots or usable_cores()
            asked = VerdictRequest("", settings.alpha, top_k or 1)
            predictor = LocalPredictor(model, threads, settings, asked)
        else:
            threads = REQUESTS_AT_ONCE
            client = stack.enter_context(Client(url or "", token=token, patience=PATIENCE))
            predictor = RemotePredictor(client, alpha, top_k)
            batch = REMOTE_BATCH
        left_out = LeftOut()
        batches = _batches(find_images(paths, left_out), batch)
        try:
            counts = _write(in_order(predictor, batches, threads), paths, output_format)
        except IsoserveError as error:
            raise InputError(str(error)) from error
    if line := describe_left_out(left_out):
        click.echo(line, err=True)
    click.echo(counts.summary(), err=True)
    if counts.failed:
        sys.exit(EXIT_SOME_FAILED)


def in_order(
    predictor: Predictor, batches: Iterator[list[Path]], threads: int
) -> Iterator[tuple[Path, Result]]:
    """Each image with its result, in order, while further batches are being worked on.

    At most a few batches a thread exist at any time.
    """
    waiting: deque[tuple[list[Path], Future[list[Result]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(predictor, batch)))
            if len(waiting) == threads * WAITING_PER_THREAD:
                yield from _done(*waiting.popleft())
        while waiting:
            yield from _done(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def table_line(path: str, result: Result) -> str:
    """Columns of fixed width, the path last; what cannot be shown in a line is escaped."""
    shown = escape_control(path)
    if isinstance(result, Problem):
        return f"{'failed':<8}{'':<{28 + REASON_WIDTH}}  {shown}: {escape_control(result.detail)}"
    verdict = "unknown" if result.ood.is_ood else "known"
    best = result.prediction
    reason = result.ood.reason or ""  # servers of former versions give none
    return (
        f"{verdict:<8}{result.ood.p_value:<8.4f}{escape_control(best.label):<14} "
        f"{best.probability:<5.3f} {escape_control(_WORDS.get(reason, reason)):<{REASON_WIDTH}} "
        f"{shown}"
    )


_WORDS = {str(view): words for view, words in WORDS.items()}
REASON_WIDTH = max(map(len, WORDS.values()))
TABLE_HEADER = (
    f"{'verdict':<8}{'p-value':<8}{'class':<14} {'prob.':<5} {'reason':<{REASON_WIDTH}} image"
)


def json_line(path: str, result: Result) -> str:
    """``{"path", "model", "version", "prediction", "top_k", "ood"}`` or ``{"path", "error"}``."""
    entry: dict[str, object]
    if isinstance(result, Problem):
        entry = {"path": path, "error": {"reason": result.reason, "detail": result.detail}}
    else:
        names = ("model", "version", "prediction", "top_k", "ood")
        entry = {"path": path, **{name: getattr(result, name) for name in names}}
    line = orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)
    return escape_control(line.decode())


@dataclass
class _Counts:
    began: float = field(default_factory=time.perf_counter)
    known: int = 0
    unknown: int = 0
    failed: int = 0

    def add(self, result: Result) -> None:
        if isinstance(result, Problem):
            self.failed += 1
        elif result.ood.is_ood:
            self.unknown += 1
        else:
            self.known += 1

    @property
    def images(self) -> int:
        return self.known + self.unknown + self.failed

    def summary(self) -> str:
        pace = self.images / (time.perf_counter() - self.began)
        return (
            f"{pluralize(self.images, 'image')}: {self.known} known, {self.unknown} unknown, "
            f"{self.failed} failed; {pace:.0f} images/s"
        )


def _write(
    results: Iterator[tuple[Path, Result]], paths: Sequence[Path], output_format: str
) -> _Counts:
    on_screen = sys.stdout.isatty()
    console = Console(stderr=not on_screen, soft_wrap=True, highlight=False, markup=False)
    bar = Progress(
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )

    def put(line: str, style: str = "") -> None:
        if on_screen:
            console.print(Text(line, style))  # above the bar
        else:
            sys.stdout.write(line + "\n")

    counts = _Counts()
    with bar:
        total = sum(1 for _ in find_images(paths)) if console.is_terminal else None
        task = bar.add_task("", total=total)
        for path, result in results:
            if output_format == "table" and not counts.images:
                put(TABLE_HEADER, "bold")  # not before: there may be no answer at all
            counts.add(result)
            name = os.fsencode(path).decode(errors="replace")
            if output_format == "table":
                put(table_line(name, result), _style(result))
            else:
                put(json_line(name, result))
            bar.advance(task)
    return counts


def _style(result: Result) -> str:
    if isinstance(result, Verdict):
        return "yellow" if result.ood.is_ood else ""
    return "red"


def _batches(paths: Iterator[Path], size: int) -> Iterator[list[Path]]:
    while batch := list(islice(paths, size)):
        yield batch


def _done(batch: list[Path], future: Future[list[Result]]) -> Iterator[tuple[Path, Result]]:
    return zip(batch, future.result(), strict=True)
