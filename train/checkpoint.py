"""Checkpoints: one `torch.save` file, replaced atomically, read with `weights_only`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import torch

from dcae.errors import DCAEError, ModelFileError
from dcae.files import replacing

CHECKPOINT = "checkpoint.pt"
"""Everything that continuing needs."""
BEST = "best.pt"
"""The averaged weights of the best validation, which export prefers; no optimisers."""
_KEYS = {"config", "train", "network", "average", "optimizers", "state", "date"}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; an older one is replaced once the new one is whole.

    Raises:
        DCAEError: it cannot be written (disk full, folder gone); the older one is untouched.
    """
    with replacing(path) as file:
        try:
            torch.save(content | {"date": date.today().isoformat()}, file)
        except RuntimeError as error:  # what torch makes of a failed write
            raise DCAEError(f"{path}: the checkpoint cannot be written ({str(error).splitlines()[0]})") from error


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What :func:`save_checkpoint` wrote.

    Raises:
        ModelFileError: no checkpoint of ours, or a damaged one.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        missing = _KEYS - set(saved)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such checkpoint") from error
    except Exception as error:  # a damaged pickle can make the unpickler raise almost anything
        raise ModelFileError(f"{path}: not a checkpoint of dcae train ({type(error).__name__})") from error
    if missing:
        raise ModelFileError(f"{path}: not a checkpoint of dcae train (no {', '.join(sorted(missing))})")
    return dict(saved)


def best_checkpoint(run: Path) -> Path:
    """The checkpoint to export: of a run's folder the best one, or the path itself.

    Raises:
        ModelFileError: a folder without a checkpoint.
    """
    if not run.is_dir():
        return run
    for name in (BEST, CHECKPOINT):
        if (run / name).exists():
            return run / name
    raise ModelFileError(f"{run}: no checkpoint of dcae train in this folder")
