"""Bulk scoring: many images, in units that any worker may redo, into Parquet files."""
