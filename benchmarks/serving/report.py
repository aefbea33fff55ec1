"""Where results go, and what is said of the machine they were taken on."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from isoserve.models.cpu_quota import usable_cores

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = (
    "onnxruntime",
    "openvino",
    "numpy",
    "uvicorn",
    "uvloop",
    "httptools",
    "mosec",
    "litserve",
    "bentoml",
    "nvidia-pytriton",
)


def circumstances() -> dict[str, Any]:
    """Hardware, versions, date, and what else the machine was doing."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": usable_cores(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def write_result(folder: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Save the result and print its text."""
    save_result(folder, name, result, text)
    print(text)


def save_result(folder: Path, name: str, result: dict[str, Any], text: str) -> None:
    """``NAME.json`` and ``NAME.md``, the latter with the circumstances at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    footer = (
        f"{result['date']}: {result['processor']}, {result['cores']} cores, load average "
        f"{result['load_average_before']} beforehand; Python {result['python']}, {versions}.\n"
    )
    (folder / f"{name}.md").write_text(f"{text.rstrip()}\n\n{footer}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
