"""Export of a training checkpoint to a model file."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from torch import Tensor

from dcae.errors import ModelFileError, OptionError
from dcae.models.export import export_model
from dcae.models.header import AnyHeader
from dcae.models.installed import find_model
from dcae.models.modelfile import write_tensors
from dcae.models.stored import read_tensors
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.checkpoint import best_checkpoint, load_checkpoint
from dcae.train.config import TrainConfig
from dcae.train.data import read_split
from dcae.train.families import FAMILIES, family_of
from dcae.train.fitting import fit_tables
from dcae.train.init import is_run
from dcae.train.looks import SYNTHESIS

log = logging.getLogger(__name__)


def export_checkpoint(
    run: Path, path: Path, record: dict[str, Any], force: bool = True, settings: dict[str, Any] | None = None
) -> AnyHeader:
    """Write the averaged weights of a run's best validation (or of one checkpoint) as a model file.

    Args:
        run: folder of a run, or a checkpoint.
        record: joined to what the checkpoint knows of its training (steps, patches, minutes, log, settings).
        force: overwrite a file of that name.
        settings: of a codec's run that are to be others than the checkpoint's.

    Raises:
        ModelFileError: no checkpoint of ours.
        OptionError: the model file exists, and `force` is not set; or `settings` of what has no tables of its own.
    """
    checkpoint = best_checkpoint(run)
    saved = load_checkpoint(checkpoint)
    if settings and family_of(saved["train"]) is not FAMILIES["codec"]:
        raise OptionError(f"{checkpoint} is no codec's; leave out what is said of pictures and tables")
    if settings and _keeps_tables(TrainConfig.from_dict(saved["train"])):
        raise OptionError(
            f"{checkpoint} was trained for looks and keeps the tables of {saved['train']['init']}; leave out what is "
            "said of pictures and tables"
        )
    saved["train"] |= settings or {}
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


def _keeps_tables(settings: TrainConfig) -> bool:
    """Whether all but the synthesis stays that of the model that training began with."""
    return settings.for_looks and not is_run(settings.init)


def export_codec(
    config: dict[str, Any], weights: dict[str, Tensor], path: Path, record: dict[str, Any], force: bool
) -> AnyHeader:
    """Write a codec's model file; arguments as :class:`dcae.train.families.Family` says.

    Its tables are fitted to training pictures, where these are at hand.

    Raises:
        RuntimeError: weights that do not fit.
        ModelNotFoundError, ModelFileError: trained for looks, and the model that it began with is not there.
    """
    settings = TrainConfig.from_dict(record["settings"])
    if _keeps_tables(settings):
        return _with_synthesis(find_model(settings.init).path, config, weights, path, record, force)
    try:
        network = build_model(config_from_dict(config))
    except OptionError as error:
        raise RuntimeError(str(error)) from error
    network.load_state_dict(weights)
    folder = Path(settings.data)
    there = settings.data and folder.is_dir()
    if settings.table_pictures and not there:
        log.warning(
            "%s: tables as they were trained, which take a percent more bytes: there are no pictures in %s; "
            "dcae export --pictures DIR fits them", path, settings.data or "the run's settings",
        )  # fmt: skip
    if not settings.table_pictures or not there:
        return export_model(network.eval(), path, record, force=force)
    with tempfile.TemporaryDirectory() as drafts:
        draft = Path(drafts) / "draft.safetensors"
        export_model(network.eval(), draft, record)
        return fit_tables(draft, _chosen(folder, settings.table_pictures), path, force)


def _chosen(folder: Path, count: int) -> list[np.ndarray]:
    """So many training pictures, from all over the folder."""
    pictures = read_split(folder, 64)[0]
    places = np.linspace(0, len(pictures) - 1, min(count, len(pictures)))
    log.info("fitting the tables to %d training pictures", len(places))
    return [pictures[int(place)].pixels for place in places]


def _with_synthesis(
    base: Path, config: dict[str, Any], weights: dict[str, Tensor], path: Path, record: dict[str, Any], force: bool
) -> AnyHeader:
    """Write the model file `base` anew with another synthesis: the integers of an entropy model are made of weights
    that are rounded afterwards, so that made again they would not be quite the same."""
    header, _ = read_tensors(base)  # verifies the file, and leaves out what only training needs
    tensors = load_file(base)
    stored = {f"network.{name}": value for name, value in weights.items()}
    own = {name: value.numpy() for name, value in stored.items() if name.startswith(f"network.{SYNTHESIS}")}
    if bad := [name for name, value in own.items() if not np.isfinite(value).all()]:
        raise ModelFileError(f"weights that are not finite: {', '.join(bad[:3])}")
    others = [name for name in tensors if name in stored and name not in own]
    same = all(np.array_equal(tensors[name].astype(np.float32), stored[name].numpy()) for name in others)
    if not same or header.config != config_from_dict(config):
        raise RuntimeError(f"{base} is not the model that training began with")
    synthesis = {name: value.astype(tensors[name].dtype) for name, value in own.items()}
    return write_tensors(path, header.config, tensors | synthesis, record, force)
