"""The images of a ``multipart/form-data`` body that is in memory; nothing touches a disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from isoserve.models.text import pluralize
from isoserve.service.errors import Problem
from isoserve.service.http.request_head import header_of
from isoserve.service.observability.request_record import Headers

if TYPE_CHECKING:  # the package defines it for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

MOST_OTHER_PARTS = 16
"""Fields besides the images that are passed over before the form is refused."""


logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
"""What it has to say of a form is answered to its client; the log is not for clients to write."""


def is_urlencoded(headers: Headers) -> bool:
    """Whether the body says it is a form of text, as ``curl -d`` does of a file."""
    return _content_type(headers)[:33].lower() == b"application/x-www-form-urlencoded"


def is_multipart(headers: Headers) -> bool:
    """Whether the body says it is a multipart form."""
    return _content_type(headers)[:19].lower() == b"multipart/form-data"


def images_of_form(body: bytes, headers: Headers, field: str, most: int) -> list[bytes]:
    """The contents of the parts called ``field``, in order.

    Raises:
        Problem: 400 for a malformed form or one without such a part, 413 for more than ``most``.
    """
    boundary = parse_options_header(_content_type(headers))[1].get(b"boundary")
    if not boundary:
        raise _malformed()
    parts = _Parts(field.encode(), most)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _malformed() from error
    if not parts.complete:
        raise _malformed()
    if not parts.images:
        raise Problem(400, "no_image", f"the form has no part called '{field}'")
    return parts.images


class _Parts:
    """Collects the parts of one name while the parser walks over the body."""

    def __init__(self, field: bytes, most: int) -> None:
        self.images: list[bytes] = []
        self.complete = False
        self._field = field
        self._most = most
        self._others = 0
        self._header_name = b""
        self._header_value = b""
        self._chunks: list[bytes] | None = None

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value_,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_ends,
            "on_end": self._form_ends,
        }

    def _part_begins(self) -> None:
        self._chunks = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            options = parse_options_header(self._header_value)[1]
            if options.get(b"name") == self._field:
                self._chunks = []
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        if self._chunks is None:
            self._others += 1
            if self._others > MOST_OTHER_PARTS:
                raise Problem(
                    400,
                    "too_many_fields",
                    f"the form has more than {MOST_OTHER_PARTS} parts besides "
                    f"'{self._field.decode()}'; leave out those that are not images",
                )
        elif len(self.images) == self._most:
            most = pluralize(self._most, "image")
            raise Problem(413, "too_many_images", f"at most {most} a request")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def _part_ends(self) -> None:
        if self._chunks is not None:
            self.images.append(b"".join(self._chunks))

    def _form_ends(self) -> None:
        self.complete = True


def _content_type(headers: Headers) -> bytes:
    return header_of(headers, b"content-type") or b""


def _malformed() -> Problem:
    return Problem(400, "bad_multipart", "the multipart body is malformed or ends early")
