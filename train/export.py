"""From a training checkpoint to a model file."""

from __future__ import annotations

import pickle
import platform
from pathlib import Path
from typing import Any

import torch

from dcae.config import config_from_dict
from dcae.errors import ModelFileError
from dcae.export import export_model
from dcae.modelfile import ModelHeader
from dcae.presets import build_model


def export_checkpoint(checkpoint: Path, path: Path, record: dict[str, Any]) -> ModelHeader:
    """Write the averaged weights of a checkpoint as a model file.

    Args:
        record: joined to what the checkpoint knows of its training (steps, patches, minutes, log, settings).

    Raises:
        ModelFileError: no checkpoint of ours.
    """
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        config = config_from_dict(saved["config"])
        network = build_model(config)
        network.load_state_dict(saved["average"])
    except FileNotFoundError as error:
        raise ModelFileError(f"{checkpoint}: no such checkpoint") from error
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{checkpoint}: not a checkpoint of dcae train ({str(error).splitlines()[0]})") from error
    state = saved["state"]
    facts = {
        "date": saved["date"],
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "steps": state["step"],
        "patches": state["patches"],
        "minutes": round(state["seconds"] / 60, 1),
        "skipped_steps": state["skipped"],
        "settings": saved["train"],
        "log": state["log"],
    }
    return export_model(network.eval(), path, facts | record)
