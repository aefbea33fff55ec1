"""One worker: a model in memory, and units scored one after the other into Parquet files.

A file is written under another name and renamed when it is whole, so what is there under its own
name is done. What a rerun must know of a unit, its counts, stands in the file's metadata.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from typing import Any

import fsspec
import fsspec.core

from isoserve.client.results import OOD, Problem, Verdict
from isoserve.local_model import LoadOptions, LocalModel, Result
from isoserve.models.card import DecideBy
from isoserve.models.errors import InputError
from isoserve.score.counts import Counts
from isoserve.score.images import Body, Reading, images_of
from isoserve.score.units import Unit
from isoserve.service.inference.execution import DEFAULT_EXECUTION, Execution
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.verdicts import VerdictRequest
from isoserve.service.repository.store import file_system

COUNTS_KEY = b"isoserve.counts"
ROWS_OF_A_GROUP = 1024


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of a run does alike."""

    model: str
    """Path or URL of a ``model.onnx``."""
    sha256: str
    """Of the model; another one is refused."""
    output: str
    """Folder or URL."""
    alpha: float
    batch: int = 32
    reading: Reading = field(default_factory=Reading)
    limits: ImageLimits = field(default_factory=ImageLimits)
    execution: Execution = DEFAULT_EXECUTION
    decide_by: DecideBy = "p_value"


class Worker:
    """Loads the job's model once; then scores unit after unit.

    Raises:
        InputError: the model is another than the job's, or cannot be loaded.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        data = read_url(job.model)
        digest = hashlib.sha256(data).hexdigest()
        if digest != job.sha256:
            raise InputError(
                f"'{job.model}' is another model by now: its digest is {digest[:12]}, "
                f"and the plan's is {job.sha256[:12]}"
            )
        options = LoadOptions(
            1, job.execution, job.batch, images=job.limits, decide_by=job.decide_by
        )
        self._model = LocalModel.of_bytes(data, options)
        self._asked = VerdictRequest("", job.alpha, 1)

    @property
    def classes(self) -> list[str]:
        """The model's."""
        return self._model.classes

    def score(self, unit: Unit) -> Counts:
        """Judge the unit's images and write its file; the counts of what is in it.

        Raises:
            OSError: the source cannot be read, or the output not written.
        """
        counts = Counts.empty(len(self.classes))
        rows = self._rows(images_of(unit, self._job.reading), counts)
        _write(rows, f"{self._job.output.rstrip('/')}/{unit.file_name}", counts)
        return counts

    def _rows(self, bodies: Iterator[Body], counts: Counts) -> Iterator[dict[str, Any]]:
        while batch := list(islice(bodies, self._job.batch)):
            results = self._model.judge([body for _, body in batch], self._asked)
            for (name, _), result in zip(batch, results, strict=True):
                counts.add(result)
                yield self._row(name, result)

    def _row(self, name: str, result: Result) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"id": name, "model_sha256": self._job.sha256}
        if isinstance(result, Problem):
            return row | {"error": result.reason, "error_detail": result.detail}
        return row | _verdict_columns(result)


def _verdict_columns(verdict: Verdict) -> dict[str, Any]:
    best = verdict.prediction
    ood = asdict(verdict.ood)
    return {
        "label": best.label,
        "label_index": best.index,
        "probability": best.probability,
        **{name: ood[name] for name in OOD_COLUMNS},
    }


OOD_COLUMNS = tuple(member.name for member in fields(OOD))
COLUMNS = (
    *("id", "label", "label_index", "probability", *OOD_COLUMNS),
    *("error", "error_detail", "model_sha256"),
)


def read_url(url: str) -> bytes:
    """A file's bytes, wherever it is.

    Raises:
        InputError: it cannot be read; says why.
    """
    try:
        files, path = file_system(url)
        with files.open(path, "rb") as file:
            content: bytes = file.read()
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"cannot read '{url}': {error}") from error
    return content


def _write(rows: Iterator[dict[str, Any]], url: str, counts: Counts) -> None:
    """Every row, then the counts, which are known only then; whole or not at all."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    filesystem, path = fsspec.core.url_to_fs(url)
    folder, name = path.rsplit("/", 1)
    temporary = f"{folder}/_unfinished/{name}.{uuid.uuid4().hex}"
    filesystem.makedirs(f"{folder}/_unfinished", exist_ok=True)
    schema = _schema()
    try:
        with (
            filesystem.open(temporary, "wb") as file,
            parquet.ParquetWriter(file, schema) as writer,
        ):
            while group := list(islice(rows, ROWS_OF_A_GROUP)):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            writer.add_key_value_metadata({COUNTS_KEY: counts.model_dump_json().encode()})
        filesystem.mv(temporary, path)
    except BaseException:
        if filesystem.exists(temporary):
            filesystem.rm(temporary)
        raise


def counts_of(url: str) -> Counts:
    """The counts of a file that a worker wrote.

    Raises:
        ValueError: it is not such a file.
    """
    import pyarrow.parquet as parquet

    with fsspec.open(url, "rb") as file:
        found = (parquet.read_metadata(file).metadata or {}).get(COUNTS_KEY)
    if found is None:
        raise ValueError("it has no counts in its metadata")
    return Counts.model_validate_json(found)


def _schema() -> Any:
    """Texts, but for the numbers; every column may be empty but the first."""
    import pyarrow as arrow

    types = {"label_index": arrow.int32(), "is_ood": arrow.bool_()}
    texts = {
        "id",
        "label",
        "error",
        "error_detail",
        "model_sha256",
        "score",
        "reason",
        "decided_by",
    }
    return arrow.schema(
        [
            (name, types.get(name, arrow.string() if name in texts else arrow.float32()))
            for name in COLUMNS
        ]
    )
