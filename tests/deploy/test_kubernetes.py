"""The Kubernetes manifests: built, valid, and agreeing with each other and with the image."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from deploy_tools import DEPLOY, ROOT, run_tool, types_of_others

from isoserve.cli import cli

KUBERNETES = DEPLOY / "kubernetes"
CUSTOM = {
    *("ServiceMonitor", "PodMonitor", "PrometheusRule"),
    *("ServingRuntime", "InferenceService", "RayJob"),
}


def built(folder: Path) -> str:
    result = run_tool("kubectl", "kustomize", folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def objects(name: str) -> dict[str, dict[str, Any]]:
    """Kind -> the one object of that kind."""
    found = list(yaml.safe_load_all(built(KUBERNETES / name)))
    assert len({each["kind"] for each in found}) == len(found)
    return {each["kind"]: each for each in found}


def validated(path: Path) -> str:
    result = run_tool("kubernetes-validate", "--strict", path)
    return f"{result.returncode} {result.stdout}{result.stderr}"


@pytest.mark.parametrize("name", ["base", "kserve", "score"])
def test_every_object_is_valid_by_the_strict_schema(tmp_path: Path, name: str) -> None:
    manifest = tmp_path / "all.yaml"
    manifest.write_text(built(KUBERNETES / name))
    said = validated(manifest)
    assert said.startswith("0 ")
    unknown = [line for line in said.splitlines() if "Couldn't find schema" in line]
    kinds = {each["kind"] for each in yaml.safe_load_all(manifest.read_text())}
    assert len(unknown) == len(kinds & CUSTOM)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("readOnlyRootFilesystem", "readonlyRootFilesystem"), ("maxReplicas: 10", "maxReplicas: ten")],
)
def test_a_planted_mistake_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    text = built(KUBERNETES / "base")
    assert right in text
    manifest = tmp_path / "all.yaml"
    manifest.write_text(text.replace(right, wrong))
    assert not validated(manifest).startswith("0 ")


def custom_mistakes(manifest: str) -> list[str]:
    types_of_others()
    script = KUBERNETES / "check_custom.py"
    said = subprocess.run(
        [sys.executable, script], input=manifest, capture_output=True, text=True, check=False
    )
    assert said.returncode == bool(said.stderr), said.stderr
    return said.stderr.splitlines()


@pytest.mark.parametrize("name", ["base", "kserve", "score"])
def test_every_custom_object_is_of_the_types_that_its_operator_publishes(name: str) -> None:
    assert custom_mistakes(built(KUBERNETES / name)) == []


def test_planted_mistakes_in_custom_objects_are_found() -> None:
    manifest = "---\n".join(built(KUBERNETES / name) for name in ("kserve", "base", "score"))
    for right, wrong in [
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("scrapeTimeout: 10s", "scrapeTimeout: 10"),
        ("  groups:\n", "  group:\n"),
        ("storageUri:", "storageUrl:"),
        ("autoSelect: true", 'autoSelect: "yes"'),
        ("  containers:\n  - env:\n", "  containers:\n  - envs:\n"),
        ("workerGroupSpecs:", "workerGroups:"),
        ("backoffLimit: 3", 'backoffLimit: "3"'),
        ("name: ray-head\n", "title: ray-head\n"),
        ('num-cpus: "0"', "num-cpus: 0"),
    ]:
        assert right in manifest, right
        manifest = manifest.replace(right, wrong)
    found = "\n".join(custom_mistakes(manifest))
    for said in (
        "PodMonitor: TS2353",
        "ServiceMonitor: TS2322",
        "PrometheusRule: TS2353",
        "model: unknown field storageUrl",
        "autoSelect: not of type bool: 'yes'",
        "containers[0]: unknown field envs",
        "rayClusterSpec: unknown field workerGroups",
        "backoffLimit: not of type int: '3'",
        "containers[0]: unknown field title",
        "rayStartParams.num-cpus: not of type str: 0",
    ):
        assert said in found


def test_kustomize_finds_a_planted_mistake(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes" / "base" / "kustomization.yaml"
    file.write_text(file.read_text().replace("- service.yaml", "- servise.yaml"))
    assert run_tool("kubectl", "kustomize", file.parent).returncode != 0


def test_selectors_ports_and_names_agree() -> None:
    base = objects("base")
    template = base["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    container = template["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = base["Service"]["spec"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] in ports
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert base[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert base["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    monitor = base["ServiceMonitor"]["spec"]
    assert (
        monitor["selector"]["matchLabels"].items() <= base["Service"]["metadata"]["labels"].items()
    )
    assert monitor["endpoints"][0]["port"] == service["ports"][0]["name"]
    scaled = base["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert scaled["name"] == base["Deployment"]["metadata"]["name"]
    assert "replicas" not in base["Deployment"]["spec"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_the_pod_asks_for_no_privilege() -> None:
    spec = objects("base")["Deployment"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_the_same_image_as_in_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["isoserve"]
    base, kserve = objects("base"), objects("kserve")
    pod = base["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == compose["image"]
    assert kserve["ServingRuntime"]["spec"]["containers"][0]["image"] == compose["image"]
    assert f"{pod['securityContext']['runAsUser']}:" in compose["user"]


def test_kserve_finds_its_runtime_and_the_model_its_name() -> None:
    kserve = objects("kserve")
    runtime, service = kserve["ServingRuntime"], kserve["InferenceService"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] in [each["name"] for each in formats]
    selected = kserve["PodMonitor"]["spec"]["selector"]["matchLabels"]
    assert selected == {"serving.kserve.io/inferenceservice": service["metadata"]["name"]}


def test_the_job_on_ray_is_a_command_that_isoserve_has() -> None:
    spec = objects("score")["RayJob"]["spec"]
    program, name, *arguments = shlex.split(spec["entrypoint"])
    assert (program, name) == ("isoserve", "score")
    command = cli.get_command(click.Context(cli), "score")
    assert command is not None
    with command.make_context("score", arguments) as context:
        asked = context.params
    assert asked["address"] == "auto"
    cluster = spec["rayClusterSpec"]
    cores = sum(
        group["replicas"] * int(container["resources"]["requests"]["cpu"])
        for group in cluster["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
    )
    assert asked["workers"] == cores
    # Ray refuses a variable that both the job and its driver set.
    assert not set(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")).get("env_vars", {}))
    images = {
        container["image"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert len(images) == 1  # Ray wants the same versions everywhere
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert cluster["rayVersion"] == pinned[1]


@pytest.mark.parametrize("name", ["base", "kserve"])
def test_the_operator_gets_the_rules_that_prometheus_has(name: str) -> None:
    folder = KUBERNETES / "monitoring"
    spec = importlib.util.spec_from_file_location("build_rules", folder / "build.py")
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert (folder / "prometheusrule.yaml").read_text() == build.prometheus_rule()
    groups = [
        group
        for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert objects(name)["PrometheusRule"]["spec"]["groups"] == groups
