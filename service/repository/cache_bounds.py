"""Which of a store's files the cache has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isoserve.service.repository.folder import MODEL_FILE
from isoserve.service.repository.store import StoredFile


def newest_first(stored: Iterable[str], shadows: Mapping[str, int]) -> list[str]:
    """The model files: each model's newest version, then each one's next, and so on.

    Args:
        stored: places as ``NAME/VERSION/model.onnx``.
        shadows: of a model, the version that is before all others.
    """
    versions: dict[str, list[int]] = {}
    for place in stored:
        if place.endswith(f"/{MODEL_FILE}"):
            name, number, _ = place.split("/")
            versions.setdefault(name, []).append(int(number))
    for name, numbers in versions.items():
        numbers.sort(reverse=True)
        if shadows.get(name) in numbers:
            numbers.remove(shadows[name])
            numbers.insert(0, shadows[name])
    ranked = sorted(
        (rank, name, number)
        for name, numbers in versions.items()
        for rank, number in enumerate(numbers)
    )
    return [f"{name}/{number}/{MODEL_FILE}" for _, name, number in ranked]


def choose_within(
    room: int, stored: Mapping[str, StoredFile], models: Iterable[str]
) -> tuple[list[list[str]], frozenset[str]]:
    """The files of each model that fits, in order, and the models that do not.

    A signature belongs to its model and comes before it.

    Args:
        room: in bytes; a file whose size the store does not say counts as nothing.
    """
    chosen: list[list[str]] = []
    left_out = set()
    for model in models:
        files = [each for each in (f"{model}.sig", model) if each in stored]
        size = sum(stored[each].size or 0 for each in files)
        if size > room:
            left_out.add(model)  # and what served before it goes on, if it fits
        else:
            chosen.append(files)
            room -= size
    return chosen, frozenset(left_out)
