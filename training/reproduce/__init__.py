"""The papers' tables and figures, run again: a grid of trainings and evaluations, and a report."""
