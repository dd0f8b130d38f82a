"""What a training run is told: one frozen dataclass, stored in every checkpoint and model file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dcae.errors import OptionError


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. λ of the loss come from the network's configuration (`lambdas`)."""

    preset: str = "lite"
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of the preset's configuration that differ from its defaults."""
    steps: int = 20_000
    """Optimiser steps; the learning rate has decayed to its end at the last."""
    minutes: float | None = None
    """Wall-clock budget of the run; when given, the schedule follows the time spent instead of the steps."""
    batch: int = 16
    """Patches per step and process."""
    patch: int = 128
    """Side of a square patch in pixels, a multiple of 64."""
    optimizer: str = "muon"
    """"muon" (orthogonalised momentum for the matrices, Adam for the rest) or "adam"."""
    learning_rate: float = 1e-3
    """Adam's; Muon's steps have twice its root mean square (see `dcae.train.optimizers`)."""
    warmup: int = 100
    """Steps of linear warm-up."""
    final_fraction: float = 0.02
    """Learning rate at the end of the cosine, as a fraction of the first."""
    clip: float = 1.0
    """Gradients are scaled down to this norm."""
    ema: float = 0.999
    """Decay per step of the averaged weights, which are what is validated and exported."""
    balance: float = 0.5
    """A sample's loss is divided by (λ / 0.01) to this power, so that no rate dominates a multi-rate model."""
    downscale: float = 0.3
    """Share of patches that are shrunk by a random factor up to 2."""
    bf16: bool = True
    """bf16 autocast for the networks; likelihoods are always float32."""
    validate_every: float = 10.0
    """Minutes between validations, each with a checkpoint."""
    seed: int = 1

    def __post_init__(self) -> None:
        if self.patch < 64 or self.patch % 64:
            raise OptionError(f"patch must be a multiple of 64, got {self.patch}")
        if self.steps < 1 or self.batch < 1:
            raise OptionError("steps and batch must be at least 1")
        if self.minutes is not None and self.minutes <= 0:
            raise OptionError(f"minutes must be positive, got {self.minutes}")
        if self.optimizer not in ("muon", "adam"):
            raise OptionError(f"unknown optimizer {self.optimizer!r}; known: muon, adam")
