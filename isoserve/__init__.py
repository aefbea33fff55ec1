"""Isoserve: an image classifier's server that says "I don't know"."""
