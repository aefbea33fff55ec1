"""Every command of the ``isoserve`` program and its options."""
