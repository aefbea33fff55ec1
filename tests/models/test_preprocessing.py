"""Any image -> RGB pixels, against formulas, NumPy's turns and Pillow's own decoder."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_bytes import encode, exif, opened, png_header, png_of
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError
from isoserve.models.image_files.header import Header
from isoserve.models.image_files.reduction import reduction_of
from isoserve.models.preprocessing import decode_pixels, to_pixels

Pixels = NDArray[np.uint8]

SMALL = InputSpec(height=32, width=32)

ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""EXIF 2.32's table: the visual sides at which the stored row 0 and column 0 belong."""


def upright(stored: Pixels, orientation: int) -> Pixels:
    """Stored pixels [H, W, 3] as a viewer shows them, by EXIF's own table."""
    row, column = ORIENTATIONS[orientation]
    if row in ("left", "right"):
        stored = stored.swapaxes(0, 1)
    if "bottom" in (row, column):
        stored = stored[::-1]
    return stored[:, ::-1] if "right" in (row, column) else stored


def photo(width: int, height: int, channels: int = 3) -> Pixels:
    """Something with edges, gradients and noise: uint8 [H, W, C]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 3 * c)) + np.cos(y / (9 - c)) for c in range(channels)]
    edges = 40.0 * ((x // 13 + y // 17) % 2)
    values = 110 + 45 * np.stack(waves, -1) + edges[..., None]
    noisy = values + generator.normal(0, 6, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def large_photo(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(photo(300, 300)).resize(size)


def png(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, depth, colour type) and unfiltered rows without filter bytes."""
    height = header[1]
    step = len(rows) // height
    raw = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height))
    return png_of(png_header(*header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def at_own_size(width: int, height: int) -> InputSpec:
    return InputSpec(height=height, width=width)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 75, 96])
