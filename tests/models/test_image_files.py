"""Image files before decoding: format, size, orientation, wholeness, and what it costs to look."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from image_bytes import (
    chunks_of,
    encode,
    exif,
    noise,
    opened,
    png_of,
    segment,
    with_segments,
)
from PIL import Image

from isoserve.models.errors import ImageFileError, ImageFormatError
from isoserve.models.image_files import gif, jpeg, png, webp
from isoserve.models.image_files import header as header_module
from isoserve.models.image_files.exif import read_orientation
from isoserve.models.image_files.header import FORMATS, format_of, read_header


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (300, 7)])
def test_format_and_size_are_pillows(kind: str, size: tuple[int, int]) -> None:
    header = read_header(encode(kind, noise(*size)))
    if kind == "HEIF":  # with what fills the last block
        assert all(0 <= there - shown < 64 for there, shown in zip(header[1:3], size, strict=True))
    else:
        assert header[:3] == (kind, *size)


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\0\0MM\0*"}])
def test_all_three_kinds_of_webp_header_are_read(options: dict[str, Any]) -> None:
    header = read_header(encode("WEBP", noise(300, 7), **options))
    assert header[:3] == ("WEBP", 300, 7)
    assert header.coding == ("lossless" if "lossless" in options else "")


def test_os2_and_top_down_bmps_have_sizes() -> None:
    os2 = b"BM" + struct.pack("<IHHI", 40, 0, 0, 26) + struct.pack("<IHHHH", 12, 37, 23, 1, 24)
    assert read_header(os2 + bytes(20))[:3] == ("BMP", 37, 23)
    body = encode("BMP", noise(37, 23))
    upside_down = body[:22] + struct.pack("<i", -23) + body[26:]
    assert read_header(upside_down)[:3] == ("BMP", 37, 23)


def test_a_gifs_frame_may_be_larger_than_its_screen() -> None:
    body = encode("GIF", noise(37, 23))
    assert read_header(body[:6] + struct.pack("<HH", 2, 2) + body[10:])[:3] == ("GIF", 37, 23)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (encode("PPM"), r"the first bytes \(50 36 0a 34 38 20 34 30\)"),
        (encode("ICO"), "an icon .* save it as PNG"),
        (encode("JPEG2000"), "JPEG 2000 .* save it as JPEG"),
        (b"%PDF-1.7", "PDF"),
        (b'\n{"image": "aGVsbG8="}', r"JSON, .* --data-binary @photo.jpg"),
        (b'[{"a": 1}]', "JSON"),
        (b"[not json", "the first bytes"),
        (b'<?xml version="1.0"?><svg width="1">', "SVG"),
        (b"<!doctype html>", "HTML"),
        (b"data:image/png;base64,iVBORw0K", "data URL"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "film"),
        (b"II+\0" + bytes(12), "BigTIFF"),
    ],
)
def test_what_is_no_image_that_is_read_is_named_with_the_way_out(body: bytes, words: str) -> None:
    with pytest.raises(ImageFormatError, match=words):
        read_header(body)


def test_without_the_extra_a_heic_photograph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_module, "FORMATS", tuple(name for name in FORMATS if name != "HEIF"))
    for brand in (b"heic", b"heix", b"mif1", b"msf1"):
        body = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(20)
        with pytest.raises(ImageFormatError, match=r"HEIC .*isoserve\[heif\].* JPEG"):
            read_header(body)


@pytest.mark.parametrize("options", [{}, {"speed": 10}, {"subsampling": "4:0:0"}])
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 1000)])
def test_an_avifs_picture_is_as_large_as_its_boxes_say(
    size: tuple[int, int], options: dict[str, Any]
) -> None:
    image = Image.new("RGBA", size, (9, 200, 30, 90))
    body = encode("AVIF", image, **options)
    assert read_header(body)[1:3] == size
    animated = encode("AVIF", image, save_all=True, append_images=[image.rotate(180)])
    assert read_header(animated)[1:3] == size


def test_an_avif_that_claims_to_be_small_is_refused_by_its_header() -> None:
    body = bytearray(encode("AVIF", Image.new("RGB", (3000, 2000), "red"), speed=10))
    at = 0
    while (at := body.find(b"ispe", at + 1)) > 0:
        body[at + 8 : at + 16] = struct.pack(">II", 100, 100)
    with pytest.raises(ImageFileError, match="disagree on its size"):
        read_header(bytes(body))
    without = bytes(body).replace(b"iloc", b"free")
    with pytest.raises(ImageFileError, match="no picture"):
        read_header(without)


def test_a_generic_container_is_an_avif_where_its_other_brands_say_so() -> None:
    assert format_of(b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf" + bytes(20)) == "AVIF"
    assert format_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_cut_anywhere_is_refused_in_words(kind: str) -> None:
    body = encode(kind)
    for length in range(26 if kind == "BMP" else 20):
        with pytest.raises(ImageFileError):
            read_header(body[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_an_image_without_area_is_refused(kind: str) -> None:
    body = encode(kind)
    frame = body.find(b"\xff\xc0") + 5
    spot = {"JPEG": slice(frame, frame + 2), "PNG": slice(16, 20), "BMP": slice(22, 26)}
    if kind == "GIF":
        frame = body.index(b"\x2c\0\0\0\0") + 5
        body = body[:6] + bytes(4) + body[10:frame] + bytes(4) + body[frame + 4 :]
    else:
        where = spot[kind]
        body = body[: where.start] + bytes(where.stop - where.start) + body[where.stop :]
    with pytest.raises(ImageFileError, match="pixels"):
        read_header(body)


def test_metadata_is_left_out_of_a_jpeg_and_colour_markers_stay() -> None:
    body = encode("JPEG", noise(mode="CMYK"))
    adobe = body[body.index(b"\xff\xee") :][:16]
    extra = (segment(0xE1, b"Exif\0\0"), segment(0xE2, b"ICC_PROFILE\0" + bytes(999)))
    read = jpeg.read_jpeg(with_segments(body, *extra, segment(0xFE, b"comment")))
    assert read.body == body
    assert adobe in read.body
    assert read.frame[:3] == (48, 40, 4)


def test_a_jpeg_with_thousands_of_segments_is_read_and_one_with_more_refused() -> None:
    body = encode("JPEG")
    few = with_segments(body, *[segment(0xE5, b"x")] * 5000)
    assert jpeg.read_jpeg(few).body == body
    with pytest.raises(ImageFileError, match="more than"):
        jpeg.read_jpeg(with_segments(body, *[segment(0xE5, b"x")] * 20_000))


@pytest.mark.parametrize("junk", [b"\xff" * 9_000_000, b"\xff\0" * 4_000_000, bytes(9_000_000)])
def test_megabytes_between_segments_are_not_searched(junk: bytes) -> None:
    body = encode("JPEG")
    with pytest.raises(ImageFileError, match="between its segments"):
        jpeg.read_segments(body[:20] + junk + body[20:])


def test_scans_are_counted_where_a_decoder_meets_them() -> None:
    progressive = encode("JPEG", progressive=True)
    scans = progressive.count(b"\xff\xda")
    assert not jpeg.has_more_scans(progressive, scans)
    assert jpeg.has_more_scans(progressive, scans - 1)
    # Not in a thumbnail, and not in a second image after the end of the first.
    thumbnail = with_segments(progressive, segment(0xE1, b"Exif\0\0" + b"\xff\xda\0\2" * 99))
    assert not jpeg.has_more_scans(thumbnail + progressive, scans)


def test_the_orientation_is_found_in_either_byte_order_behind_other_entries() -> None:
    for order, magic in ((">", b"MM\0*"), ("<", b"II*\0")):
        entries = struct.pack(f"{order}HHII", 0x010F, 2, 4, 99)
        entries += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0)
        block = magic + struct.pack(f"{order}I2xH", 10, 2) + entries
        assert read_orientation(block) == 6
        assert read_orientation(b"Exif\0\0" + block) == 6
        for length in range(len(block)):
            assert read_orientation(block[:length]) in (1, 6)


def test_an_exif_block_that_claims_gigabytes_costs_nothing() -> None:
    # 65,535 entries, each of which claims to have 4 GB or the whole block as its value.
    entries = b"".join(struct.pack(">HHII", tag, 7, 2**32 - 1, 8) for tag in range(0x8000))
    block = b"MM\0*" + struct.pack(">IH", 8, 65535) + entries
    assert read_orientation(block) == 1


def test_a_pngs_orientation_counts_before_and_after_the_pixels() -> None:
    block = (b"eXIf", exif(8).removeprefix(b"Exif\0\0"))
    header, *data, end = chunks_of(encode("PNG"))
    for body in (
        png_of(header, block, *data, end),
        png_of(header, *data, block, end),
    ):
        assert png.read_png(body).orientation == 8


def test_a_webps_orientation_is_found() -> None:
    assert webp.read_orientation_chunk(encode("WEBP", exif=exif(5))) == 5
    assert webp.read_orientation_chunk(encode("WEBP")) == 1


def test_the_smallest_webps_have_sizes() -> None:
    body = encode("WEBP", Image.new("RGB", (100, 70)), lossless=True)[:28]
    assert read_header(body)[:3] == ("WEBP", 100, 70)


def test_a_gifs_comments_are_left_out_and_transparency_stays() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette(bytes(range(12)))
    body = encode("GIF", image, comment=b"word " * 999, transparency=1)
    bare = gif.read_first_frame(body)
    assert b"word" not in bare
    with opened(bare) as read, opened(body) as image:
        assert read.info["transparency"] == image.info["transparency"]
    endless = body[:6] + struct.pack("<HHBBB", 20, 20, 0, 0, 0) + b"!\xfe" + b"\1a" * 100_000
    with pytest.raises(ImageFileError, match="comments"):
        gif.read_size(endless)
