"""Live progress of a training: a bar on a terminal, one line per epoch in a pipe."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from isoserve.training.recipe import Recipe


class Progress:
    """Shows loss, accuracy, mean entropy (nats, of the OOD probabilities) and the time left."""

    def __init__(self, recipe: Recipe, images: int, *, enabled: bool) -> None:
        self.recipe, self.images, self.enabled = recipe, images, enabled
        self.console = Console()
        self.began = time.monotonic()
        self.first_epoch = 0
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (enabled and self.console.is_terminal),
        )
        self.task = self.bar.add_task("training", total=images * recipe.epochs)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def resume(self, epochs: int) -> None:
        self.first_epoch = epochs
        self.bar.update(self.task, completed=epochs * self.images)

    def advance(self, images: int) -> None:
        self.bar.advance(self.task, images)

    def end_epoch(self, epoch: int, row: dict[str, float]) -> None:
        if not self.enabled:
            return
        pace = (time.monotonic() - self.began) / (epoch + 1 - self.first_epoch)
        left = round(pace * (self.recipe.epochs - epoch - 1))
        self.console.print(
            f"epoch {epoch + 1}/{self.recipe.epochs}"
            f"  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
            f"  entropy {row['entropy']:.4f}"
            f"  held-out: loss {row['held_out_loss']:.4f}"
            f"  accuracy {row['held_out_accuracy']:.4f}  entropy {row['held_out_entropy']:.4f}"
            f"  {row['images_per_second']:.0f} images/s  {left // 60} min {left % 60:02d} s left",
            highlight=False,
            soft_wrap=True,
        )
        self.console.file.flush()  # a pipe would keep the lines back