def test_jpegs_come_out_as_pillow_decodes_them_to_the_bit(
    subsampling: str, progressive: bool, quality: int
) -> None:
    for width, height in [(1, 1), (7, 5), (32, 32), (33, 47), (100, 75)]:
        body = encode(
            "JPEG",
            photo(width, height),
            quality=quality,
            progressive=progressive,
            subsampling=subsampling,
        )
        expected = np.asarray(opened(body).convert("RGB"))
        assert np.array_equal(decode_pixels(body, at_own_size(width, height)), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_come_out_as_pillow_decodes_them_to_the_bit(mode: str) -> None:
    for width, height in [(1, 1), (32, 32), (61, 40)]:
        body = encode("JPEG", Image.fromarray(photo(width, height)).convert(mode), quality=90)
        expected = np.asarray(opened(body).convert("RGB"))
        assert np.array_equal(decode_pixels(body, at_own_size(width, height)), expected)


@pytest.mark.parametrize("size", [(261, 270), (523, 515), (1024, 1400), (2100, 1030), (1037, 1029)])
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_the_path_by_bytes_and_the_path_by_pillow_are_one_at_every_scale(
    size: tuple[int, int], orientation: int
) -> None:
    body = encode("JPEG", large_photo(size), exif=exif(orientation))
    for spec in (SMALL, InputSpec(height=24, width=40)):
        assert np.array_equal(decode_pixels(body, spec), to_pixels(opened(body), spec))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_other_formats_take_the_same_path_too(kind: str, mode: str) -> None:
    image = Image.fromarray(photo(90, 70)).convert("RGB")
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    elif mode != "RGB":
        image = image.convert(mode)
    body = encode(kind, image, **({"lossless": True} if kind == "WEBP" else {}))
    for spec in (SMALL, at_own_size(90, 70)):
        assert np.array_equal(decode_pixels(body, spec), to_pixels(opened(body), spec))


def test_rgb_pixels_at_the_inputs_size_are_kept_to_the_bit() -> None:
    pixels = photo(32, 32)
    for kind in ("PNG", "BMP"):
        assert np.array_equal(decode_pixels(encode(kind, pixels), SMALL), pixels)
    assert np.array_equal(to_pixels(Image.fromarray(pixels), SMALL), pixels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_all_exif_orientations_are_brought_upright(orientation: int, order: str, kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    options |= {"quality": 100, "subsampling": "4:4:4"} if kind == "AVIF" else {}
    options |= {"quality": 100, "chroma": 444} if kind == "HEIF" else {}
    block = exif(orientation, order)
    if kind in ("TIFF", "AVIF", "HEIF"):  # Pillow takes their blocks without a name
        block = block.removeprefix(b"Exif\0\0")
    body = encode(kind, photo(48, 32), exif=block, **options)
    if kind in ("TIFF", "HEIF"):
        expected = np.asarray(opened(body).convert("RGB"))  # turned by Pillow
        assert np.abs(expected.astype(int) - upright(photo(48, 32), orientation)).mean() < 4
    else:
        expected = upright(np.asarray(opened(body).convert("RGB")), orientation)
    spec = at_own_size(expected.shape[1], expected.shape[0])
    assert np.array_equal(decode_pixels(body, spec), expected)
    assert np.array_equal(to_pixels(opened(body), spec), expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_photo_is_resized_like_its_upright_twin(orientation: int) -> None:
    stored = photo(150, 100)
    twin = np.ascontiguousarray(upright(stored, orientation))
    spec = InputSpec(height=20, width=36)
    turned = decode_pixels(encode("PNG", stored, exif=exif(orientation)), spec).astype(int)
    assert np.abs(turned - decode_pixels(encode("PNG", twin), spec)).max() <= 1


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_a_nonsensical_orientation_is_no_orientation(value: int) -> None:
    pixels = photo(40, 40)
    body = encode("PNG", pixels, exif=exif(value))
    assert np.array_equal(decode_pixels(body, at_own_size(40, 40)), pixels)


def test_cmyk_is_inked_paper() -> None:
    inks = photo(40, 32, channels=4)
    image = Image.frombytes("CMYK", (40, 32), inks.tobytes())
    body = encode("JPEG", image, quality=100, subsampling=0)
    # Adobe's CMYK, which Pillow writes, stores ink inverted; the JPEG step costs a few levels.
    cyan_magenta_yellow, black = inks[..., :3] / 255.0, inks[..., 3:] / 255.0
    expected = 255 * (1 - cyan_magenta_yellow) * (1 - black)
    assert np.abs(decode_pixels(body, at_own_size(40, 32)) - expected).max() < 8


def test_ycck_is_luminance_and_chrominance_of_the_inverted_inks() -> None:
    planes = np.empty((16, 16, 4), dtype=np.uint8)
    planes[...] = 180, 90, 150, 200  # Y, Cb, Cr, K as stored
    body = encode("JPEG", Image.frombytes("CMYK", (16, 16), (255 - planes).tobytes()), quality=100)
    flag = body.index(b"Adobe") + 11
    body = body[:flag] + b"\x02" + body[flag + 1 :]
    y, cb, cr, k = 180.0, 90 - 128, 150 - 128, 200.0
    # T.871's RGB of Y, Cb, Cr is 255 - CMY; stored inverted, CMY's and K's paper shows through.
    inked = 255 - np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    expected = np.clip(inked, 0, 255) * k / 255
    assert np.abs(decode_pixels(body, at_own_size(16, 16)) - expected).max() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_composed_on_white(mode: str, kind: str) -> None:
    pixels = photo(30, 20, channels=len(mode))
    pixels[..., -1] = np.arange(600).reshape(20, 30) % 256
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    body = encode(kind, Image.frombytes(mode, (30, 20), pixels.tobytes()), **options)
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255.0
    expected = np.broadcast_to(alpha * colour + (1 - alpha) * 255, (20, 30, 3))
    assert np.abs(decode_pixels(body, at_own_size(30, 20)) - expected).max() <= 1


def test_transparency_is_weighed_when_resizing() -> None:
    # Half of each block is transparent black: composed on white it is half white, half red.
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[:, ::2] = 255, 0, 0, 255
    shown = decode_pixels(encode("PNG", pixels), InputSpec(height=4, width=4))
    assert np.abs(shown.astype(int) - (255, 128, 128)).max() <= 3


def test_a_palettes_colours_and_transparent_entries_are_looked_up() -> None:
    palette = bytes(range(48))
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16) % 16
    alpha = bytes([0, 128, 255])
    body = png((16, 16, 8, 3), indices.tobytes(), (b"PLTE", palette), (b"tRNS", alpha))
    table = np.frombuffer(palette, np.uint8).reshape(16, 3).astype(float)
    opacity = np.array([0, 128, 255, *[255] * 13])[:, None] / 255
    expected = (opacity * table + (1 - opacity) * 255)[indices]
    assert np.abs(decode_pixels(body, at_own_size(16, 16)) - expected).max() <= 1


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_are_shown_by_their_high_byte(colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, channels)).astype(">u2")
    if colour_type >= 4:
        values[..., -1] = 65535
    body = png((8, 8, 16, colour_type), values.tobytes())
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    expected = np.broadcast_to(colour >> 8, (8, 8, 3))
    assert np.array_equal(decode_pixels(body, at_own_size(8, 8)), expected)


def sixteen_bit_png(values: NDArray[np.uint16], colour_type: int) -> bytes:
    return png((*values.shape[1::-1], 16, colour_type), values.astype(">u2").tobytes())


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_twelve_bits_in_sixteen_are_shown_by_their_own_range(colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, channels)).astype(np.uint16)
    values[0, 0] = 4095
    if colour_type >= 4:
        values[..., -1] = 65535
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    shown = decode_pixels(sixteen_bit_png(values, colour_type), at_own_size(8, 8))
    assert np.array_equal(shown, np.broadcast_to(colour >> 4, (8, 8, 3)))
    values[0, 0, 0] = 4096  # a thirteenth bit: then all of them are meant
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    shown = decode_pixels(sixteen_bit_png(values, colour_type), at_own_size(8, 8))
    assert np.array_equal(shown, np.broadcast_to(colour >> 8, (8, 8, 3)))


def tiff(values: NDArray[np.uint16], *entries: tuple[int, int]) -> bytes:
    """Little-endian gray of 16 bits, with a directory of (tag, short) beside what it needs."""
    fields = {256: values.shape[1], 257: values.shape[0], 258: 16, 259: 1, 262: 1, 277: 1}
    fields |= {278: values.shape[0], 279: values.nbytes, 273: 8} | dict(entries)
    start = 8 + values.nbytes
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, fields[tag]) for tag in sorted(fields))
    head = b"II*\0" + struct.pack("<I", start) + values.astype("<u2").tobytes()
    return head + struct.pack("<H", len(fields)) + directory + bytes(4)


