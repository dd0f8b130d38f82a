"""Checkpoints made small enough to travel, and made whole again."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.pieces import KitError

_SMALL = 4096
"""Tensors of fewer numbers stay in float32: gains, biases and steps weigh little and matter much."""
STATES = ("weights", "moments", "full")
"""What travels of a run: its averaged weights; its state with weights in float16 and moments in bfloat16; all as is."""


def _halved(values: dict[str, Any], kind: torch.dtype) -> dict[str, Any]:
    return {
        k: v.to(kind) if isinstance(v, Tensor) and v.is_floating_point() and v.numel() >= _SMALL else v
        for k, v in values.items()
    }


def _in_float32(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in values.items()}


def _moments(optimizers: list[dict[str, Any]], change: Any) -> list[dict[str, Any]]:
    return [o | {"state": {k: change(v) for k, v in o["state"].items()}} for o in optimizers]


def packed(checkpoint: Path, state: str) -> tuple[bytes, int]:
    """A checkpoint of `dcae train` as one of :data:`STATES`, and its step.

    Raises:
        KitError: no checkpoint, or one without what is asked for.
    """
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        step = int(saved["state"]["step"])
    except Exception as error:  # a damaged pickle can make the unpickler raise almost anything
        raise KitError(f"{checkpoint}: not a checkpoint of dcae train ({type(error).__name__})") from error
    if state != "weights" and not saved["optimizers"]:
        raise KitError(f"{checkpoint}: no optimiser state; take a run's checkpoint.pt, or --state weights")
    if state == "weights":
        saved |= {"network": {}, "optimizers": [], "average": _halved(saved["average"], torch.float16)}
    elif state == "moments":
        saved |= {name: _halved(saved[name], torch.float16) for name in ("network", "average")}
        saved["optimizers"] = _moments(saved["optimizers"], lambda v: _halved(v, torch.bfloat16))
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getvalue(), step


def from_model(model: str) -> bytes:
    """An installed model, or a model file, as a checkpoint with "weights"."""
    from dcae.errors import DCAEError
    from dcae.train.init import load_weights

    try:
        config, weights = load_weights(model)
    except DCAEError as error:
        raise KitError(str(error)) from error
    state = {"step": 0, "seconds": 0.0, "patches": 0, "skipped": 0, "log": []}
    content = {"config": config.to_dict(), "train": {}, "state": state, "network": {}, "optimizers": []}
    buffer = io.BytesIO()
    torch.save(content | {"average": _halved(weights, torch.float16), "date": date.today().isoformat()}, buffer)
    return buffer.getvalue()


def restored(data: bytes) -> bytes:
    """The checkpoint with all its numbers in float32."""
    saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    saved |= {name: _in_float32(saved[name]) for name in ("network", "average")}
    saved["optimizers"] = _moments(saved["optimizers"], _in_float32)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getvalue()
