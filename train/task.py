"""What a family of networks brings to the training loop, see `families.py`; the codec's is `codec_task.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dcae.train.processes import Group
from dcae.train.settings import Settings


class Losses(NamedTuple):
    """Losses that one step minimises."""

    main: Tensor
    """Scalar, the mean over this process's samples; its gradients are averaged over processes and clipped."""
    auxiliary: Tensor
    """Scalar, for the parameters that are not shared (:attr:`Task.unshared`), or for what learns beside the network and
    is none of its parameters (`dcae/train/adversarial.py`); zero where there is neither."""
    curves: dict[str, Tensor]
    """Scalars to be logged beside them."""


class Validation(NamedTuple):
    """What a validation found."""

    score: float
    """Lower is better; the averaged weights with the lowest are kept."""
    measure: str
    """Short text that is the same for scores that can be compared."""
    row: dict[str, Any]
    """Entry of the log in checkpoint and model file, JSON-serialisable."""
    curves: dict[str, float]
    pictures: list[np.ndarray]
    """(H, W, 3) uint8, to be looked at."""
    line: str
    """The same for the terminal, one line."""


class Task(Protocol):
    """Data, loss and validation of one family of networks; made for one run, on one of its processes.

    Whatever is random in a batch must follow from (seed, step, place in the global batch) alone. The loop seeds torch's
    generator before every step.
    """

    def __init__(self, config: Settings, group: Group, saved: dict[str, Any] | None) -> None:
        """Build the network (of the checkpoint `saved`, if there is one) and read the data."""

    @property
    def network(self) -> nn.Module:
        """The network that is trained, on the device, in training mode."""

    @property
    def unshared(self) -> frozenset[str]:
        """Names of parameters that learn from the auxiliary loss alone, in the same way on every process."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimisers: those that follow the schedule of the learning rate, then the one for :attr:`unshared` if there
        are such."""

    def batch(self, step: int, progress: float) -> tuple[Any, int]:
        """Samples of a step for this process, and their number."""

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """Output of `model` (the network, as it is or wrapped) for a batch; run in the precision of training."""

    def losses(self, batch: Any, output: Any) -> Losses:
        """Loss of that output; run in float32."""

    def validate(self, stopping: Callable[[], bool]) -> Validation | None:
        """Measure the network as it stands, all processes together.

        Args:
            stopping: asked now and then; once it is true, what is left may be skipped.

        Returns:
            The same score and measure on every process, and the rest on the first; None everywhere if any is stopping.
        """

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps of the task: `config`, the network's, and whatever `saved` should bring back."""

    def close(self) -> None:
        """End the threads that read data."""
