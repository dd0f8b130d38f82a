"""Choice of the engine that runs a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dcae.errors import MissingDependencyError, OptionError
from dcae.models.installed import find_model
from dcae.networks.registry import preset_of
from dcae.runtime.protocol import Engine

if TYPE_CHECKING:
    from dcae.models.modelfile import CodingModel

ENGINES = ("auto", "torch", "onnx")
"""Names of the engines; `auto` is torch where it is installed, else ONNX Runtime."""


def open_engine(model: str | Path | CodingModel, device: str = "cpu", engine: str = "auto") -> Engine:
    """An engine with a model loaded.

    Args:
        model: name of an installed model, path of a model file, or a model already loaded on `device`, which only
            torch runs.
        device: torch device of the networks; ONNX Runtime runs on the "cpu" alone.
        engine: one of :data:`ENGINES`.

    Raises:
        ModelNotFoundError, ModelFileError: no such model, or a damaged one.
        OptionError: an engine or a device that is not there, or that does not run this model.
        MissingDependencyError: the engine's library is not installed.
    """
    if engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r:.60}; known: {', '.join(ENGINES)}")
    stored = isinstance(model, str | Path)
    if engine == "auto":
        engine = "torch" if not stored or _installed("torch") else "onnx"
    if engine == "torch":
        return _torch_engine(model, device)
    if not isinstance(model, str | Path):
        raise OptionError("a model that is loaded already is run by torch; give ONNX Runtime its file")
    return _onnx_engine(model, device)


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def _torch_engine(model: str | Path | CodingModel, device: str) -> Engine:
    if not _installed("torch"):
        raise MissingDependencyError("the engine torch needs torch, which is not installed: pip install torch")
    import torch

    from dcae.models.modelfile import load_model
    from dcae.networks.base import check_device
    from dcae.runtime.torch_engine import TorchEngine

    check_device(device)
    if isinstance(model, str | Path):
        with torch.device("cpu"):  # whatever the default device is; the network is moved when it is whole
            model = load_model(find_model(model).path, device)
    return TorchEngine(model, device)


def _onnx_engine(model: str | Path, device: str) -> Engine:
    header = find_model(model)
    if not preset_of(header.config).graphs:
        need = "use that engine" if _installed("torch") else "which is not installed: pip install torch"
        raise OptionError(f"{header.path}: models of {header.config.preset} are run by torch alone; {need}")
    if device != "cpu":
        raise OptionError(f"the engine onnx runs on the cpu, not on device {device!r:.60}; other devices need torch")
    if missing := [name for name in ("onnxruntime", "onnx") if not _installed(name)]:
        names = " and ".join(missing)
        raise MissingDependencyError(
            f"the engine onnx needs {names}, not installed here: pip install {' '.join(missing)}"
        )
    from dcae.runtime.onnx.engine import OnnxEngine

    return OnnxEngine(header.path)
