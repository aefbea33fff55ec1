"""What becomes of one image on its way: the times of its stages, and its row of the outputs."""

from __future__ import annotations

from isoserve.models.image_files.header import HEAD_BYTES
from isoserve.service.inference.outputs import Outputs, Pixels


class ImageTiming:
    """Holds neither the image nor its model, so that logs and traces may keep it.

    Args:
        source: the encoded image, or its pixels.

    Attributes:
        is_foreign: a page of another site made a browser send it.
        request_id: the request that the image belongs to.
        head, size: of the source as it came: its first bytes, none of pixels, and how many.
        queued_at, decode_at, run_at: when its wait, its decoding and its batch's run began, in
            perf_counter's seconds; 0 where it did not come to that.
        outcome: its batch's outputs and its row in them, once they are there.
    """

    __slots__ = (
        "decode_at",
        "decode_seconds",
        "head",
        "inference_seconds",
        "is_foreign",
        "outcome",
        "queued_at",
        "request_id",
        "run_at",
        "size",
        "wait_seconds",
    )

    def __init__(self, source: bytes | Pixels) -> None:
        if isinstance(source, bytes):
            self.head, self.size = source[:HEAD_BYTES], len(source)
        else:
            self.head, self.size = b"", source.nbytes
        self.request_id = ""
        self.is_foreign = False
        self.outcome: tuple[Outputs, int] | None = None
        self.queued_at = self.decode_at = self.run_at = 0.0
        self.wait_seconds = self.decode_seconds = self.inference_seconds = 0.0

    @property
    def begun(self) -> bool:
        """Whether it has been taken out of the queue, to be decoded or run."""
        return self.wait_seconds > 0 or self.decode_at > 0
