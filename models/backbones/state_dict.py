"""A file of weights -> a network: safetensors, or a ``.pth`` that holds tensors and no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isoserve.models.backbones.backbone import Backbone

_WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
"""Under what training programs keep the weights beside an optimiser's state."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.")
"""What DataParallel, torch.compile and modules around a network put before its names."""

_HEADS = ("head.", "fc.", "_fc.", "classifier.", "linear.")
"""How classifiers call their last layer: this program's own, and those that people build around a
network of this program's."""

_SHOWN = 4


def load_weights(backbone: Backbone, path: Path) -> None:
    """Load a file into the backbone; weights of a classifier are passed over.

    Raises:
        ValueError: the file cannot be read, or names or shapes do not fit; the first are named.
    """
    found = _without_prefixes(_read(path), backbone.network)
    heads = (*backbone.head_keys, *_HEADS)
    wanted = backbone.network.state_dict()
    given = {
        name: value for name, value in found.items() if name in wanted or not name.startswith(heads)
    }
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    problems = {
        "missing": [name for name in wanted if name not in given and name not in counters],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name} {list(value.shape)}, not {list(wanted[name].shape)}"
            for name, value in given.items()
            if name in wanted and value.shape != wanted[name].shape
        ],
    }
    differences = [f"{_first(names)} {what}" for what, names in problems.items() if names]
    if differences:
        raise ValueError(f"{path} does not fit this network: {'; '.join(differences)}")
    backbone.network.load_state_dict(wanted | given)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"no file {path}; give a .safetensors or .pth file, default or none")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise ValueError(f"{path} needs safetensors: pip install safetensors") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # of foreign bytes the readers raise almost anything
        raise ValueError(
            f"{path} is not a file of weights alone: it must be .safetensors, or a state dict "
            "that torch.load reads with weights_only=True"
        ) from error
    while isinstance(content, Mapping) and not any(isinstance(v, Tensor) for v in content.values()):
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if inner is None:
            break
        content = inner
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path} holds no weights by name: it must be a state dict")
    return tensors


def _without_prefixes(found: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Names as the network has them: a prefix goes when no name fits with it."""
    wanted = network.state_dict().keys()
    while not wanted & found.keys():
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
