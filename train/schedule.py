"""Schedule of a run: how far it is, the learning rate there, and how quickly the averaged weights follow.

A run starts at zero, or where it branched off another one (`Settings.decay`); `state["start"]` says where.
"""

from __future__ import annotations

import math
from typing import Any

from dcae.train.settings import Settings

_AVERAGED = 10
"""Averaged weights reach back over at most the last ninth of a run, whatever `ema` says."""


def new_state() -> dict[str, Any]:
    """State of a run that has not begun."""
    return {
        "step": 0, "seconds": 0.0, "waited": 0.0, "skipped": 0, "patches": 0, "best": math.inf, "measure": "",
        "log": [],
        "start": {"step": 0, "seconds": 0.0, "factor": 1.0},
    }  # fmt: skip


def branched_state(config: Settings, state: dict[str, Any]) -> dict[str, Any]:
    """State of a decay that begins where a run of these settings stands: its counters and log, a start of its own.

    The best score begins anew, since the branch has a folder of its own to keep its best weights in.
    """
    start = {
        "step": state["step"], "seconds": state["seconds"],
        "factor": rate_factor(config, state, progress(config, state)),
    }  # fmt: skip
    return state | {"start": start, "best": math.inf}


def progress(config: Settings, state: dict[str, Any]) -> float:
    """Share of the schedule that is done: 0 at the start, 1 or a little more at the end."""
    start = state["start"]
    if config.minutes is not None:
        return float((state["seconds"] - start["seconds"]) / (60 * config.minutes))
    return float((state["step"] - start["step"]) / config.steps)


def rate_factor(config: Settings, state: dict[str, Any], progress: float) -> float:
    """Learning rate as a fraction of `config.learning_rate`.

    A decay falls from where it branched off to zero as 1 - sqrt(progress), which ended lower than a linear one for
    every length compared by Hägele et al. (2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", arXiv 2405.18392); a fifth of the trunk's time is a good length there.
    """
    if config.decay:
        return float(state["start"]["factor"] * (1 - math.sqrt(min(progress, 1.0))))
    warmup = min(1.0, (state["step"] + 1) / max(config.warmup, 1))
    if config.schedule == "constant":
        return warmup
    if config.schedule == "step":
        return warmup * (1.0 if progress < 0.8 else 0.1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return warmup * (config.final_fraction + (1 - config.final_fraction) * cosine)


def average_decay(config: Settings, state: dict[str, Any]) -> float:
    """Share of the averaged weights that stays at this step: `config.ema`, and less soon after the start.

    So the average forgets what it started from: random weights, or those of the trunk that a short decay leaves behind.
    """
    done = state["step"] - state["start"]["step"]
    return min(config.ema, (1 + done) / (_AVERAGED + done)) if config.ema else 0.0
