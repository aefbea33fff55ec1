"""What a stranger may send: either pixels or a refusal that says why, and never anything else."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_bytes import (
    PNG_END,
    encode,
    exif,
    noise,
    opened,
    png_header,
    png_of,
    segment,
    with_segments,
)
from PIL import Image

import isoserve.service.inference.images
from isoserve.models.card import InputSpec
from isoserve.models.image_files.header import FORMATS
from isoserve.service.app import create_app
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, Reason, check_header, decode
from isoserve.service.settings import Settings

SPEC = InputSpec(height=32, width=32)
LIMITS = ImageLimits()
END = b"\xff\xd9"


def png(width: int, height: int, *between: tuple[bytes, bytes], data: bytes | None = None) -> bytes:
    """A gray PNG, all zeros unless the image data are given."""
    data = zlib.compress(bytes(height * (width + 1))) if data is None else data
    return png_of(png_header(width, height), *between, (b"IDAT", data), (b"IEND", b""))


def with_height(jpeg: bytes, height: int) -> bytes:
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: frame + 5] + struct.pack(">H", height) + jpeg[frame + 7 :]


def refusal_of(body: bytes, limits: ImageLimits = LIMITS) -> InvalidImage | None:
    """What the client is answered, or None where there are pixels."""
    try:
        check_header(body, limits)
        pixels = decode(body, SPEC, limits)
    except InvalidImage as refusal:
        return refusal
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    return None


def answer(body: bytes, limits: ImageLimits = LIMITS) -> str:
    """'served', or the reason of the refusal."""
    refusal = refusal_of(body, limits)
    if refusal is None:
        return "served"
    assert refusal.status in (400, 413, 415)
    assert refusal.reason in list(Reason)
    assert ";" in refusal.detail or ":" in refusal.detail  # ... and what would be right
    for internal in ("PIL", "Pillow", "simplejpeg", "object at", "Error", "models", "/"):
        assert internal not in refusal.detail
    return str(refusal.reason)


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


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_with_fewer_rows_than_it_declares_is_refused(
    options: dict[str, Any], mode: str
) -> None:
    body = encode("JPEG", noise(64, 64, mode), **options)
    assert answer(body) == "served"
    for height in (65, 81, 128, 500, 3000):
        assert answer(with_height(body, height)) == "truncated"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_cut_and_closed_again_is_refused(share: float) -> None:
    body = encode("JPEG", noise(96, 96))
    cut = body[: int(len(body) * share)].rstrip(b"\xff")
    assert answer(cut + END) == "truncated"
    assert answer(cut + bytes(len(body) - len(cut))) == "truncated"  # a tail never written


def scan_starts(body: bytes) -> list[int]:
    """Where each scan of a JPEG begins, its tables before it included."""
    starts = [at for at in range(len(body)) if body[at : at + 2] == b"\xff\xda"]
    return starts[:1] + [
        max(body.rfind(b"\xff\xc4", before, at), before) if b"\xff\xc4" in body[before:at] else at
        for before, at in pairwise(starts)
    ]


def test_a_progressive_jpeg_is_refused_where_its_first_scan_is_short() -> None:
    body = encode("JPEG", noise(96, 96), progressive=True)
    first, second, *others = scan_starts(body)
    short = body[: (first + second) // 2].rstrip(b"\xff")
    assert answer(short + body[second:]) == "truncated"
    assert answer(short + END) == "truncated"
    for at, after in zip((second, *others), (*others, len(body) - 2), strict=True):
        missing = body[: (at + after) // 2].rstrip(b"\xff")
        assert answer(missing + body[after:]) == "served"  # coarser, and whole
        assert answer(missing + END) == "served"
        assert answer(missing) == "truncated"
        assert answer(missing + bytes(99)) == "truncated"


FOREIGN = {
    "nothing": b"",
    "another image": encode("JPEG", noise(16, 16)),
    "a frame header": encode("JPEG")[encode("JPEG").index(b"\xff\xc0") :],
    "a marker that does not exist": b"\xff\x05abc",
    "a reserved marker": b"\xff\xf0\0\4ab",
    "a length beyond the end": b"\xff\xe1\xff\xf0abc",
    "zeros": bytes(4096),
    "text": b"hello world " * 9,
    "restart markers": b"\xff\xd3" * 9,
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_whole_but_for_its_end_marker_is_served_whatever_follows(
    foreign: str, options: dict[str, Any], mode: str
) -> None:
    body = encode("JPEG", noise(64, 64, mode), **options)
    shown = decode(body, SPEC, LIMITS)
    assert np.array_equal(decode(body[:-2] + FOREIGN[foreign], SPEC, LIMITS), shown)
    assert np.array_equal(decode(body + FOREIGN[foreign], SPEC, LIMITS), shown)
    for rows in (81, 500):
        assert answer(with_height(body, rows)[:-2] + FOREIGN[foreign]) == "truncated"
    cut = body[: len(body) * 2 // 3].rstrip(b"\xff") + FOREIGN[foreign]
    assert answer(cut) in ("truncated", "corrupt")


@pytest.mark.parametrize("junk", [b"\0", b"ab", b"\xff", b"\0" * 999])
@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xFE])
def test_stray_bytes_behind_metadata_are_passed_over(junk: bytes, marker: int) -> None:
    body = encode("JPEG")
    crowded = with_segments(body, segment(marker, exif(1)) + junk)
    assert np.array_equal(decode(crowded, SPEC, LIMITS), decode(body, SPEC, LIMITS))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_an_honest_gray_corner_is_no_filler(options: dict[str, Any]) -> None:
    gray = Image.new("RGB", (96, 96), (128, 128, 128))
    gray.paste(noise(48, 48), (0, 0))
    body = encode("JPEG", gray, quality=1, **options)
    assert answer(body[:-2] + b"abcdefabcdef" + END) == "served"
    for rows in (97, 200):
        assert answer(with_height(body[:-2] + b"abcdefabcdef" + END, rows)) in (
            "truncated",
            "served" if rows == 97 else "truncated",  # within the last blocks
        )


@pytest.mark.parametrize(("place", "value"), [(4, 12), (4, 16), (1, 0xC3), (1, 0xC5), (1, 0xCB)])
def test_kinds_of_jpeg_that_are_not_read_are_named(place: int, value: int) -> None:
    body = encode("JPEG")
    frame = body.index(b"\xff\xc0")
    changed = body[: frame + place] + bytes([value]) + body[frame + place + 1 :]
    refusal = refusal_of(changed)
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (415, "format_not_allowed")
    assert "not supported" in refusal.detail
    with pytest.raises(InvalidImage):
        check_header(changed, LIMITS)


def test_a_damaged_jpeg_that_viewers_show_is_served_unless_rows_are_missing() -> None:
    body = encode("JPEG", noise(64, 64))
    tables = body.index(b"\xff\xc4")
    junk = body[:tables] + b"some junk" + body[tables:]
    assert np.array_equal(decode(junk, SPEC, LIMITS), decode(body, SPEC, LIMITS))
    assert answer(with_height(junk, 200)) == "truncated"


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


def large_jpeg(width: int, height: int, **options: Any) -> bytes:
    return encode("JPEG", Image.new("RGB", (width, height), (90, 120, 40)), quality=60, **options)


@pytest.mark.parametrize("size", [(6000, 4000), (8064, 6048)])
def test_jpegs_of_24_and_48_megapixels_are_served(size: tuple[int, int]) -> None:
    body = large_jpeg(*size)
    check_header(body, LIMITS)
    shown = decode(body, SPEC, LIMITS).astype(int)
    assert np.abs(shown - (90, 120, 40)).max() <= 3


def test_a_jpeg_is_bound_by_what_decoding_costs() -> None:
    assert answer(with_height(large_jpeg(8200, 64), 8200)) == "too_many_pixels"
    progressive = large_jpeg(6000, 4000, progressive=True)
    assert answer(progressive) == "served"
    small = ImageLimits(max_pixels=5_000_000)
    assert answer(progressive, small) == "too_many_pixels"  # it is held whole
    assert answer(large_jpeg(6000, 4000), small) == "served"
    # A large input leaves nothing to be saved.
    with pytest.raises(InvalidImage, match="6000 x 4000 .* MB to decode"):
        decode(large_jpeg(6000, 4000), InputSpec(height=2000, width=2000), small)
    quick = ImageLimits(max_decode_seconds=0.001)
    assert answer(png(1000, 1000), quick) == "too_many_pixels"


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


def test_a_jpeg_full_of_exif_blocks_is_harmless() -> None:
    tiff = b"Exif\0\0MM\0*\0\0\0\x08\x15\x00" + struct.pack(">HHII", 0x9000, 7, 60_000, 8) * 5376
    body = encode("JPEG")
    crowded = with_segments(body, *[segment(0xE1, tiff)] * 100)
    assert np.array_equal(decode(crowded, SPEC, LIMITS), decode(body, SPEC, LIMITS))


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


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    body = encode("JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    repeated = scans - body.count(b"\xff\xda")
    return body[:last] + body[last:-2] * (repeated + 1) + b"\xff\xd9"


def test_jpeg_scans_are_capped_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(encode("JPEG", progressive=True)) == "served"
    monkeypatch.setattr(isoserve.service.inference.images, "decode_pixels", never)
    assert answer(many_scans(LIMITS.max_jpeg_scans + 1)) == "too_many_scans"


def never(*_: object) -> None:
    raise AssertionError("this is not to be reached")


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
