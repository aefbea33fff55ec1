"""docker-compose.yml: its form, and that every container in it is shut in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_tools import ROOT, run_tool

COMPOSE = ROOT / "docker-compose.yml"
DOCUMENT = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]


def check(path: Path) -> int:
    return run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path).returncode


def test_the_file_is_of_the_compose_specification() -> None:
    assert check(COMPOSE) == 0


@pytest.mark.parametrize(
    ("right", "wrong"), [("cap_drop:", "cap_drops:"), ("retries: 6", "retries: [6]")]
)
def test_a_planted_mistake_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text().replace(right, wrong, 1))
    assert check(broken) != 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-gpu)?", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_watched_and_ports_are_this_machines_alone(name: str) -> None:
    service = SERVICES[name]
    # The service's own images bring their health check; the generator has nothing to ask.
    assert "healthcheck" in service or service["build"]["target"] in ("cpu", "gpu")
    for port in service.get("ports", []):
        assert port.startswith(("127.0.0.1:", "${ISOSERVE_BIND:-127.0.0.1}:"))


def test_what_is_mounted_exists_and_data_lies_in_named_volumes() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *mode = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", volume).split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
                assert mode == ["ro"], f"{name} may write to {source}"
            else:
                assert source in DOCUMENT["volumes"], f"{name}: {target}"


def test_only_the_profiles_add_containers() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name, chosen in profiles.items() if not chosen} == {
        "isoserve",
        "prometheus",
        "alertmanager",
        "grafana",
    }
    assert profiles["isoserve-gpu"] == ["gpu"]
    assert profiles["traffic"] == ["traffic"]


def test_prometheus_finds_the_containers_by_the_names_they_have_here() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    job = prometheus["scrape_configs"][0]
    assert job["job_name"] == "isoserve"
    assert job["dns_sd_configs"][0]["names"] == ["isoserve"]
    assert SERVICES["isoserve-gpu"]["networks"]["default"]["aliases"] == ["isoserve"]
    target = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert target == ["alertmanager:9093"]


def test_the_models_that_the_file_names_are_in_the_image() -> None:
    served = {folder.name for folder in (ROOT / "model_repository").iterdir() if folder.is_dir()}
    words = " ".join([COMPOSE.read_text(), *SERVICES["traffic"]["command"]])
    named = re.findall(r"(?:model=|TRAFFIC_MODEL[=:]-?)(\w+)", words)
    assert set(named) == served == {"cifar10", "clothes"}
    assert "COPY model_repository /models" in (ROOT / "Dockerfile").read_text()
