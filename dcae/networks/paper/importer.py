"""Reads the authors' checkpoints (`.pth.tar`) of the published network into :class:`PaperDCAE`.

They are pickles from elsewhere: only `torch.load(weights_only=True)` touches them, and everything that does not fit
is a :class:`ModelFileError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.errors import ModelFileError
from dcae.networks.paper.config import PaperConfig
from dcae.networks.paper.wiring import PaperDCAE

_OLD_KEY = re.compile(r"(entropy_bottleneck\.)_(matrix|bias|factor)(\d+)")
_NEW_NAMES = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
_NOT_WEIGHTS = re.compile(
    r"(.*\.)?(_offset|_quantized_cdf|_cdf_length|target|bound|scale_bound|scale_table"
    r"|(attn_|attention_)?mask|relative_position_index|total_ops|total_params)"
)
"""Buffers that follow from the architecture or from CompressAI's `update()`, and counters that profilers leave."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, float32 on the CPU, under the names that `PaperDCAE` uses.

    Args:
        path: a file with `{"state_dict": ...}` or a bare state dict; `module.` prefixes and the key names of older
            CompressAI versions are understood.

    Returns:
        One tensor per parameter of the network with its entropy models, and nothing else.

    Raises:
        ModelFileError: the file cannot be read, is no checkpoint, or is one of another network.
        MissingDependencyError: compressai is not installed.
    """
    return _read(Path(path), _skeleton(PaperConfig()))


def import_checkpoint(path: str | Path, lambda_: float = 0.013) -> PaperDCAE:
    """The network of a checkpoint with its entropy models, in eval mode; raises what :func:`read_checkpoint` does.

    Args:
        lambda_: what it was trained for; checkpoints do not say, and coding does not depend on it.
    """
    network = _skeleton(PaperConfig(lambdas=(lambda_,)))
    network.load_state_dict(_read(Path(path), network), strict=False, assign=True)
    return network.eval()


def _skeleton(config: PaperConfig) -> PaperDCAE:
    """A network with entropy models, whose own parameters have shapes but no memory yet."""
    with torch.device("meta"):
        network = PaperDCAE(config)
    network.add_entropy_models()
    return network


def _read(path: Path, network: PaperDCAE) -> dict[str, Tensor]:
    expected = {name: parameter.shape for name, parameter in network.named_parameters()}
    found: dict[str, Tensor] = {}
    for key, value in _state_dict(path).items():
        name = _current_name(key)
        if not _NOT_WEIGHTS.fullmatch(name):
            found[name] = value

    _refuse(path, "lacks", [name for name in expected if name not in found])
    _refuse(path, "has unknown keys", [name for name in found if name not in expected])
    wrong = [
        f"{name} {_describe(found[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if not _is_weight(found[name]) or found[name].shape != shape
    ]
    _refuse(path, "has wrong shapes", wrong)
    return {name: found[name].detach().to(torch.float32).contiguous() for name in expected}


def _state_dict(path: Path) -> dict[str, Any]:
    """The state dict in a file, its keys checked to be strings and nothing else."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # a damaged pickle can make the unpickler raise almost anything
        raise ModelFileError(f"{path} is damaged or no PyTorch checkpoint ({type(error).__name__})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise ModelFileError(f"{path} holds no state dict")
    return content


def _current_name(key: str) -> str:
    """A key without `module.` prefixes, renamed if it comes from an older CompressAI."""
    while key.startswith("module."):
        key = key.removeprefix("module.")
    if match := _OLD_KEY.fullmatch(key):
        key = f"{match[1]}{_NEW_NAMES[match[2]]}.{match[3]}"
    return key


def _is_weight(value: Any) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _describe(value: Any) -> str:
    return str(tuple(value.shape)) if _is_weight(value) else f"({type(value).__name__}, not a float tensor)"


def _refuse(path: Path, problem: str, offenders: Iterable[str]) -> None:
    """Raise if there are offenders, naming the first few."""
    names = [name if len(name) <= 120 else name[:117] + "..." for name in offenders]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = ", ".join(repr(name)[1:-1] for name in names[:3])  # repr: a hostile key must not break the line
        raise ModelFileError(f"{path} is no checkpoint of the published network: {problem}: {listed}{more}")
