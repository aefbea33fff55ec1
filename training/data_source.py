"""Where the images come from: a folder or a named set, a table of labels, Parquet, a hub's set."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages, load_class_folders, load_images
from isoserve.training.label_table import load_label_table
from isoserve.training.named_sets import Split
from isoserve.training.parquet_images import HUB, is_parquet, load_hub, load_parquet


@dataclass(frozen=True)
class DataSource:
    """What a user names as data; kept in the checkpoint as one string."""

    location: str
    """A folder, a named set, a Parquet file or folder, or ``hf:NAME``."""
    labels: str = ""
    """A CSV file of (path, label), its paths relative to ``location``."""
    calibration: str = ""
    """A folder of class folders to calibrate on."""

    def text(self) -> str:
        """The location alone where there is no more to say."""
        if not self.labels and not self.calibration:
            return self.location
        return json.dumps({key: value for key, value in asdict(self).items() if value})

    @classmethod
    def parse(cls, text: str) -> DataSource:
        """The opposite of :meth:`text`."""
        if not text.startswith("{"):
            return cls(text)
        return cls(**json.loads(text))

    def load(self, split: Split, spec: InputSpec, data_root: Path) -> LabelledImages:
        """The images of a split, those to calibrate on beside the training images.

        Raises:
            InputError: what cannot be read, in one line.
        """
        images = self._load(split, spec, data_root)
        if split == "train" and self.calibration:
            held_out = load_class_folders(Path(self.calibration), spec)
            images = replace(images, calibration=None).calibrated_by(held_out)
        return images

    def _load(self, split: Split, spec: InputSpec, data_root: Path) -> LabelledImages:
        if self.labels:
            root = Path(self.location)
            if not root.is_dir():
                raise InputError(
                    f"no folder {self.location!r}: with --labels, SOURCE is the folder that the "
                    "table's paths begin in"
                )
            return load_label_table(Path(self.labels), root, split, spec)
        if self.location.startswith(HUB):
            return load_hub(self.location.removeprefix(HUB), split, spec)
        if is_parquet(Path(self.location)):
            return load_parquet(Path(self.location), split, spec)
        return load_images(self.location, split, spec, data_root)