def test_a_tiff_is_shown_by_the_range_it_declares() -> None:
    values = (np.arange(64, dtype=np.uint16) * 255).reshape(8, 8)  # up to 16,065
    shown = {
        (): values >> 8,
        ((281, 16383),): values >> 6,
        ((281, 4095),): values >> 8,  # not true
        ((262, 0),): 255 - (values >> 8),  # white is zero
    }
    for entries, expected in shown.items():
        pixels = decode_pixels(tiff(values, *entries), at_own_size(8, 8))
        assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=-1))
    dark = values // 16
    pixels = decode_pixels(tiff(dark), at_own_size(8, 8))
    assert np.array_equal(pixels[..., 0], dark >> 4)
    dim = values // 64
    assert np.array_equal(
        decode_pixels(tiff(dim, (281, 1023)), at_own_size(8, 8))[..., 0], dim >> 2
    )


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)])
def test_samples_without_a_range_are_refused_in_words(values: NDArray[Any]) -> None:
    with pytest.raises(ImageFileError, match="not supported"):
        decode_pixels(encode("TIFF", values), SMALL)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiffs_first_page_counts(compression: str) -> None:
    first, second = Image.fromarray(photo(40, 32)), Image.new("RGB", (40, 32), "blue")
    options = {"quality": 100} if compression == "jpeg" else {}
    pages: dict[str, Any] = {"save_all": True, "append_images": [second]}
    body = encode("TIFF", first, compression=compression, **pages, **options)
    shown = decode_pixels(body, at_own_size(40, 32)).astype(int)
    assert np.abs(shown - photo(40, 32)).mean() < (5 if compression == "jpeg" else 0.01)


