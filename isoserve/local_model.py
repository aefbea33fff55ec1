"""A ``model.onnx`` judged in this process: no server, no torch.

    import isoserve as iso

    model = iso.load("model.onnx")
    verdict = model.predict("photo.jpg")
    print(verdict.prediction.label, verdict.ood.is_ood, verdict.ood.p_value)

Images take the server's own path, so the verdicts are those that ``isoserve serve`` would give.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeGuard, cast, overload

import numpy as np
import orjson
from PIL import Image

from isoserve.client.exceptions import ImageRefused
from isoserve.client.results import Problem, Verdict
from isoserve.client.uploads import ImageSource, image_bytes
from isoserve.models.card import DecideBy, ModelCard
from isoserve.models.errors import InputError
from isoserve.models.image_array import image_of_array
from isoserve.service.inference.execution import DEFAULT_EXECUTION, Execution
from isoserve.service.inference.explanation import explanation
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, check_header, decode, decode_image
from isoserve.service.inference.judgement import FAILED, Judged, judge
from isoserve.service.inference.model import Model, ModelRefused, load_model, read_model_bytes
from isoserve.service.inference.outputs import Pixels
from isoserve.service.inference.verdicts import VerdictRequest, as_json, verdict

Result: TypeAlias = Verdict | Problem


@dataclass(frozen=True)
class LoadOptions:
    """How a model is held in memory, and what it accepts."""

    slots: int = 1
    """Calls that run at once, a session each."""
    execution: Execution = DEFAULT_EXECUTION
    max_batch: int = 32
    """Images in one run of the network."""
    max_bytes: int = 2**30
    """Of the model file."""
    images: ImageLimits = field(default_factory=ImageLimits)
    decide_by: DecideBy = "p_value"
    """Which p-value alpha is compared with."""


class LocalModel:
    """A model file in memory; may be shared between threads.

    Each slot is a single-threaded session of its own: as many calls of :meth:`predict` or
    :meth:`judge` run at once, each decoding and inferring in its caller's thread.
    """

    def __init__(self, model: Model, options: LoadOptions, alpha: float) -> None:
        self._model = model
        self._options = options
        self._alpha = alpha
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(options.slots):
            self._free.put(slot)

    @classmethod
    def read(
        cls, path: Path, options: LoadOptions = LoadOptions(), alpha: float | None = None
    ) -> LocalModel:
        """Read and check a model file; the arguments of :func:`load`, and the limits besides."""
        try:
            return cls.of_bytes(read_model_bytes(path, options.max_bytes), options, alpha)
        except ModelRefused as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def of_bytes(
        cls, data: bytes, options: LoadOptions = LoadOptions(), alpha: float | None = None
    ) -> LocalModel:
        """As :meth:`read`, of a file's bytes.

        Raises:
            ModelRefused: the file cannot serve.
        """
        model = load_model("file", 1, data, options.slots, options.max_batch, options.execution)
        model.name = model.card.name
        model.decide_by = options.decide_by
        return cls(model, options, _checked_alpha(alpha, model.card.calibration.alpha))

    @property
    def card(self) -> ModelCard:
        """What the file says of itself: classes, data, calibration, evaluation."""
        return self._model.card

    @property
    def classes(self) -> list[str]:
        """Class names, by output index."""
        return self._model.labels

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path is an iterable of strings, too
        self,
        images: ImageSource,
        *,
        alpha: float | None = None,
        top_k: int = 1,
        explain: bool = False,
    ) -> Verdict: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        alpha: float | None = None,
        top_k: int = 1,
        explain: bool = False,
    ) -> list[Result]: ...

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        alpha: float | None = None,
        top_k: int = 1,
        explain: bool = False,
    ) -> Verdict | list[Result]:
        """The verdict on one image, or on each of several.

        Args:
            images: a path, the bytes of an image file, an open binary file, a PIL image or a uint8
                array [H, W, 3] (RGB; also [H, W] gray and [H, W, 4] RGBA), or several of these: a
                list, any other iterable, or a uint8 array [N, H, W, 3].
            alpha: in place of the model's own for this call.
            top_k: how many classes to name, most probable first.
            explain: add the picture as the model saw it, and the distance to each class.

        Returns:
            A verdict for one image. For several a list in their order, with a
            :class:`~isoserve.client.results.Problem` in place of the verdict of each that cannot
            be judged, so that one bad file loses nothing.

        Raises:
            ImageRefused: of a single image: its bytes are not an image this model takes.
            OSError: of a single path: it cannot be read.
            TypeError: it is none of these.
            InputError: an array of another type or shape, or alpha or top_k out of range.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be at least 1")
        asked = VerdictRequest("", _checked_alpha(alpha, self._alpha), top_k)
        if _is_one(images):
            (found,) = self.judge([_read(images)], asked, explain=explain)
            if isinstance(found, Problem):
                raise ImageRefused(found)
            return found
        several = iter(cast("Iterable[ImageSource]", images))
        results: list[Result] = []
        while batch := [
            _read_or_problem(image) for image in islice(several, self._options.max_batch)
        ]:
            results += self.judge(batch, asked, explain=explain)
        return results

    def judge(
        self,
        images: Sequence[bytes | Image.Image | Problem],
        asked: VerdictRequest | None = None,
        *,
        explain: bool = False,
    ) -> list[Result]:
        """One run of the network: a result for each image, in order.

        Args:
            images: bodies or PIL images; a problem met earlier is passed on in its place.
            asked: the model's alpha and the most probable class if not given.
        """
        asked = asked or VerdictRequest("", self._alpha, 1)
        found = [image if isinstance(image, Problem) else self._pixels(image) for image in images]
        pixels = [entry for entry in found if not isinstance(entry, Problem)]
        verdicts: Iterator[Result] = iter(())
        if pixels:
            batch = np.stack(pixels)
            verdicts = self._verdicts(self._run(batch), asked, batch if explain else None)
        return [entry if isinstance(entry, Problem) else next(verdicts) for entry in found]

    def _run(self, batch: Pixels) -> Judged:
        slot = self._free.get()
        try:
            return judge(self._model, slot, batch)
        finally:
            self._free.put(slot)

    def _verdicts(
        self, judged: Judged, asked: VerdictRequest, pixels: Pixels | None
    ) -> Iterator[Result]:
        outputs, rows, faults = judged
        if pixels is not None:
            pixels = pixels[rows]
        place = {image: row for row, image in enumerate(rows)}
        for image in range(len(rows) + len(faults)):
            if outputs is None or image in faults:
                yield Problem(500, FAILED, f"no verdict: {faults[image]}", "")
                continue
            row = place[image]
            document = verdict(self._model, asked, outputs, row)
            if pixels is not None:
                document["explanation"] = explanation(self.card, outputs, row, pixels)
            # Through JSON, so that the numbers are the very ones a server's client reads.
            yield Verdict.parse(orjson.loads(as_json(document)))

    def _pixels(self, image: bytes | Image.Image) -> Pixels | Problem:
        try:
            if isinstance(image, bytes):
                check_header(image, self._options.images)
                return decode(image, self.card.input, self._options.images)
            return decode_image(image, self.card.input, self._options.images)
        except InvalidImage as error:
            return Problem(error.status, error.reason, str(error), "")


