"""Choice of the engine that runs a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcae.models.installed import find_model
from dcae.runtime.protocol import Engine

if TYPE_CHECKING:
    from dcae.models.modelfile import CodingModel


def open_engine(model: str | Path | CodingModel, device: str = "cpu") -> Engine:
    """An engine with a model loaded.

    Args:
        model: name of an installed model, path of a model file, or a model already loaded on `device`.
        device: torch device of the networks.

    Raises:
        ModelNotFoundError, ModelFileError: no such model, or a damaged one.
        OptionError: a device that is not there.
    """
    from dcae.models.modelfile import load_model
    from dcae.networks.base import check_device  # torch, which only running a model needs
    from dcae.runtime.torch_engine import TorchEngine

    check_device(device)
    loaded = load_model(find_model(model).path, device) if isinstance(model, str | Path) else model
    return TorchEngine(loaded, device)
