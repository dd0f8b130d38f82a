"""A training task that is no codec: a straight line, for test_train_validation.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcae.train.config import TrainConfig
from dcae.train.processes import Group
from dcae.train.task import Losses, Validation


class LineTask:
    """y = 3 x + 1."""

    def __init__(self, config: TrainConfig, group: Group, saved: dict[str, Any] | None) -> None:
        self.config, self.network = config, nn.Linear(1, 1)
        self.unshared: frozenset[str] = frozenset()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)]

    def batch(self, step: int, progress: float) -> tuple[Tensor, int]:
        return torch.rand(4, 1, generator=torch.Generator().manual_seed(step)), 4

    def forward(self, model: nn.Module, batch: Tensor) -> Tensor:
        output: Tensor = model(batch)
        return output

    def losses(self, batch: Tensor, output: Tensor) -> Losses:
        return Losses((output - 3 * batch - 1).square().mean(), torch.zeros(()), {})

    def validate(self, stopping: Callable[[], bool]) -> Validation:
        x = torch.linspace(0, 1, 5)[:, None]
        error = (self.network(x) - 3 * x - 1).abs().max().item()
        # As NumPy's number, which a checkpoint must not carry.
        return Validation(np.float64(error), "error", {"error": np.float64(error)}, {}, [], f"error {error:.3f}")

    def content(self) -> dict[str, Any]:
        return {"config": {"family": "line"}}

    def close(self) -> None:
        pass
