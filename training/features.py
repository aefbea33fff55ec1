"""Features of a network that is not trained, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from isoserve.models.card import INPUT_NAME
from isoserve.models.cpu_quota import usable_cores
from isoserve.training.atomic import atomic_path
from isoserve.training.onnx_model.export import to_onnx

BATCH = 32

Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 [N, H, W, 3] -> float32 [N, D]."""


class PixelsToFeatures(nn.Module):
    """uint8 images [N, H, W, 3] -> features float32 [N, D]: normalisation and backbone."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(
            (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        )
        return features


def extractor(fabric: Fabric, network: PixelsToFeatures, side: tuple[int, int]) -> Extract:
    """Runs the network on the fabric's accelerator, or on the CPU through ONNX Runtime.

    There it is three times as fast as torch, and the very arithmetic that will serve.
    """
    network = network.eval()
    if fabric.device.type != "cpu":
        network = network.to(fabric.device)

        @torch.no_grad()
        def on_accelerator(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = (
                network(torch.from_numpy(pixels).to(fabric.device)).cpu().numpy()
            )
            return found

        return on_accelerator
    graph = to_onnx(network, torch.zeros(2, *side, 3, dtype=torch.uint8), ["features"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def on_cpu(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["features"], {INPUT_NAME: pixels})[0]
        return found

    return on_cpu


def network_digest(network: nn.Module) -> str:
    """SHA-256 over the names and values of a network's weights."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class FeatureStore:
    """Float16 features of a set of images, ``[N, D]`` a part, in one folder.

    float16 rounds to a twentieth of a percent, and halves what is kept. What the features depend
    on is in the files' names, so that those of other images or weights are never taken for them.
    """

    def __init__(self, folder: Path, key: dict[str, object]) -> None:
        self.folder = folder
        self._key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]

    def part(
        self,
        name: str,
        shape: tuple[int, int],
        batches: Callable[[], Iterator[NDArray[np.float32]]],
    ) -> NDArray[np.float16]:
        """Read a part, or compute it batch by batch and keep it."""
        path = self.folder / f"{self._key}-{name}.npy"
        if not path.is_file():
            with atomic_path(path) as temporary:
                array = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
                place = 0
                for found in batches():
                    array[place : place + len(found)] = found
                    place += len(found)
                array.flush()
                del array
        kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return kept
