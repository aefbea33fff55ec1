"""The grid: every training and every evaluation of a scale, each done once and kept.

Killed at any moment and started again, it goes on where it was: a training from its last epoch,
everything else from the last finished cell. Started several times at once on the same folder, the
processes share the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from lightning_fabric import Fabric

from isoserve.models.backbones import build_backbone
from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.baselines.fooling import evolve
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.reproduce.datasets import (
    FOOLING,
    InDistribution,
    Sources,
    load_in_distribution,
    load_out_distributions,
)
from isoserve.training.reproduce.eta import EtaEstimator
from isoserve.training.reproduce.evaluation import Evaluation, ImageSet
from isoserve.training.reproduce.plan import (
    Training,
    all_trainings,
    first_of_each_class,
    fooling_target,
)
from isoserve.training.reproduce.scale import Scale
from isoserve.training.reproduce.store import Arrays, Store, digest
from isoserve.training.reproduce.systems import SYSTEMS, System
from isoserve.training.skipped import report_skipped
from isoserve.training.trainer import fit

_WAIT_SECONDS = 2.0
"""Between two looks at what another process is doing."""


@dataclass(frozen=True)
class Cell:
    """A trained network with the sets it is to be shown."""

    evaluation: Evaluation
    systems: tuple[System, ...]
    test: ImageSet
    test_labels: tuple[int, ...]
    out_sets: tuple[ImageSet, ...]


class Grid:
    """One scale over the images of its sources."""

    def __init__(
        self, scale: Scale, sources: Sources, store: Store, say: Callable[[str], None]
    ) -> None:
        self.scale, self.store, self.say = scale, store, say
        side = scale.recipe.image_size or build_backbone(scale.networks[0]).input_size
        self.spec = InputSpec(height=side, width=side, resize="fit-bicubic")
        self.data: dict[str, InDistribution] = {}
        self.out_sets: dict[str, list[ImageSet]] = {}
        for name in scale.in_data:
            self.data[name] = load_in_distribution(name, self.spec, sources)
            known = self.data[name]
            outs = load_out_distributions(scale, known, self.spec, sources)
            self.out_sets[name] = [ImageSet.of(out) for out in outs]
            report_skipped(known.train, known.test, *outs, say=say)
        self._keys: dict[Training, str] = {}
        self._subsets: dict[tuple[str, int | None], tuple[LabelledImages, str]] = {}
        self.trainings = all_trainings(scale)
        self.pace = EtaEstimator(self._work(), say)
        self.fooled: list[dict[str, object]] = []

    def train(self, fabric: Fabric) -> None:
        """Train every network that is not there yet; every process of the engine takes part."""
        for number, training in self._shared_out("training", self.trainings, fabric):
            with self.pace.step(
                f"training {number}/{len(self.trainings)}: {training.words}",
                self._training_work(training),
            ):
                self._train(fabric, training)

    def evaluate(self) -> list[Cell]:
        """Score every set with every system; returns the cells in the order of the trainings."""
        fooling = {pair: self._fooling_set(*pair) for pair in self._fooled_pairs}
        shown = [training for training in self.trainings if training.purpose != "fooling"]
        cells = {}
        for number, training in self._shared_out("evaluation", shown):
            cell = self._cell(training, fooling.get((training.recipe.network, training.in_data)))
            with self.pace.step(
                f"evaluation {number}/{len(shown)}: {training.words}",
                self._evaluation_work(training),
            ):
                for images in (cell.test, *cell.out_sets):
                    cell.evaluation.logits(images)
                    for system in cell.systems:
                        cell.evaluation.scores(system, images)
                for system in cell.systems:
                    cell.evaluation.chosen(system)
            cells[training] = cell
        return [cells[training] for training in shown]

    def evaluation(self, training: Training) -> Evaluation:
        """The cells of a training of this grid."""
        images, _ = self._training_images(training)
        return Evaluation(self.store, training, self._key(training), images, self.scale)

    def _shared_out(
        self, kind: str, trainings: list[Training], fabric: Fabric | None = None
    ) -> Iterator[tuple[int, Training]]:
        """Each training with its number, those that another command is at after the others.

        The processes of one engine go together: the first of them claims for all.
        """
        claims = fabric is None or fabric.is_global_zero
        left = list(enumerate(trainings, 1))
        while left:
            busy = []
            for number, training in left:
                with ExitStack() as stack:
                    mine = True
                    if claims:
                        claim = self.store.claim(kind, self._key(training))
                        mine = stack.enter_context(claim)
                    if fabric.broadcast(mine) if fabric else mine:
                        yield number, training
                    else:
                        busy.append((number, training))
            if len(busy) == len(left):
                time.sleep(_WAIT_SECONDS)
            left = busy

    def _train(self, fabric: Fabric, training: Training) -> None:
        images, images_digest = self._training_images(training)
        given = training.given
        if given is not None and given.images_digest != images_digest:
            raise InputError(
                f"{given.folder} was trained on other images than {training.in_data} (digest "
                f"{given.images_digest[:12]}, here {images_digest[:12]}): give its own by --in-data"
            )
        folder = self.store.folder("training", self._key(training))
        finished = folder / "finished"
        # A finished training is not opened again: a checkpoint is large and its data is digested.
        if not (finished.exists() and (folder / FILE_NAME).exists()):
            if given is None:
                fit(fabric, training.recipe, training.in_data, images, folder)
            elif fabric.is_global_zero:
                Checkpoint.load(given.folder).save(folder)
            if fabric.is_global_zero:
                finished.touch()
        fabric.barrier()

    def _training_images(self, training: Training) -> tuple[LabelledImages, str]:
        wanted = (training.in_data, training.images_per_class)
        if wanted not in self._subsets:
            images = first_of_each_class(self.data[wanted[0]].train, wanted[1])
            self._subsets[wanted] = images, images.digest()
        return self._subsets[wanted]

    def _key(self, training: Training) -> str:
        if training not in self._keys:
            _, images_digest = self._training_images(training)
            recipe = training.recipe.model_dump()
            given = {"given": training.given.digest} if training.given else {}
            self._keys[training] = digest(recipe=recipe, images=images_digest, **given)
        return self._keys[training]

    @property
    def _fooled_pairs(self) -> list[tuple[str, str]]:
        return self.scale.pairs if self.scale.fooling else []

    def _fooling_set(self, network: str, in_data: str) -> ImageSet:
        target = self.evaluation(fooling_target(self.scale, network, in_data))
        count, generations = self.scale.fooling_images, self.scale.fooling_generations

        def compute() -> Arrays:
            found = evolve(target.network, self.spec.height, count, generations)
            sure = np.array([found.confidence, found.fooled])
            return {"pixels": found.pixels, "confidence": sure}

        key = digest(target=target.key, count=count, generations=generations)
        with self.pace.step(f"fooling images: {network}, {in_data}", self._fooling_work()):
            arrays = self.store.arrays("fooling", key, compute)
        confidence, fooled = arrays["confidence"].tolist()
        self.fooled.append(
            {
                "network": network,
                "in_data": in_data,
                "mean_probability": confidence,
                "share_above_0.99": fooled,
            }
        )
        note = (
            f"evolved here in {generations} generations against a SoftMax {network} of another "
            f"seed, half CPPN patterns, half free pixels; not the published set"
        )
        return ImageSet(FOOLING, arrays["pixels"], digest(fooling=key), note)

    def _cell(self, training: Training, fooling: ImageSet | None) -> Cell:
        test = self.data[training.in_data].test
        systems = [
            system
            for system in SYSTEMS
            if system.loss == training.loss
            and (training.purpose == "main" or system.of_logits is not None)
            and (not system.tuned or (self.scale.tuned and training.recipe.seed == 0))
        ]
        return Cell(
            evaluation=self.evaluation(training),
            systems=tuple(systems),
            test=ImageSet("test", test.pixels, test.digest()),
            test_labels=tuple(test.labels.tolist()),
            out_sets=(*self.out_sets[training.in_data], *([fooling] if fooling else [])),
        )

    def _work(self) -> float:
        both = sum(self._training_work(t) + self._evaluation_work(t) for t in self.trainings)
        return both + self._fooling_work() * len(self._fooled_pairs)

    def _training_work(self, training: Training) -> float:
        recipe = training.recipe
        if training.given is not None:
            return 0.0
        images, _ = self._training_images(training)
        steps = 6 + 3 * recipe.acet_steps if recipe.acet_steps else 3
        return len(images) * recipe.epochs * steps

    def _evaluation_work(self, training: Training) -> float:
        shown = len(self.data[training.in_data].test) + sum(
            len(images.pixels) for images in self.out_sets[training.in_data]
        )
        first = training.purpose == "main" and training.recipe.seed == 0
        tuned = self.scale.tuned and first and training.recipe.loss == "softmax"
        return shown * (40.0 if tuned else 1.0)

    def _fooling_work(self) -> float:
        return float(self.scale.fooling_images * self.scale.fooling_generations)
