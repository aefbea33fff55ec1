"""The Dockerfile, and what goes into the image."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from deploy_tools import ROOT, run_tool

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def stages() -> dict[str, str]:
    """Stage name -> its lines."""
    parts = re.split(r"^FROM .* AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_hadolint_finds_nothing() -> None:
    result = run_tool("hadolint", ROOT / "Dockerfile")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ARG BASE_IMAGE=python:3.11-slim-bookworm\n", "FROM python:latest\nARG BASE_IMAGE\n"),
        ("USER 10001:10001\n", "USER root\n"),
        ("WORKDIR /source\n", "WORKDIR source\n"),
    ],
)
def test_hadolint_finds_a_planted_mistake(tmp_path: Path, right: str, wrong: str) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace(right, wrong))
    assert DOCKERFILE.count(right)
    assert run_tool("hadolint", tmp_path / "Dockerfile").returncode != 0


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_each_target_runs_as_nobody_and_knows_its_health(target: str) -> None:
    stage = stages()[target]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE)
    assert "HEALTHCHECK" in stage
    assert "curl" not in stage
    assert "ORT_DISABLE_TELEMETRY=1" in stage
    assert "COPY model_repository /models" in stage


def test_the_default_target_is_the_processor() -> None:
    assert list(stages())[-1] == "cpu"


def test_every_dependency_of_the_image_is_pinned_and_torch_is_none_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {_name(requirement) for requirement in project["dependencies"]}
    pins = (ROOT / "constraints.txt").read_text().split()
    assert wanted <= {_name(pin) for pin in pins if "==" in pin}
    assert not wanted & {"torch", "torchvision", "onnx", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("extras", "names"),
    [
        ("", []),
        ("otel", ["otel"]),
        ("grpc,review", ["grpc", "review"]),
        ("otel grpc", ["otel", "grpc"]),
    ],
)
def test_the_image_is_built_with_the_extras_that_are_asked_for(
    tmp_path: Path, extras: str, names: list[str]
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for name in names:
        wanted += project["optional-dependencies"][name]
    assert write_wanted(tmp_path, extras).returncode == 0
    assert (tmp_path / "wanted.txt").read_text().splitlines() == wanted
    pins = (ROOT / "constraints.txt").read_text().split()
    assert {_name(each) for each in wanted} <= {_name(pin) for pin in pins if "==" in pin}


def test_an_extra_that_there_is_not_ends_the_build(tmp_path: Path) -> None:
    assert write_wanted(tmp_path, "metrics").returncode != 0


def write_wanted(folder: Path, extras: str) -> subprocess.CompletedProcess[bytes]:
    """What the stage runs, as a builder's shell runs it."""
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    command = stages()["wanted"].split("\nRUN ")[1].replace("\\\n", "")
    command = command.replace("python3", sys.executable)
    environment = {**os.environ, "EXTRAS": extras}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=False)


def test_the_gpu_image_has_the_same_runtime_for_cuda_and_pinned_libraries_of_it() -> None:
    stage = stages()["gpu-packages"]
    assert r"s/^onnxruntime\b/onnxruntime-gpu[cuda,cudnn]/" in stage
    assert r"s/^onnxruntime\b/onnxruntime-gpu/' constraints.txt" in stage
    assert "--constraint constraints-gpu.txt" in stage
    pins = (ROOT / "constraints-gpu.txt").read_text().split()
    assert all(re.fullmatch(r"nvidia-[a-z0-9-]+==[\d.]+", pin) for pin in pins)
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-runtime"} <= set(map(_name, pins))


def test_what_the_dockerfile_copies_passes_the_ignore_file() -> None:
    allowed = [
        line[1:].removesuffix("/**")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    assert set(copied) == set(allowed)


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()
