"""Which part of ONNX Runtime runs the network."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from tiny_model import tiny_model

from isoserve.models.errors import InputError
from isoserve.service.inference import execution_providers as devices
from isoserve.service.inference import model as engine
from isoserve.service.inference.execution import Device, Execution
from isoserve.service.inference.execution_providers import PROVIDERS, check_in_use, providers_of
from isoserve.service.inference.model import ModelRefused, load_model


def test_the_cpu_is_always_there() -> None:
    assert providers_of("cpu") == ("CPUExecutionProvider",)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_missing_provider_says_what_is_missing_and_what_to_install(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError) as caught:
        providers_of(device)
    assert PROVIDERS[device][0] in str(caught.value)
    assert f"pip install {devices.PACKAGES[device]}" in str(caught.value)


def test_a_provider_that_did_not_start_is_no_silent_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "providers_of", lambda device: ("CPUExecutionProvider",))  # noqa: ARG005
    with pytest.raises(ModelRefused) as caught:
        load_model("m", 1, tiny_model().SerializeToString(), 1, 4, Execution("cuda"))
    assert caught.value.reason == "device"
    assert "cuDNN" in str(caught.value)


def test_a_session_on_its_device_passes() -> None:
    session = ort.InferenceSession(tiny_model().SerializeToString())
    check_in_use("cpu", session)
