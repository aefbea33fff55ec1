"""``python -m isoserve``: the same program without its script on the PATH."""

from isoserve.cli import main

main()
