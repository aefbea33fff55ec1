"""``isoserve score``: verdicts on many images, by many workers, into Parquet."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from isoserve.commands.options import build, defaults_but
from isoserve.commands.predictors import LOCAL_SETTINGS
from isoserve.local_model import LocalModel
from isoserve.models.cpu_quota import usable_cores
from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.score.driver import Outcomes, counts_so_far, score_units
from isoserve.score.images import Reading
from isoserve.score.plan import FAILED, PAGE, PLAN, SUMMARY, Output, Plan, check_same, with_units
from isoserve.score.pool import Pool, ProcessPool
from isoserve.score.progress import ScoreProgress
from isoserve.score.summary import page, summarize
from isoserve.score.unit_table import UnitTable
from isoserve.score.units import plan_units
from isoserve.score.worker import Job, read_url
from isoserve.service.settings import ENV_PREFIX, Settings

EXIT_SOME_FAILED = 1


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--model", required=True, help="Path or URL of the model.onnx.")
@click.option("--output", required=True, help="Folder or URL; a rerun does what is missing there.")
@click.option("--alpha", type=float, help="Out-of-distribution where p_value is at most this.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many; one a core of this machine if not given.",
)
@click.option(
    "--gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    help="GPUs of each worker on Ray; of this machine without Ray.",
)
@click.option(
    "--address",
    default="",
    help="Score on Ray: auto or ray://HOST:PORT for a cluster, local for one of its own. "
    "Without it, processes of this machine do.",
)
@click.option(
    "--unit-images",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Most images of a unit, which is what a dead worker's successor does again.",
)
@click.option("--image-column", default="", help="Of Parquet files; found by its usual names.")
@click.option("--id-column", default="", help="Of Parquet files; found by its usual names.")
def score(
    sources: tuple[str, ...],
    model: str,
    output: str,
    alpha: float | None,
    workers: int | None,
    gpus: float,
    address: str,
    unit_images: int,
    image_column: str,
    id_column: str,
) -> None:
    """Judge many images by many workers; one Parquet file for each unit of work.

    SOURCES are folders of images, .parquet files, WebDataset .tar files, .txt lists of paths, or
    globs of these; paths, or URLs that fsspec knows (s3://, gs://, hdfs://).

    \b
    Exit codes:
      0  every image has a row
      1  units failed twice; _failed.json says which and why
      2  bad usage, or a model that cannot serve

    \b
    Examples:
      isoserve score photos/ --model model.onnx --output verdicts/
      isoserve score 's3://bucket/images/*.parquet' --model s3://bucket/model.onnx \\
          --output s3://bucket/verdicts --address auto --workers 64
    """
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"--alpha is {alpha}; it must be between 0 and 1")
    settings = build(
        Settings, defaults_but(Settings, LOCAL_SETTINGS) | {"alpha": alpha}, ENV_PREFIX
    )
    data = read_url(model)
    reading = Reading(image_column, id_column, settings.max_image_bytes)
    where = Output(output)
    begun = where.read_plan()
    plan = _plan(sources, model, data, settings, reading, unit_images)
    table = UnitTable(where.url)
    if begun is not None:
        check_same(begun, plan, output)
        plan = begun
    else:
        plan = with_units(plan, table, plan_units(sources, unit_images))
        where.write(PLAN, plan.model_dump_json())
    done = where.done(plan)
    job = Job(
        *(model, plan.sha256, where.url, plan.alpha, settings.max_batch, reading),
        *(settings.image_limits, settings.execution, settings.decide_by),
    )
    outcomes = Outcomes(counts_so_far(plan, where, done))
    if missing := plan.units - len(done):
        pool = _pool(job, min(workers or usable_cores(), missing), gpus, address)
        try:
            units = table.read(plan.firsts, done)
            numbers = (plan.units, len(done))
            with ScoreProgress(lambda: outcomes.counts, plan.images, numbers) as progress:
                score_units(units, pool, outcomes, progress.advance)
        finally:
            pool.close()
    _conclude(where, plan, outcomes)


def _plan(
    sources: tuple[str, ...],
    model: str,
    data: bytes,
    settings: Settings,
    reading: Reading,
    unit_images: int,
) -> Plan:
    card = LocalModel.of_bytes(data).card
    return Plan(
        model=model,
        sha256=hashlib.sha256(data).hexdigest(),
        classes=card.classes,
        calibration_images=card.calibration.n,
        alpha=settings.alpha,
        sources=list(sources),
        options={
            "unit_images": unit_images,
            "reading": asdict(reading),
            "decide_by": settings.decide_by,
        },
    )


def _pool(job: Job, workers: int, gpus: float, address: str) -> Pool:
    if not address:
        if gpus != int(gpus):
            raise InputError(f"--gpus is {gpus}; without --address it must be a whole number")
        return ProcessPool(job, workers, int(gpus))
    from isoserve.score.ray_pool import RayPool

    return RayPool(job, workers, address, gpus)


def _conclude(where: Output, plan: Plan, outcomes: Outcomes) -> None:
    """Write the summary, and what failed; say it in a line."""
    summary = summarize(plan, outcomes.counts, len(outcomes.failed))
    where.write(SUMMARY, json.dumps(summary, indent=1))
    where.write(PAGE, page(summary))
    counts = outcomes.counts
    click.echo(
        f"{pluralize(counts.images, 'image')}: {counts.judged - counts.rejected} known, "
        f"{counts.rejected} unknown, {counts.failed} failed; {where.url}/{SUMMARY}",
        err=True,
    )
    if not outcomes.failed:
        where.remove(FAILED)
        return
    failed = sorted(outcomes.failed, key=lambda one: one[0].index)
    where.write(
        FAILED,
        json.dumps([{"unit": unit.model_dump(), "reason": why} for unit, why in failed], indent=1),
    )
    for unit, why in failed:
        first = Path(unit.sources[0]).name
        click.echo(f"isoserve: unit {unit.index} ({first} ...) failed twice: {why}", err=True)
    sys.exit(EXIT_SOME_FAILED)
