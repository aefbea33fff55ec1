"""Detectors the papers compare with, and controls; for all of them higher = more in-distribution.

None of them is part of what is served: they cost several passes, adversarial images or a fit.
"""
