"""Export of a training checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from dcae.errors import ModelFileError, OptionError
from dcae.models.export import export_model
from dcae.models.header import AnyHeader, ModelHeader
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.checkpoint import best_checkpoint, load_checkpoint
from dcae.train.families import family_of


def export_checkpoint(run: Path, path: Path, record: dict[str, Any], force: bool = True) -> AnyHeader:
    """Write the averaged weights of a run's best validation (or of one checkpoint) as a model file.

    Args:
        run: folder of a run, or a checkpoint.
        record: joined to what the checkpoint knows of its training (steps, patches, minutes, log, settings).
        force: overwrite a file of that name.

    Raises:
        ModelFileError: no checkpoint of ours.
        OptionError: the model file exists, and `force` is not set.
    """
    checkpoint = best_checkpoint(run)
    saved = load_checkpoint(checkpoint)
    state = saved["state"]
    facts = {
        "date": saved["date"],
        "hardware": state.get("hardware", "unknown"),
        "steps": state["step"],
        "patches": state["patches"],
        "minutes": round(state["seconds"] / 60, 1),
        "skipped_steps": state["skipped"],
        "settings": saved["train"],
        "log": state["log"],
    }
    write = family_of(saved["train"]).export_function()
    try:
        header: AnyHeader = write(saved["config"], saved["average"], path, facts | record, force)
    except RuntimeError as error:
        raise ModelFileError(f"{checkpoint}: weights that do not fit ({str(error).splitlines()[0]})") from error
    return header


def export_codec(
    config: dict[str, Any], weights: dict[str, Tensor], path: Path, record: dict[str, Any], force: bool
) -> ModelHeader:
    """Write a codec's model file; arguments as :class:`dcae.train.families.Family` says.

    Raises:
        RuntimeError: weights that do not fit.
    """
    try:
        network = build_model(config_from_dict(config))
    except OptionError as error:
        raise RuntimeError(str(error)) from error
    network.load_state_dict(weights)
    return export_model(network.eval(), path, record, force=force)
