"""The packages that only an extra installs, and what to say where one is missing."""

from __future__ import annotations

import os
from typing import Any

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


MLFLOW_SERVERS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")

MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Of mlflow, where the user set none: it reports to nobody, and a server that is away is told of
within seconds, where its own seven tries take minutes."""


def mlflow_server() -> str:
    """The MLflow server that the environment names; empty if it names none.

    Without one mlflow would make a database in the working folder.
    """
    return next((os.environ[name] for name in MLFLOW_SERVERS if os.environ.get(name)), "")


def import_mlflow() -> Any:
    """The package, with :data:`MLFLOW_DEFAULTS` where the user set none of these.

    Raises:
        ImportError: it is not installed.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.artifacts

    return mlflow
