"""Checks custom objects by the types that their operators publish: no unknown field, no wrong type.

    kubectl kustomize deploy/kubernetes/base | python deploy/kubernetes/check_custom.py

kubernetes-validate knows the built-in kinds alone. Those of the Prometheus operator are checked by
the TypeScript compiler against npm @kubernetes-models/prometheus-operator, which is generated from
the operator's Go types; those of KServe against the models of its Python SDK, generated from
KServe's OpenAPI document, and what they hold of Kubernetes' own against those of the kubernetes
client. deploy/get_tools gets all three. KubeRay publishes its schema in no registry of packages:
the fields below are those that its API reference documents for ray.io/v1, so far as a RayJob with
a cluster of its own has them; the pods in it are checked as Kubernetes' own. Each mistake is a
line, and the exit code is 1.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

GENERATED = re.compile(r"^    (openapi_types|attribute_map) = (\{.*?\})$", re.MULTILINE | re.DOTALL)
TOOLS = Path(__file__).resolve().parents[2] / "build" / "deploy-tools"
OPERATOR = "monitoring.coreos.com/v1"
KSERVE = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
RAY = ("ray.io/v1", "RayJob")
TEXTS = "dict(str, str)"
RAY_FIELDS: dict[str, tuple[dict[str, str], set[str]]] = {
    "RayJob": (
        {"apiVersion": "str", "kind": "str", "metadata": "V1ObjectMeta", "spec": "RayJobSpec"},
        {"metadata", "spec"},
    ),
    "RayJobSpec": (
        {
            **dict.fromkeys(("entrypoint", "entrypointResources", "jobId", "managedBy"), "str"),
            **dict.fromkeys(("runtimeEnvYAML", "submissionMode"), "str"),
            **dict.fromkeys(("entrypointNumCpus", "entrypointNumGpus"), "float"),
            **dict.fromkeys(("activeDeadlineSeconds", "backoffLimit"), "int"),
            "ttlSecondsAfterFinished": "int",
            **dict.fromkeys(("shutdownAfterJobFinishes", "suspend"), "bool"),
            **dict.fromkeys(("clusterSelector", "metadata"), TEXTS),
            "rayClusterSpec": "RayClusterSpec",
            "submitterConfig": "RaySubmitterConfig",
            "submitterPodTemplate": "V1PodTemplateSpec",
        },
        {"entrypoint", "rayClusterSpec"},
    ),
    "RaySubmitterConfig": ({"backoffLimit": "int"}, set()),
    "RayClusterSpec": (
        {
            "rayVersion": "str",
            "managedBy": "str",
            "headServiceAnnotations": TEXTS,
            **dict.fromkeys(("enableInTreeAutoscaling", "suspend"), "bool"),
            "headGroupSpec": "RayHeadGroupSpec",
            "workerGroupSpecs": "list[RayWorkerGroupSpec]",
        },
        {"headGroupSpec"},
    ),
    "RayHeadGroupSpec": (
        {
            "enableIngress": "bool",
            "headService": "V1Service",
            "rayStartParams": TEXTS,
            "serviceType": "str",
            "template": "V1PodTemplateSpec",
        },
        {"template"},
    ),
    "RayWorkerGroupSpec": (
        {
            "groupName": "str",
            **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts"), "int"),
            "idleTimeoutSeconds": "int",
            "rayStartParams": TEXTS,
            "suspend": "bool",
            "template": "V1PodTemplateSpec",
        },
        {"groupName", "maxReplicas", "minReplicas", "template"},
    ),
}
SCALARS = {"str": str, "int": int, "bool": bool, "float": float}


def mistakes(documents: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the custom objects among the documents, a line each."""
    found = [*operator_mistakes([each for each in documents if each["apiVersion"] == OPERATOR])]
    for document in documents:
        kind = (document["apiVersion"], document["kind"])
        model = "RayJob" if kind == RAY else KSERVE.get(kind)
        if model is not None:
            found += model_mistakes(document, model, document["kind"])
    return found


def operator_mistakes(documents: list[dict[str, Any]]) -> Iterator[str]:
    """What the TypeScript compiler says, with the name of the kind before it."""
    if not documents:
        return
    # TypeScript looks for packages in the folders above a source.
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        for number, document in enumerate(documents):
            kind = document["kind"]
            module = f"@kubernetes-models/prometheus-operator/{OPERATOR}/{kind}"
            (Path(folder) / f"{kind}{number}.ts").write_text(
                f'import type {{ I{kind} }} from "{module}";\n'
                f"export const it: I{kind} = {json.dumps(document, indent=1)};\n"
            )
        command = [
            *(str(TOOLS / "node_modules" / ".bin" / "tsc"), "--noEmit", "--strict"),
            *("--skipLibCheck", "--target", "es2022", "--module", "esnext"),
            *("--moduleResolution", "bundler"),
        ]
        sources = sorted(path.name for path in Path(folder).iterdir())
        said = subprocess.run(
            [*command, *sources], cwd=folder, capture_output=True, text=True, check=False
        )
    lines = re.findall(r"^(\w+?)\d+\.ts\S* error (.*)$", said.stdout, re.MULTILINE)
    yield from (f"{kind}: {error}" for kind, error in lines)
    if said.returncode and not lines:
        raise RuntimeError(said.stdout + said.stderr)


def model_mistakes(value: Any, kind: str, path: str) -> Iterator[str]:
    """Walks a value along the types of a generated model."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{path}: not a list: {value!r}"
            return
        for index, each in enumerate(value):
            yield from model_mistakes(each, inner[1], f"{path}[{index}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            yield f"{path}: not a map: {value!r}"
            return
        for key, each in value.items():
            yield from model_mistakes(each, inner[1], f"{path}.{key}")
    elif kind in SCALARS:
        if type(value) is not SCALARS[kind]:
            yield f"{path}: not of type {kind}: {value!r}"
    elif kind not in ("object", "datetime", "ResourceQuantity", "IntOrString"):
        fields, required = model_fields(kind)
        if not isinstance(value, dict):
            yield f"{path}: not a {kind}: {value!r}"
            return
        for name in sorted(required - set(value)):
            yield f"{path}: without {name}"
        for name, each in value.items():
            if name not in fields:
                yield f"{path}: unknown field {name}"
            else:
                yield from model_mistakes(each, fields[name], f"{path}.{name}")


@cache
def model_fields(model: str) -> tuple[dict[str, str], set[str]]:
    """JSON name -> type, and the names that must be there; read, because importing loads it all."""
    if model in RAY_FIELDS:
        return RAY_FIELDS[model]
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model).lower()
    files = [
        TOOLS / "python" / "kserve" / "models" / f"{name}.py",
        TOOLS / "python" / "kubernetes" / "client" / "models" / f"{name}.py",
    ]
    source = next((path for path in files if path.exists()), None)
    if source is None:
        raise FileNotFoundError(f"no model {model}: {', '.join(map(str, files))}")
    text = source.read_text()
    types, names = (ast.literal_eval(found[1]) for found in GENERATED.findall(text))
    required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", text)
    return (
        {names[attribute]: kind for attribute, kind in types.items()},
        {names[attribute] for attribute in required},
    )


if __name__ == "__main__":
    wrong = mistakes([each for each in yaml.safe_load_all(sys.stdin) if each])
    for line in wrong:
        sys.stderr.write(line + "\n")
    sys.exit(1 if wrong else 0)
