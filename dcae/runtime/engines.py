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
    import torch

    from dcae.models.modelfile import load_model
    from dcae.networks.base import check_device
    from dcae.runtime.torch_engine import TorchEngine

    check_device(device)
    if isinstance(model, str | Path):
        with torch.device("cpu"):  # whatever the default device is; the network is moved when it is whole
            model = load_model(find_model(model).path, device)
    return TorchEngine(model, device)
