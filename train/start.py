"""Where a run starts: at nothing, at the checkpoint in its folder, or where a decay branches off another run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dcae.errors import OptionError
from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint
from dcae.train.families import family_of
from dcae.train.schedule import branched_state, new_state, progress
from dcae.train.settings import Settings

_LEAST = 0.01
"""Share of the learning rate that a decay must begin with; a cosine's end has 0.02 unless told otherwise."""


def open_run(config: Settings, out: Path, resume: bool) -> dict[str, Any] | None:
    """Checkpoint that a run with these settings in this folder starts from, or None for a new one.

    Raises:
        OptionError: a folder that cannot be written into, one that holds a run although `resume` is not set or of
            other settings, or a decay from a checkpoint without optimiser state.
        ModelFileError: a damaged checkpoint, or none to branch off.
    """
    _make_folder(out)
    checkpoint = out / CHECKPOINT
    if not checkpoint.exists():
        return _branch(config) if config.decay else None
    if not resume:
        raise OptionError(f"{out} holds a run already; continue it with --resume auto, or choose another folder")
    saved = load_checkpoint(checkpoint)
    check_same_run(checkpoint, saved, config, config.fixed)
    state = saved["state"]
    if (out / BEST).exists():  # a kill may have come between writing the two
        best = load_checkpoint(out / BEST)["state"]
        if best.get("measure") == state["measure"]:
            state["best"] = min(state["best"], best["best"])
    return saved


def stored_settings(out: Path, resume: bool, decay: str | None) -> dict[str, Any]:
    """Settings that hold where none are given: of the run that is continued or branched off, else none.

    Raises:
        ModelFileError: a damaged checkpoint, or none to branch off.
    """
    if resume and (out / CHECKPOINT).exists():
        return dict(load_checkpoint(out / CHECKPOINT)["train"])
    if not decay:
        return {}
    path = _to_branch_off(decay)
    saved = load_checkpoint(path)
    config = _settings(path, saved)
    patch, batch = config.phase(progress(config, saved["state"]))
    values = config.to_dict() | {"patch": patch, "batch": batch}
    return {k: v for k, v in values.items() if k not in ("steps", "minutes")}


def check_same_run(path: Path, saved: dict[str, Any], config: Settings, names: tuple[str, ...]) -> None:
    """Refuse to go on with a checkpoint, read from `path`, of a run of other settings of these names.

    Raises:
        OptionError: it is.
    """
    asked, stored = config.to_dict(), _settings(path, saved).to_dict()
    names = ("task", *names) if asked["task"] == stored["task"] else ("task",)
    if changed := [name for name in names if stored[name] != asked[name]]:
        raise OptionError(
            f"{path} is of a run with other settings ({', '.join(changed)}); give the same, or choose another folder"
        )


def _branch(config: Settings) -> dict[str, Any]:
    path = _to_branch_off(config.decay)
    saved = load_checkpoint(path)
    check_same_run(path, saved, config, tuple(set(config.fixed) - {"decay"}))
    if not saved["optimizers"]:
        raise OptionError(f"{path}: no optimiser state to go on with; branch off the run's folder or its {CHECKPOINT}")
    state = branched_state(_settings(path, saved), saved["state"])
    if state["start"]["factor"] < _LEAST:
        raise OptionError(
            f"{path}: the learning rate of this run has fallen to {state['start']['factor']:.1%} already, nothing is "
            "left to decay from; start anew from its weights with --init"
        )
    return saved | {"state": state}


def _to_branch_off(source: str) -> Path:
    return Path(source) / CHECKPOINT if Path(source).is_dir() else Path(source)


def _settings(path: Path, saved: dict[str, Any]) -> Settings:
    """The settings in a checkpoint; its state gets the fields that older versions did not write."""
    saved["state"] = new_state() | saved["state"]
    return family_of(saved["train"]).settings_type().from_dict(saved["train"], str(path))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"{folder}: not a folder that can be written into ({error.strerror or error})") from error
