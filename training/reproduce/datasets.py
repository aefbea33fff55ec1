"""The images of a reproduction: what the networks learn and what they are shown besides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages, load_images
from isoserve.training.out_distributions import (
    OutDistribution,
    check_names,
    load_out_distribution,
)
from isoserve.training.reproduce.openood_sets import PROTOCOL, canonical, find_on_disk
from isoserve.training.reproduce.published import same_name
from isoserve.training.reproduce.scale import OPENOOD, Scale
from isoserve.training.reproduce.synthetic import MADE, digits, made_out_distribution

NOISE = ("gaussian", "uniform")
FOOLING = "fooling"
UNNATURAL = (*NOISE, FOOLING)
"""Left out of the mean over natural out-distributions."""


@dataclass(frozen=True)
class InDistribution:
    """A data set to learn, by the name the tables show."""

    name: str
    train: LabelledImages
    test: LabelledImages
    note: str = ""


@dataclass(frozen=True)
class Sources:
    """Where the images come from."""

    data_root: Path
    in_data: tuple[str, ...] = ()
    """``NAME=FOLDER``: read the scale's data set NAME from an image folder."""
    out_data: tuple[str, ...] = ()
    """``SOURCE`` or ``NAME=SOURCE``: in place of the scale's natural out-distributions."""


def load_in_distribution(name: str, spec: InputSpec, sources: Sources) -> InDistribution:
    """Load a data set by name, from its folder where one is given.

    Raises:
        InputError: it is not there.
    """
    if name == "digits":
        note = "scikit-learn's handwritten digits, 8x8 gray, enlarged"
        return InDistribution(name, digits("train", spec), digits("test", spec), note)
    given = dict(_pair(text) for text in sources.in_data)
    source = given.get(name, name)
    train = load_images(source, "train", spec, sources.data_root)
    return InDistribution(name, train, load_images(source, "test", spec, sources.data_root))


def load_out_distributions(
    scale: Scale, known: InDistribution, spec: InputSpec, sources: Sources
) -> list[OutDistribution]:
    """Load the natural sets, but for the in-distribution itself and its classes, and noise.

    With :data:`isoserve.training.reproduce.scale.OPENOOD` the benchmark's sets take the place of
    the scale's.

    Raises:
        InputError: one is not there, or two have the same name.
    """
    names = sources.out_data or scale.out_data
    found: list[OutDistribution] = []
    if OPENOOD in scale.studies:
        names, found = _openood(scale, known, spec, sources)
    for source in names:
        if source in MADE:
            found.append(made_out_distribution(source, spec))
        elif not same_name(source.partition("=")[0], known.name):
            root, limit, classes = sources.data_root, scale.out_limit, known.train.classes
            found.append(load_out_distribution(source, spec, root, limit, classes))
    found += [
        load_out_distribution(noise, spec, sources.data_root, scale.noise_images) for noise in NOISE
    ]
    check_names(found, FOOLING)
    return found


def _openood(
    scale: Scale, known: InDistribution, spec: InputSpec, sources: Sources
) -> tuple[tuple[str, ...], list[OutDistribution]]:
    """(sources that are given, or made by the scale; sets of the benchmark found beside them)."""
    given = tuple(canonical(source) for source in sources.out_data)
    given = given or tuple(name for name in scale.out_data if name in MADE)
    named = {source.partition("=")[0] for source in given}
    found = []
    for wanted in PROTOCOL:
        if wanted.name not in named and not same_name(wanted.name, known.name):
            root, limit, classes = sources.data_root, scale.out_limit, known.train.classes
            there = find_on_disk(wanted, spec, root, limit, classes)
            found += [there] if there else []
    if not given and not found:
        missing = ", ".join(wanted.name for wanted in PROTOCOL)
        raise InputError(
            f"none of OpenOOD's sets is below {sources.data_root}: give some of {missing} as "
            "--out-data NAME=FOLDER"
        )
    return given, found


def _pair(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not (name and separator and source):
        raise InputError(f"{text!r} is no NAME=FOLDER, such as cifar10=/data/cifar10")
    return name, source
