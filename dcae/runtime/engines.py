"""Choice of the engine that runs a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcae.errors import MissingDependencyError, OptionError
from dcae.extras import installed, require
from dcae.models.header import ModelHeader
from dcae.models.installed import find_model
from dcae.networks.registry import preset_of

if TYPE_CHECKING:
    from dcae.models.modelfile import CodingModel
    from dcae.runtime.protocol import Engine

ENGINES = ("auto", "torch", "onnx")
"""Names of the engines; `auto` is ONNX Runtime for models that have graphs, on the CPU, else torch."""


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
    check_engine(engine, device)
    if not isinstance(model, str | Path):
        if not hasattr(model, "network"):
            raise OptionError(f"a model is a name, a path or one that is loaded already, got {type(model).__name__}")
        if engine == "onnx":
            raise OptionError("a model that is loaded already is run by torch; give ONNX Runtime its file")
        return _torch_engine(model, device)
    header = find_model(model)
    graphs = bool(preset_of(header.config).graphs)
    if engine == "torch" or (engine == "auto" and not (graphs and device == "cpu" and installed("onnxruntime"))):
        return _torch_engine(header, device)
    if not graphs:
        raise OptionError(f"{header.path}: models of {header.config.preset} are run by torch alone; use that engine")
    if device != "cpu":
        raise OptionError(f"the engine onnx runs on the cpu, not on device {device!r:.60}; other devices need torch")
    return _onnx_engine(header)


def check_engine(engine: str, device: str) -> None:
    """Refuse an engine of no known name, and a device without one; whether they are there is seen when one is opened.

    Raises:
        OptionError: they are.
    """
    if not isinstance(engine, str) or engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r:.60}; known: {', '.join(ENGINES)}")
    if not isinstance(device, str):
        raise OptionError(f"a device is a name like cpu or cuda:0, got {type(device).__name__}")


def _torch_engine(model: ModelHeader | CodingModel, device: str) -> Engine:
    if isinstance(model, ModelHeader):
        what = "the engine torch" if preset_of(model.config).graphs and device == "cpu" else "this model or device"
        require(f"{what} needs", "torch", "torch")
    import torch

    from dcae.models.modelfile import load_model
    from dcae.networks.base import check_device
    from dcae.runtime.torch_engine import TorchEngine

    check_device(device)
    if isinstance(model, ModelHeader):
        with torch.device("cpu"):  # whatever the default device is; the network is moved when it is whole
            model = load_model(model.path, device)
    return TorchEngine(model, device)


def _onnx_engine(header: ModelHeader) -> Engine:
    if not installed("onnxruntime"):
        raise MissingDependencyError("the engine onnx needs onnxruntime, which is not installed", "pip install dcae")
    from dcae.runtime.onnx.engine import OnnxEngine

    return OnnxEngine(header.path)
