"""Image files as bytes: which format, how large, turned how, and whole or not, before decoding."""
