"""Any image -> RGB pixels, against formulas, NumPy's turns and Pillow's own decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_photos import SMALL, Pixels, at_own_size, photo
from image_bytes import encode, exif, opened
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError
from isoserve.models.image_files.header import Header
from isoserve.models.image_files.reduction import reduction_of
from isoserve.models.preprocessing import decode_pixels, to_pixels

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


def large_photo(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(photo(300, 300)).resize(size)


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


@pytest.mark.parametrize(("times", "is_exact"), [(1.0, True), (2.5, True), (3.5, False)])
def test_colours_are_repeated_only_where_many_pixels_make_one(times: float, is_exact: bool) -> None:
    spec = InputSpec(height=64, width=64)
    body = encode("JPEG", photo(round(64 * times), round(64 * times)), quality=90)
    whole = Image.fromarray(np.asarray(opened(body)))
    difference = np.abs(decode_pixels(body, spec).astype(int) - to_pixels(whole, spec))
    assert (difference.max() == 0) == is_exact
    assert difference.mean() < 0.3


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
