"""The error for what a user gave us."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, with which value, and what would be right."""
