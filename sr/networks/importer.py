"""Import of published checkpoints, whose architecture is read from the shapes of their tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.errors import ModelFileError, OptionError
from dcae.models.empty import empty_network
from dcae.networks.registry import any_config
from dcae.sr.networks.base import SRNetwork

_KEYS = ("params_ema", "params", "ema_state_dict", "state_dict")
"""Where checkpoints have the weights, the averaged ones first; without any, they are the file."""
_RECOMPUTED = ("relative_position_index", "attn_mask", "mean")
"""Last parts of names of tensors that follow from the architecture."""


def import_upscaler(path: Path, img_range: float = 1.0) -> SRNetwork:
    """The network of a published checkpoint of DRCT, or of SRGAN's generator.

    Args:
        path: a file of `torch.save`: a state dict, or a dict with one under a usual name.
        img_range: of DRCT, the one thing that no tensor tells; 1 in all that are published.

    Raises:
        ModelFileError: unreadable, or of another network.
    """
    weights = _weights(path)
    try:
        kept = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in _RECOMPUTED}
        if "conv_first.weight" in weights and any(".swin1." in name for name in weights):
            fields = _drct_fields(weights) | {"img_range": img_range}
        elif "trunk.0.rcb.0.weight" in weights:
            fields = _srresnet_fields(weights)
        else:
            raise ModelFileError("weights of a network that is neither DRCT nor SRGAN's generator")
        numbers = sum(value.numel() for value in weights.values())
        network: Any = empty_network(any_config(fields, "sr"), numbers)
        if odd := kept.keys() ^ network.state_dict().keys():
            preset = fields["preset"]
            raise ModelFileError(f"{len(odd)} tensors too many or too few for {preset}, among them {min(odd)}")
        network.load_state_dict(kept)
    except (ModelFileError, OptionError, LookupError, ArithmeticError, ValueError, RuntimeError, TypeError) as error:
        raise ModelFileError(f"{path}: cannot be imported ({str(error).splitlines()[-1].strip()})") from error
    eval_network: SRNetwork = network.eval()
    return eval_network


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file") from error
    except Exception as error:  # a damaged pickle can make the unpickler raise almost anything
        raise ModelFileError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error
    if isinstance(saved, dict):
        saved = next((saved[key] for key in _KEYS if isinstance(saved.get(key), dict)), saved)
    if not isinstance(saved, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in saved.items()
    ):
        raise ModelFileError(f"{path}: not a checkpoint, no tensors by name in it")
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in saved.values()}
    # Views of the same numbers, a few of which are usual, could be any number of tensors of any size.
    if sum(value.numel() * value.element_size() for value in saved.values()) > 2 * sum(storages.values()):
        raise ModelFileError(f"{path}: tensors with more numbers than are in the file")
    return {name.removeprefix("module."): value.float() if value.is_floating_point() else value
            for name, value in saved.items()}  # fmt: skip


def _count(pattern: str, names: dict[str, Tensor]) -> int:
    """Highest number that the pattern finds in the names, plus one."""
    return 1 + max(int(found[1]) for found in (re.match(pattern, name) for name in names) if found)


def _drct_fields(weights: dict[str, Tensor]) -> dict[str, Any]:
    width, colours = weights["conv_first.weight"].shape[:2]
    table = weights["layers.0.swin1.attn.relative_position_bias_table"]
    hidden = weights["layers.0.swin1.mlp.fc1.weight"].shape[0]
    shuffles = sorted(len(v) for name, v in weights.items() if re.fullmatch(r"upsample\.\d+\.weight", name))
    buffers = any(name.endswith("relative_position_index") for name in weights)
    masks = any(name.endswith("attn_mask") for name in weights)
    groups = _count(r"layers\.(\d+)\.", weights)
    return {
        "preset": "drct-l" if groups == 12 else "drct",
        "scale": 3 if shuffles == [576] else 2 ** len(shuffles),
        "colours": colours,
        "width": width,
        "growth": weights["layers.0.adjust1.weight"].shape[0],
        "groups": groups,
        "heads": table.shape[1],
        "window": (round(len(table) ** 0.5) + 1) // 2,
        "mlp_ratio": hidden / width,
        # Of a network without shifts, buffers are there but no masks; without any buffers it is the usual one.
        "shifted": masks or not buffers,
        "last_convolution": "conv_after_body.weight" in weights,
    }


def _srresnet_fields(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "preset": "srresnet",
        "scale": 2 ** min(_count(r"upsampling\.(\d+)\.", weights), 8),  # names may have any number
        "channels": weights["conv1.0.weight"].shape[0],
        "blocks": _count(r"trunk\.(\d+)\.", weights),
    }
