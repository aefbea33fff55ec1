"""What a user installs: the wheel and the source archive, in an environment of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import httpx
import pytest
from image_bytes import encode, noise

ROOT = Path(__file__).parents[1]
SOURCES = ("isoserve", "models", "service", "training", "model_repository")
FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""


def build(kind: str, source: Path, target: Path) -> Path:
    """A wheel or an sdist of the source tree, without a network."""
    command = [sys.executable, "-W", "ignore", "-c", BUILD, kind, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist) of this checkout's sources."""
    root = tmp_path_factory.mktemp("package")
    source = root / "source"
    source.mkdir()
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    return build("wheel", source, root / "dist"), build("sdist", source, root / "dist")


def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_one_top_level_package_with_its_types_and_data(
    archives: tuple[Path, Path],
) -> None:
    names = wheel_names(archives[0])
    assert {name.partition("/")[0] for name in names} == {"isoserve", "isoserve-0.1.0.dist-info"}
    for package in ("", "models/", "service/", "training/"):
        assert f"isoserve/{package}py.typed" in names
    for folder in ("models", "service", "training"):
        sources = (ROOT / folder).rglob("*.py")
        assert {f"isoserve/{path.relative_to(ROOT)}" for path in sources} <= names
    data = [
        *(ROOT / "service" / "web").rglob("*.*"),
        *(ROOT / "training" / "published").glob("*.csv"),
        *(ROOT / "model_repository").rglob("model.onnx"),
    ]
    assert {f"isoserve/{path.relative_to(ROOT)}" for path in data} <= names


def test_the_source_archive_builds_the_same_wheel(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, sdist = archives
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert {path.name for path in source.iterdir() if path.is_dir()} == {
        "isoserve",
        "isoserve.egg-info",
    }
    assert wheel_names(build("wheel", source, tmp_path / "dist")) == wheel_names(wheel)


def test_the_metadata_are_complete(
    archives: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(archives[0]) as archive:
        metadata = HeaderParser().parsestr(
            archive.read("isoserve-0.1.0.dist-info/METADATA").decode()
        )
    urls = dict(entry.split(", ", 1) for entry in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= urls.keys()
    assert metadata["Author"]
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier", [])
    assert "Operating System :: POSIX" in classifiers
    assert not any("Windows" in entry or "OS Independent" in entry for entry in classifiers)
    assert metadata["Requires-Python"] == ">=3.11"


@pytest.fixture(scope="module")
def environment(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; it reads this one's packages, but not its isoserve."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    (packages,) = (root / "venv" / "lib").glob("python3*/site-packages")
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(here) + "\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", root / "venv" / "bin" / "python"),
            *("install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", archives[0]),
        ],
        check=True,
    )
    return root / "venv"


@pytest.fixture
def beside_own_packages(tmp_path: Path) -> Path:
    """A user's folder, with names that the repository has, too."""
    for name in ("models/__init__.py", "service.py", "training/own.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("OWN = True\n")
    return tmp_path


def clean_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


def run(environment: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_isoserve_is_installed(environment: Path, tmp_path: Path) -> None:
    listed = (
        "from importlib.metadata import files; print(*{str(path) for path in files('isoserve')})"
    )
    paths = run(environment, tmp_path, "-c", listed).split()
    tops = {path.partition("/")[0] for path in paths if not path.startswith("../")}
    assert tops == {"isoserve", "isoserve-0.1.0.dist-info"}
    assert [path for path in paths if path.startswith("../")] == ["../../../bin/isoserve"]


def test_it_works_beside_folders_of_the_same_names(
    environment: Path, beside_own_packages: Path
) -> None:
    (beside_own_packages / "own.py").write_text(
        "import isoserve, models, service, training.own\n"
        "from isoserve import AsyncClient, Client, IsoMax2Head, export, load\n"
        "print(models.OWN, service.OWN, training.own.OWN, isoserve.__file__)\n"
    )
    words = run(environment, beside_own_packages, "own.py").split()
    assert words[:3] == ["True", "True", "True"]
    assert Path(words[3]).is_relative_to(environment)
    assert "serve" in run(environment, beside_own_packages, "-m", "isoserve", "--help")
    assert "0.1.0" in run(environment, beside_own_packages, "-m", "isoserve", "--version")


@pytest.fixture
def installed_server(environment: Path, beside_own_packages: Path) -> Iterator[tuple[str, Path]]:
    """``isoserve serve`` with no repository named; its URL, and a file with what it imported."""
    log = beside_own_packages / "stderr"
    with log.open("w") as file:
        process = subprocess.Popen(
            [environment / "bin" / "isoserve", "serve", "--port", "0"],
            cwd=beside_own_packages,
            env={**clean_environment(), "PYTHONPROFILEIMPORTTIME": "1"},
            stderr=file,
        )
        try:
            while not (found := re.search(r"listening on (http://\S+)", log.read_text())):
                assert process.poll() is None, log.read_text()[-2000:]
            yield found[1], log
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_after_pip_install_a_photograph_is_answered_and_no_torch_is_loaded(
    installed_server: tuple[str, Path],
) -> None:
    url, log = installed_server
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
        while client.get("/healthz/ready").status_code != 200:
            pass
        answer = client.post("/v1/predict", content=encode("JPEG", noise(640, 480)))
    assert answer.status_code == 200
    assert answer.json()["model"] == "clothes"
    imported = set(re.findall(r"\|\s+([\w.]+)$", log.read_text(), re.MULTILINE))
    assert "isoserve.service.server" in imported
    assert not {"torch", "isoserve.training", "onnx"} & imported