def load(
    path: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    slots: int = 1,
    execution: Execution = DEFAULT_EXECUTION,
) -> LocalModel:
    """Load a ``model.onnx`` to judge images in this process, by ONNX Runtime alone.

    Args:
        path: the model file.
        alpha: an image is out-of-distribution where its p-value is at most this; the alpha that
            the model was calibrated for if not given.
        slots: calls of the model that run at once, from several threads.
        execution: device, engine and precision, such as ``Execution(engine="auto")``.

    Raises:
        InputError: the file cannot serve, or an argument is out of range.
    """
    if slots < 1:
        raise InputError(f"slots is {slots}; it must be at least 1")
    return LocalModel.read(Path(path), LoadOptions(slots, execution), alpha)


def _checked_alpha(alpha: float | None, default: float) -> float:
    if alpha is None:
        return default
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; it must be between 0 and 1")
    return alpha


def _is_one(
    images: ImageSource | Iterable[ImageSource],
) -> TypeGuard[ImageSource]:
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return (
        isinstance(images, (str, bytes, os.PathLike, Image.Image))
        or hasattr(images, "read")
        or not isinstance(images, Iterable)
    )


def _read(source: ImageSource) -> bytes | Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return image_of_array(source)
    return image_bytes(source)


def _read_or_problem(source: ImageSource) -> bytes | Image.Image | Problem:
    try:
        return _read(source)
    except OSError as error:
        return Problem(0, "unreadable", error.strerror or str(error), "")
