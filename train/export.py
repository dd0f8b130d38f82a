"""Export of a training checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcae.errors import ModelFileError, OptionError
from dcae.models.export import export_model
from dcae.models.header import ModelHeader
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.checkpoint import best_checkpoint, load_checkpoint


def export_checkpoint(run: Path, path: Path, record: dict[str, Any], force: bool = True) -> ModelHeader:
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
    try:
        network = build_model(config_from_dict(saved["config"]))
        network.load_state_dict(saved["average"])
    except (RuntimeError, OptionError) as error:
        raise ModelFileError(f"{checkpoint}: weights that do not fit ({str(error).splitlines()[0]})") from error
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
    return export_model(network.eval(), path, facts | record, force=force)
