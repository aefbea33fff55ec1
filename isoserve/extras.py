"""The packages that only an extra installs, and what to say where one is missing."""

from __future__ import annotations

TRAIN_PACKAGES = frozenset(
    (
        "lightning_fabric",
        "matplotlib",
        "onnx",
        "onnxscript",
        "pytorch_ood",
        "scipy",
        "sklearn",
        "torch",
        "torchvision",
    )
)
"""What only the train extra installs."""


def missing_extra(what: str, error: ModuleNotFoundError) -> ModuleNotFoundError | None:
    """The error that names the extra which brings the missing package; None if none does.

    Args:
        what: the name or command that needs the package.
    """
    package = (error.name or "").partition(".")[0]
    if package not in TRAIN_PACKAGES:
        return None
    return ModuleNotFoundError(
        f"{what} needs {package}: pip install 'isoserve[train]'", name=package
    )
