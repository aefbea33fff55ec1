"""What runs the network: ONNX Runtime's execution providers, by the name an operator gives."""

from __future__ import annotations

import onnxruntime as ort

from isoserve.models.errors import InputError
from isoserve.service.inference.execution import Device

PROVIDERS: dict[Device, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""The first does the work; the others take the operators it does not know."""

PACKAGES: dict[Device, str] = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
}


def providers_of(device: Device) -> tuple[str, ...]:
    """The providers to open sessions with.

    Raises:
        InputError: this build of ONNX Runtime does not have them; says what to install.
    """
    wanted = PROVIDERS[device]
    there = ort.get_available_providers()
    if wanted[0] not in there:
        package = PACKAGES[device]
        raise InputError(
            f"--device {device} needs ONNX Runtime's {wanted[0]}, and this onnxruntime "
            f"{ort.__version__} has only {', '.join(there)}: "
            f"pip uninstall -y onnxruntime && pip install {package}"
        )
    return tuple(provider for provider in wanted if provider in there)


def check_in_use(device: Device, session: ort.InferenceSession) -> None:
    """ONNX Runtime goes on with the CPU when a provider's libraries are missing: do not.

    Raises:
        InputError: the session does not run on the device.
    """
    wanted = PROVIDERS[device][0]
    if wanted not in session.get_providers():
        raise InputError(
            f"--device {device}: ONNX Runtime could not start its {wanted}; its libraries "
            f"({_LIBRARIES[device]}) are missing or of another version, or there is no such device"
        )


_LIBRARIES: dict[Device, str] = {
    "cpu": "none",
    "cuda": "CUDA and cuDNN",
    "tensorrt": "TensorRT, CUDA and cuDNN",
}
