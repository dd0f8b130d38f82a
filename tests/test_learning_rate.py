"""The learning rate as the optimisers see it, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, synthetic_picture
from torch.optim.optimizer import register_optimizer_step_pre_hook

pytest.importorskip("compressai", reason="training needs compressai")

from dcae.train.config import TrainConfig
from dcae.train.loop import train

STEPS, WARMUP, HIGHEST = 12, 4, 4e-4


def _rates(folder: Path, **settings: Any) -> list[list[float]]:
    """The rates of every group of parameters in a run of `STEPS`, but for the quantiles, whose rate is constant."""
    (folder / "pictures").mkdir()
    for k in range(3):
        synthetic_picture(96, 80, k).save(folder / "pictures" / f"{k}.png")
    seen: dict[tuple[int, int], list[float]] = {}

    def see(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for k, group in enumerate(optimizer.param_groups):
            if any(parameter.shape[1:] != (1, 3) for parameter in group["params"]):
                seen.setdefault((id(optimizer), k), []).append(float(group["lr"]))

    values = {"data": str(folder / "pictures"), "network": TINY, "steps": STEPS, "warmup": WARMUP, "batch": 1}
    values |= {"patch": 64, "bf16": False, "learning_rate": HIGHEST, "validation_pictures": 1}
    hook = register_optimizer_step_pre_hook(see)
    try:
        train(TrainConfig.from_dict(values | settings), folder / "run")
    finally:
        hook.remove()
    return list(seen.values())


@pytest.mark.parametrize(("schedule", "optimizer"), [("cosine", "adam"), ("step", "soap")])
@pytest.mark.slow
def test_follows_the_schedule(tmp_path: Path, schedule: str, optimizer: str) -> None:
    found = _rates(tmp_path, schedule=schedule, optimizer=optimizer)
    assert len(found) >= 2 and all(len(rates) == STEPS for rates in found)
    assert any(0.8 * HIGHEST <= max(rates) <= HIGHEST for rates in found)
    for rates in found:
        relative = [rate / max(rates) for rate in rates]
        assert relative[0] < 0.35 and relative[:WARMUP] == sorted(relative[:WARMUP])
        assert relative[-1] < 0.15
        after = relative[WARMUP:]
        assert after == sorted(after, reverse=True)
        middle = after[: len(after) // 2]
        assert len(set(middle)) == (1 if schedule == "step" else len(middle))