@pytest.mark.parametrize(("colour_type", "depth"), [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_the_colour_declared_transparent_is_white(colour_type: int, depth: int) -> None:
    channels = 3 if colour_type == 2 else 1
    if depth == 1:
        rows, key = bytes([0b01010101] * 8), bytes([0, 0])
        expected = np.full((8, 8), 255)
    else:
        kind = ">u2" if depth == 16 else "u1"
        values = np.full((8, 8, channels), 200 << (depth - 8), dtype=kind)
        values[:, ::2] = 50 << (depth - 8)
        rows, key = values.tobytes(), np.full(channels, 50 << (depth - 8), ">u2").tobytes()
        expected = np.where(np.arange(8) % 2 == 0, 255, 200) * np.ones((8, 1))
    body = png((8, 8, depth, colour_type), rows, (b"tRNS", key))
    shown = decode_pixels(body, at_own_size(8, 8))
    assert np.array_equal(shown, np.repeat(expected[..., None], 3, axis=-1))


def test_one_bit_is_black_and_white() -> None:
    bits = np.unpackbits(np.arange(8, dtype=np.uint8)).reshape(8, 8)
    body = png((8, 8, 1, 0), np.packbits(bits).tobytes())
    expected = np.repeat(bits[..., None] * 255, 3, axis=-1)
    assert np.array_equal(decode_pixels(body, at_own_size(8, 8)), expected)


def test_a_gifs_first_frame_is_what_counts() -> None:
    first, second = Image.new("RGB", (20, 20), (200, 30, 40)), Image.new("RGB", (20, 20), "blue")
    body = encode("GIF", first, save_all=True, append_images=[second], comment=b"hello " * 200)
    assert np.abs(decode_pixels(body, SMALL).astype(int) - (200, 30, 40)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(97, 61), (61, 97), (32, 200), (20, 14), (5, 64)])
@pytest.mark.parametrize("spec", [SMALL, InputSpec(height=18, width=30)])
def test_crop_and_resize_are_the_antialiased_bicubic_ones(
    width: int, height: int, spec: InputSpec
) -> None:
    pixels = photo(width, height)
    expected = np.clip(bicubic(centre_box(pixels, spec), pixels.astype(np.float64), spec), 0, 255)
    shown = decode_pixels(encode("PNG", pixels), spec)
    assert np.abs(shown - expected).mean() < 0.5  # Pillow rounds twice
    assert np.abs(shown - expected).max() < 2.5


def smooth_photo(width: int, height: int, detail: float) -> Image.Image:
    """A picture of gradients, and grain of so many levels."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 90 + c) + np.cos(y / (70 + 9 * c)) for c in range(3)], -1)
    grain = np.random.default_rng(0).normal(0, 1, (-(-height // 4), -(-width // 4), 1))
    coarse = Image.fromarray(grain[..., 0].astype(np.float32)).resize((width, height))
    values = 120 + 50 * waves + detail * np.asarray(coarse)[..., None]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(257, 259), (515, 515), (1029, 1031), (1280, 860), (2056, 2051)])
@pytest.mark.parametrize("detail", [0.0, 3.0, 12.0])
@pytest.mark.parametrize("side", [32, 224])
def test_decoding_a_jpeg_smaller_hardly_shows(
    size: tuple[int, int], detail: float, side: int
) -> None:
    spec = InputSpec(height=side, width=side)
    body = encode("JPEG", smooth_photo(*size, detail), quality=90)
    whole = Image.fromarray(np.asarray(opened(body)))  # in memory: nothing left to decode smaller
    difference = decode_pixels(body, spec).astype(int) - to_pixels(whole, spec)
    # A box around what was decoded, and not what it stands for, costs 1.7 to 3.5 levels here.
    assert np.abs(difference).mean() < 0.22
    assert np.abs(difference).max() <= 8


def test_the_more_detail_a_jpeg_has_the_less_it_is_reduced() -> None:
    spec = InputSpec(height=224, width=224)
    size = Header("JPEG", 4000, 3000)
    found = [reduction_of(size, spec, int(12e6 * density)) for density in (0.01, 0.1, 0.3, 1.0)]
    assert found == [8, 4, 2, 2]
    crop = InputSpec(height=224, width=224, crop=0.5)
    assert reduction_of(size, crop, 120_000) == 4
    assert reduction_of(Header("JPEG", 500, 400), spec, 4000) == 1


def test_a_jpeg_in_memory_is_not_taken_for_one_that_can_be_decoded_smaller() -> None:
    image = opened(encode("JPEG", smooth_photo(1000, 900, 0.0)))
    image.load()
    assert image.format == "JPEG"
    expected = to_pixels(Image.fromarray(np.asarray(image)), SMALL)
    assert np.array_equal(to_pixels(image, SMALL), expected)


@pytest.mark.parametrize(
    "body", [b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]
)
def test_what_is_no_image_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(ImageFileError, match=r"\w+ \w+"):
        decode_pixels(body, SMALL)


def centre_box(pixels: Pixels, spec: InputSpec) -> tuple[float, float, float, float]:
    height, width = pixels.shape[:2]
    scale = min(width / spec.width, height / spec.height)
    wide, high = scale * spec.width, scale * spec.height
    return (width - wide) / 2, (height - high) / 2, wide, high


def bicubic(
    box: tuple[float, float, float, float], pixels: NDArray[np.float64], spec: InputSpec
) -> NDArray[np.float64]:
    """Keys' kernel (a = -1/2), widened by the scale where that shrinks, in float64."""
    left, top, wide, high = box
    rows = weights(pixels.shape[0], top, high / spec.height, spec.height)
    columns = weights(pixels.shape[1], left, wide / spec.width, spec.width)
    return np.asarray(np.einsum("yh,xw,hwc->yxc", rows, columns, pixels, optimize=True))


def weights(count: int, start: float, step: float, wanted: int) -> NDArray[np.float64]:
    """[wanted, count]: how much each source sample gives to each output sample."""
    support = max(step, 1.0)
    table = np.zeros((wanted, count))
    for index in range(wanted):
        middle = start + (index + 0.5) * step
        x = np.abs(np.arange(count) + 0.5 - middle) / support
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        table[index] = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return table / table.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(300, 300), (1600, 1200)])
def test_a_crop_shows_the_middle_of_what_the_whole_would(size: tuple[int, int]) -> None:
    body = encode("JPEG", large_photo(size), quality=95)
    whole = decode_pixels(body, InputSpec(height=64, width=64)).astype(int)
    middle = decode_pixels(body, InputSpec(height=48, width=48, crop=0.75)).astype(int)
    assert np.abs(middle - whole[8:-8, 8:-8]).mean() < 1


def test_an_image_of_the_inputs_size_is_not_cropped() -> None:
    pixels = photo(32, 32)
    spec = InputSpec(height=32, width=32, crop=0.5)
    assert np.array_equal(to_pixels(Image.fromarray(pixels), spec), pixels)
