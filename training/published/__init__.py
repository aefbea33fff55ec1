"""The papers' printed numbers as CSV, in percent; read by :mod:`training.reproduce.published`."""
