"""Triton: the server binary of the nvidia-pytriton wheel with an instance a core of its Python
backend (the wheel holds no other), dynamic batching without delay.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

CONFIG = """
backend: "python"
max_batch_size: 32
input [{{ name: "IMAGE" data_type: TYPE_UINT8 dims: [-1] }}]
output [{{ name: "VERDICT" data_type: TYPE_UINT8 dims: [-1] }}]
instance_group [{{ count: {cores} kind: KIND_CPU }}]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""


def main() -> None:
    found = find_spec("pytriton")
    assert found is not None
    assert found.origin is not None
    server = Path(found.origin).parent / "tritonserver"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as folder:
        backend = Path(folder) / "backends" / "python"
        shutil.copytree(server / "backends" / "python", backend)
        stub = server / "python_backend_stubs" / python / "triton_python_backend_stub"
        shutil.copy(stub, backend)
        model = Path(folder) / "models" / "verdict"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(CONFIG.format(cores=os.environ["CORES"]))
        shutil.copy(Path(__file__).with_name("triton_model.py"), model / "1" / "model.py")
        libraries = [
            str(server.parents[1] / "nvidia_pytriton.libs"),
            str(sysconfig.get_config_var("LIBDIR")),
            os.environ.get("LD_LIBRARY_PATH", ""),
        ]
        subprocess.run(
            [
                server / "bin" / "tritonserver",
                *("--model-repository", model.parent, "--backend-directory", backend.parent),
                *("--http-port", os.environ["PORT"], "--allow-grpc", "false"),
                *("--allow-metrics", "false", "--log-error", "true"),
            ],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": ":".join(libraries),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            },
            check=True,
        )


if __name__ == "__main__":
    main()
