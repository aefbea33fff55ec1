"""What a server imports, and when: the process that tries a model starts before the engines are."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENGINES = {"numpy", "onnxruntime", "PIL", "openvino"}
WEB = {"fastapi", "starlette", "uvicorn", "prometheus_client", "grpc"}
OF_OTHERS = {
    *("torch", "torchvision", "onnx", "scipy", "sklearn", "matplotlib", "pandas", "pyarrow"),
    *("fsspec", "boto3", "sqlalchemy", "psycopg", "model_signing", "cryptography", "sigstore"),
    *("httpx", "requests", "ray", "openvino", "grpc", "pytest"),
}


def imported_by(module: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has imported this one."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        # Until the process that tries the model has started.
        ("isoserve.commands.serve", ENGINES | WEB | OF_OTHERS),
        # That process itself: it runs one network, and reads no image and no setting.
        ("isoserve.service.repository.load_check", {"PIL", "pydantic_settings"} | WEB | OF_OTHERS),
        # All that serves, without the extras that were not asked for.
        ("isoserve.service.server", OF_OTHERS),
    ],
)
def test_a_server_imports_nothing_needless(module: str, needless: set[str]) -> None:
    assert not imported_by(module) & needless
