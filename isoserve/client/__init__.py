"""The Python client of a running server."""
