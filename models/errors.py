"""The errors for what a user gave us."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, with which value, and what would be right."""


class ImageFileError(InputError):
    """Bytes that are not a whole image; the message says what is wrong with them."""


class ImageFormatError(ImageFileError):
    """Bytes of none of the formats that are read."""


class TruncatedImageError(ImageFileError):
    """An image file that ends before its last row: what a decoder would show there is filler."""


class LongHeaderError(Exception):
    """A header of more parts than there is time for where it is only to be looked at."""
