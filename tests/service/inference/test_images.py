"""What a stranger may send: either pixels or a refusal that says why, and never anything else."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_answers import LIMITS, SPEC, answer, many_scans, png, refusal_of, with_height
from image_bytes import (
    PNG_END,
    encode,
    exif,
    noise,
    opened,
)
from PIL import Image

import isoserve.service.inference.images
from isoserve.models.card import InputSpec
from isoserve.models.image_files.header import FORMATS
from isoserve.service.app import create_app
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, Reason, check_header, decode
from isoserve.service.settings import Settings


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_served(kind: str) -> None:
    assert answer(encode(kind)) == "served"


def test_the_status_says_whose_limit_it_was() -> None:
    wanted = {
        Reason.EMPTY: (b"", 400),
        Reason.TRUNCATED: (encode("JPEG")[:-300], 400),
        Reason.CORRUPT: (b"\x89PNG\r\n\x1a\n" + bytes(50), 400),
        Reason.TOO_MANY_BYTES: (b"BM" + bytes(LIMITS.max_bytes), 413),
        Reason.TOO_MANY_PIXELS: (png(5000, 5000, data=b""), 413),
        Reason.SIDE_TOO_LONG: (png(16_385, 1), 413),
        Reason.TOO_MANY_SCANS: (many_scans(33), 413),
        Reason.FORMAT_NOT_ALLOWED: (encode("ICO"), 415),
    }
    assert set(wanted) == set(Reason)
    for reason, (body, status) in wanted.items():
        refusal = refusal_of(body)
        assert refusal is not None
        assert (refusal.reason, refusal.status) == (reason, status)


def test_a_refusal_names_the_value_and_the_limit() -> None:
    with pytest.raises(InvalidImage, match=r"5000 x 5000 .* 25000000 .* 20000000"):
        check_header(png(5000, 5000, data=b""), LIMITS)
    with pytest.raises(InvalidImage, match=r"20000 x 3 .* 16384"):
        check_header(png(20_000, 3, data=b""), LIMITS)
    with pytest.raises(InvalidImage, match=r"10 bytes; at most 9 "):
        check_header(b"GIF89a" + bytes(4), ImageLimits(max_bytes=9))
    with pytest.raises(InvalidImage, match=r"50 36 0a 34 .* send a JPEG, PNG, WEBP, GIF, BMP"):
        check_header(encode("PPM"), LIMITS)
    with pytest.raises(InvalidImage, match=r"AVIF is not accepted here; send a PNG or GIF file"):
        check_header(encode("AVIF"), ImageLimits(formats=("PNG", "GIF")))


def test_the_servers_settings_default_to_these_limits() -> None:
    application = create_app(Settings(repository=Path("nowhere")))
    assert application.image_limits == LIMITS


def test_exactly_the_limit_is_served() -> None:
    body = png(50, 40)
    assert answer(body, ImageLimits(2000, 50, len(body))) == "served"
    assert answer(body, ImageLimits(1999, 50, len(body))) == "too_many_pixels"
    assert answer(body, ImageLimits(2000, 49, len(body))) == "side_too_long"
    assert answer(body, ImageLimits(2000, 50, len(body) - 1)) == "too_many_bytes"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("options", [{}, {"progressive": True, "lossless": True}])
def test_a_file_cut_anywhere_is_refused(kind: str, options: dict[str, Any]) -> None:
    body = encode(kind, **options)
    # A GIF's last two bytes say only that nothing follows.
    for length in [*range(30), *np.linspace(30, len(body) - 3, 60, dtype=int)]:
        assert answer(body[:length]) in ("empty", "truncated", "corrupt", "format_not_allowed")


def test_a_png_whose_filler_pillow_would_show_is_refused() -> None:
    whole = png(40, 40)
    assert answer(whole) == "served"
    assert answer(png(40, 40, data=zlib.compress(bytes(41 * 39)))) == "truncated"
    assert answer(whole.removesuffix(PNG_END)) == "truncated"
    flipped = whole.index(b"IDAT") + 6
    wrong = whole[:flipped] + bytes([whole[flipped] ^ 8]) + whole[flipped + 1 :]
    assert answer(wrong) == "corrupt"


def test_a_gif_whose_codes_end_early_is_refused() -> None:
    def gif(codes: list[int]) -> bytes:
        packed = sum(code << (9 * place) for place, code in enumerate(codes))
        data = packed.to_bytes((9 * len(codes) + 7) // 8, "little")
        screen = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0xF7, 0, 0) + bytes(range(256)) * 3
        frame = b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\x08"
        return screen + frame + bytes([len(data)]) + data + b"\0;"

    clear, end = 256, 257
    assert answer(gif([clear, *[7] * 16, end])) == "served"
    assert answer(gif([clear, *[7] * 12, end])) in ("truncated", "corrupt")


def test_a_webp_cut_with_its_sizes_mended_is_refused() -> None:
    for lossless in (False, True):
        body = encode("WEBP", lossless=lossless)
        length = (len(body) - 20) * 3 // 4 & ~1
        sizes = struct.pack("<I", length + 12), struct.pack("<I", length)
        mended = body[:4] + sizes[0] + body[8:16] + sizes[1] + body[20 : 20 + length]
        assert answer(mended) in ("truncated", "corrupt")


def test_bombs_in_the_header_are_refused_by_the_header() -> None:
    stream = zlib.compressobj(1)
    zeros = b"".join(stream.compress(bytes(12_801)) for _ in range(12_800)) + stream.flush()
    bomb = png(12_800, 12_800, data=zeros)
    assert len(bomb) < 1_000_000
    bodies = [bomb, with_height(encode("JPEG"), 65_500), b"GIF89a" + b"\xff" * 4 + bytes(3) + b","]
    for body in bodies:
        with pytest.raises(InvalidImage):
            check_header(body + bytes(20), LIMITS)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_damaged_tiff_is_refused_and_writes_nothing(
    compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    body = encode("TIFF", noise(200, 150), compression=compression)
    generator = np.random.default_rng(0)
    for length in np.linspace(30, len(body) - 400, 25, dtype=int):
        assert answer(body[:length]) in ("truncated", "corrupt", "format_not_allowed")
    for _ in range(200):
        broken = bytearray(body)
        for place in generator.integers(8, len(body), 4):
            broken[place] = generator.integers(256)
        answer(bytes(broken))
    assert capfd.readouterr().err == ""


def test_a_heic_photograph_of_24_megapixels_is_within_the_limits() -> None:
    def box(kind: bytes, *contents: bytes) -> bytes:
        body = b"".join(contents)
        return struct.pack(">I4s", len(body) + 8, kind) + body

    def header(width: int, height: int) -> bytes:
        size = box(b"ispe", bytes(4), struct.pack(">II", width, height))
        meta = box(b"meta", bytes(4), box(b"iprp", box(b"ipco", size)))
        return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta

    assert check_header(header(5712, 4284), LIMITS)[1:3] == (5712, 4284)
    with pytest.raises(InvalidImage, match="at most 25000000"):
        check_header(header(8064, 6048), LIMITS)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tEXt"])
def test_bombs_in_what_pixels_do_not_need_are_harmless(kind: bytes) -> None:
    inflated = zlib.compress(bytes(70 << 20), 1)
    payload = {
        b"zTXt": b"key\0\0" + inflated,
        b"iTXt": b"key\0\1\0\0\0" + inflated,
        b"iCCP": b"name\0\0" + inflated,
        b"eXIf": b"MM\0*\0\0\0\x08\xff\xff" + struct.pack(">HHII", 1, 7, 1 << 31, 8) * 65_535,
        b"tEXt": b"key\0" + bytes(5 << 20),
    }[kind]
    assert answer(png(20, 20, (kind, payload))) == "served"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_thousands_of_frames_the_first_is_shown(kind: str) -> None:
    frames = [Image.new("L", (16, 16), value % 250) for value in range(1000)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    body = encode(
        kind, frames[0].convert("RGB"), save_all=True, append_images=frames[1:], **options
    )
    with opened(body) as image:
        assert getattr(image, "n_frames", 1) > 100
    assert np.array_equal(decode(body, SPEC, LIMITS), np.zeros((32, 32, 3)))


def test_run_length_coded_bmps_are_served_when_small() -> None:
    def bmp(width: int, height: int, codes: bytes) -> bytes:
        offset = 54 + 1024
        header = struct.pack("<2sIHHI", b"BM", offset + len(codes), 0, 0, offset)
        header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
        palette = b"".join(struct.pack("<BBBx", i, 255 - i, 7) for i in range(256))
        return header + palette + codes

    assert answer(bmp(20, 10, b"\x14\x05\0\0" * 10 + b"\0\1")) == "served"
    assert answer(bmp(20, 10, b"\x14\x05\0\0" * 4)) in ("truncated", "corrupt")
    assert answer(bmp(16_384, 1000, b"\0\0" * 1000)) == "too_many_pixels"


def test_whatever_a_decoder_raises_is_answered_and_told_to_the_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(isoserve.service.inference.images, "decode_pixels", broken)
    assert answer(encode("PNG")) == "corrupt"
    assert "ZeroDivisionError" in caplog.text

    def starved(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(isoserve.service.inference.images, "decode_pixels", starved)
    assert answer(encode("PNG")) == "too_many_pixels"


def test_threads_decode_what_one_thread_does() -> None:
    bodies = [encode(kind, noise(200 + n, 100)) for kind in FORMATS for n in range(3)]
    alone = [decode(body, SPEC, LIMITS) for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: decode(body, SPEC, LIMITS), bodies * 3))
    for index, pixels in enumerate(together):
        assert np.array_equal(pixels, alone[index % len(bodies)])


def test_the_server_sees_the_pixels_that_training_saw(tmp_path: Path) -> None:
    data = pytest.importorskip("isoserve.training.pixel_arrays", exc_type=ImportError)
    bodies = [encode(kind, noise(61 + 90 * n, 45 + 70 * n)) for kind in FORMATS for n in range(3)]
    bodies += [encode("JPEG", noise(700, 500, mode)) for mode in ("L", "CMYK")]
    bodies += [encode("PNG", noise(mode=mode)) for mode in ("RGBA", "P", "1", "LA")]
    bodies += [encode("JPEG", exif=exif(turn)) for turn in range(1, 9)]
    paths = [tmp_path / str(index) for index in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    for spec in (SPEC, InputSpec(height=40, width=24)):
        pixels, reasons = data.decode_files(paths, spec)
        assert not any(reasons)
        for seen, body in zip(pixels, bodies, strict=True):
            assert np.array_equal(decode(body, spec, LIMITS), seen)
