"""The papers' printed numbers as CSV, in percent.

:mod:`isoserve.training.reproduce.published` reads them.
"""
