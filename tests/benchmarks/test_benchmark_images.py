"""The images of the soak are what it says of them."""

from __future__ import annotations

import pytest

from benchmarks.serving.images import everyday, hostile
from isoserve.models.card import InputSpec
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, check_header, decode

SPEC = InputSpec(height=32, width=32)
LIMITS = ImageLimits()


@pytest.mark.parametrize("body", everyday())
def test_everyday_images_are_served(body: bytes) -> None:
    check_header(body, LIMITS)
    assert decode(body, SPEC, LIMITS).shape == (32, 32, 3)


@pytest.mark.parametrize("body", hostile())
def test_hostile_images_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidImage):  # noqa: PT012 - either of the two may refuse
        check_header(body, LIMITS)
        decode(body, SPEC, LIMITS)
