"""Frames as they pass by: nothing is lost, and nothing is put where it may not be."""

from __future__ import annotations

import random

import pytest

from isoserve.service.inference_protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    FrameHead,
    FrameType,
    FrameWalk,
    frame,
    reset_of,
)

FRAMES = [
    frame(FrameType.HEADERS, 0, 1, b"x" * 40),
    frame(FrameType.CONTINUATION, END_HEADERS, 1, b"y"),
    frame(FrameType.DATA, 0, 1, b"z" * 300),
    frame(FrameType.DATA, 0, 3, b""),
    frame(FrameType.DATA, END_STREAM, 1, b"z"),
    reset_of(3, 8),
]
OTHER = frame(6, 0, 0, b"12345678")


@pytest.mark.parametrize("seed", range(20))
def test_heads_are_seen_whole_however_the_bytes_are_cut(seed: int) -> None:
    sent = b"preface" + b"".join(FRAMES)
    seen: list[FrameHead] = []
    walk = FrameWalk(lambda head: seen.append(head) or b"", preface=7)  # type: ignore[func-returns-value]
    passed = b"".join(walk.feed(piece) for piece in _cut(sent, seed))
    assert passed == sent
    assert [(head.length, head.kind, head.stream) for head in seen] == [
        (40, 1, 1),
        (1, 9, 1),
        (300, 0, 1),
        (0, 0, 3),
        (1, 0, 1),
        (4, 3, 3),
    ]
    assert [head.ends_stream for head in seen] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("seed", range(20))
def test_what_is_put_in_comes_between_frames_and_never_within_a_block(seed: int) -> None:
    walk = FrameWalk(lambda _: b"")
    passed = b""
    for piece in _cut(b"".join(FRAMES), seed):
        passed += walk.feed(piece) + walk.insert(OTHER)
    assert passed.replace(OTHER, b"") == b"".join(FRAMES)
    frames = []
    while passed:
        size = 9 + int.from_bytes(passed[:3])
        frames.append(passed[:size])
        passed = passed[size:]
    assert [each for each in frames if each != OTHER] == FRAMES
    assert frames[frames.index(FRAMES[0]) + 1] == FRAMES[1]


def test_what_is_said_of_a_frame_goes_before_it() -> None:
    walk = FrameWalk(lambda head: OTHER if head.kind == FrameType.DATA else b"")
    assert walk.feed(FRAMES[1] + FRAMES[2]) == FRAMES[1] + OTHER + FRAMES[2]


def _cut(data: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    at = sorted(chance.sample(range(len(data)), 25))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
