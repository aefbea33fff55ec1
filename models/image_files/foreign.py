"""What was sent in place of an image that can be read, and the way out."""

from __future__ import annotations

HEIF_MISSING = (
    "this is a HEIC (HEIF) photograph, and the extra that reads it is missing: pip install "
    '"isoserve[heif]" where the server or the command runs; or save it as JPEG (on an iPhone: '
    "Settings, Camera, Formats, Most Compatible)"
)

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "this is a PDF document: save its page as an image"),
    (b"\xff\x0a", "this is a JPEG XL image, which is not supported: save it as JPEG"),
    (b"\0\0\0\x0cJXL ", "this is a JPEG XL image, which is not supported: save it as JPEG"),
    (b"\0\0\0\x0cjP  ", "this is a JPEG 2000 image, which is not supported: save it as JPEG"),
    (b"\xff\x4f\xff\x51", "this is a JPEG 2000 image, which is not supported: save it as JPEG"),
    (b"II+\0", "this is a BigTIFF, which is not supported: save it as TIFF or PNG"),
    (b"MM\0+", "this is a BigTIFF, which is not supported: save it as TIFF or PNG"),
    (b"\0\0\1\0", "this is an icon (ICO), which is not supported: save it as PNG"),
    (b"8BPS", "this is a Photoshop document: save it as JPEG or PNG"),
    (b"PK\3\4", "this is a ZIP archive: send one of its images"),
    (b"\x1f\x8b", "this is gzip-compressed: send the image itself, it is compressed already"),
    (b"data:image/", "this is a data URL: decode its base64 part and send those bytes"),
)

_JSON_WAY_OUT = (
    "this is JSON, not an image: send the bytes of the file "
    "(curl --data-binary @photo.jpg), or JSON to /v2/models/NAME/infer"
)


def describe(body: bytes) -> str:
    """A clause about a body that is of no format that is read: what it is, or its first bytes."""
    for signature, words in _SIGNATURES:
        if body.startswith(signature):
            return words
    if body[4:8] == b"ftyp":
        return "this is a film (MP4 or alike), not an image: send one of its frames"
    text = body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"[") and text[1:].lstrip()[:1] in (b'"', b"{", b"[", b"]", b"}"):
        return _JSON_WAY_OUT
    if b"<svg" in text.lower():
        return "this is an SVG drawing, which has no pixels: save it as PNG"
    if text[:1] == b"<":
        return "this is HTML or XML, not an image"
    if not body:
        return "the file is empty"
    return f"the first bytes ({body[:8].hex(' ')}) are of no image format that is read"
