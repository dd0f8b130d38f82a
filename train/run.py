"""Run: the network, its optimisers and averaged weights, with what the loop does to them."""

from __future__ import annotations

import json
import logging
import math
import platform
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dcae.errors import DCAEError, ModelFileError
from dcae.train import schedule
from dcae.train.checkpoint import BEST, CHECKPOINT, save_checkpoint
from dcae.train.machine import compute_type
from dcae.train.monitor import Monitor
from dcae.train.optimizers import gathered_states, limit_surprises
from dcae.train.processes import Group, agreed, mean_over
from dcae.train.settings import Settings
from dcae.train.task import Losses, Task

log = logging.getLogger(__name__)
_SKIPPED_IN_A_ROW = 100
_LOG_EVERY = 20
"""Steps between points of TensorBoard's curves."""


class Run:
    """A run of `task` that begins at nothing or at a checkpoint.

    Attributes:
        state: JSON-like counters and record: step, seconds, patches, best score, log of validations, where it started.

    Raises:
        DCAEError: weights or optimisers of the checkpoint do not fit.
    """

    def __init__(self, config: Settings, out: Path, group: Group, task: Task, saved: dict[str, Any] | None) -> None:
        self.config, self.out, self.group, self.task = config, out, group, task
        self.optimizers = task.optimizers()
        scheduled = self.optimizers[:-1] if task.unshared else self.optimizers
        self._rates = [[g["lr"] for g in o.param_groups] for o in scheduled]
        self.average = {k: v.detach().clone() for k, v in task.network.state_dict().items()}
        self.state = schedule.new_state()
        if saved:
            try:
                task.network.load_state_dict(saved["network"])
                self.average = {k: v.to(group.device) for k, v in saved["average"].items()}
                for optimizer, values in zip(self.optimizers, saved["optimizers"], strict=True):
                    optimizer.load_state_dict(values)
            except (RuntimeError, ValueError, LookupError) as error:
                told = "weights or optimisers do not fit this run, or are not in it"
                raise ModelFileError(f"the checkpoint in {out} cannot be continued: its {told}") from error
            self.state = saved["state"]
        self._model = _wrapped(task, group, config.compile)
        self._clipped = [p for n, p in task.network.named_parameters() if n not in task.unshared]
        clipped = {id(p) for p in self._clipped}
        trained = [p for o in self.optimizers for g in o.param_groups for p in g["params"]]
        self._beside = [p for p in trained if id(p) not in clipped]
        self._dtype = compute_type(config.precision, group.device)
        self.state["hardware"] = _hardware(group, self._dtype)
        self._started, self._last_validation = time.monotonic() - self.state["seconds"], time.monotonic()
        self._last_saved = self._last_validation
        self._recent: list[float] = []
        self._seen = deque([self._counted()])
        self._in_a_row = 0
        self._limited = torch.tensor(0)

    def agreed(self, stop: bool) -> tuple[float, bool, bool, bool]:
        """Progress, whether a validation is due, or else a checkpoint, whether to stop: the same on every process."""
        now = time.monotonic()
        self.state["seconds"] = now - self._started
        late = now - self._last_validation > 60 * self.config.validate_every
        keep = 0 < 60 * self.config.checkpoint_every < now - self._last_saved
        values = (schedule.progress(self.config, self.state), late, keep, stop)
        progress, *flags = agreed(values, self.group.world)
        due, keep, stopped = map(bool, flags)
        return progress, due or progress >= 1, keep, stopped

    def step(self, progress: float, monitor: Monitor) -> None:
        """One optimiser step.

        Raises:
            DCAEError: too many steps in a row were not finite.
        """
        step, config = self.state["step"], self.config
        factor = schedule.rate_factor(config, self.state, progress)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=False):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        waiting = time.monotonic()
        batch, count = self.task.batch(step, progress)
        self.state["waited"] += time.monotonic() - waiting
        # What the network draws itself: the noise of the rate estimate.
        seed = np.random.SeedSequence((config.seed, step, self.group.rank)).generate_state(1)[0]
        torch.manual_seed(int(seed))
        with torch.autocast(torch.device(self.group.device).type, self._dtype, self._dtype != torch.float32):
            output = self.task.forward(self._model, batch)
        losses = self.task.losses(batch, output)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses.main.backward()
        if losses.auxiliary.requires_grad:
            losses.auxiliary.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._clipped, config.clip)
        self._apply(norm)
        self.state["step"] += 1
        self.state["patches"] += count * self.group.world
        self._report(losses, norm, progress, monitor)

    def _apply(self, norm: Tensor) -> None:
        """Step with the gradients there are. Norm and gradients of what learns beside are the same on all processes:
        all skip or none."""
        norms = torch.stack([norm, *(p.grad.norm() for p in self._beside if p.grad is not None)])
        if torch.isfinite(norms).all():  # one look, since a GPU is waited for at each
            self._limited = limit_surprises(self.optimizers[0])
            for optimizer in self.optimizers:
                optimizer.step()
            update_average(self.average, self.task.network, schedule.average_decay(self.config, self.state))
            self._in_a_row = 0
            return
        self.state["skipped"] += 1
        self._in_a_row += 1
        if self._in_a_row >= _SKIPPED_IN_A_ROW:
            raise DCAEError(f"{self._in_a_row} steps in a row were not finite; lower the learning rate")

    def _counted(self) -> tuple[float, float, float]:
        """Time, and patches and seconds waited for them until then."""
        return time.monotonic(), self.state["patches"], self.state["waited"]

    def _speed(self) -> tuple[float, float]:
        """Patches per second and share of time waited for them, of the last minute."""
        self._seen.append(self._counted())
        while self._seen[-1][0] - self._seen[1][0] > 60:
            self._seen.popleft()
        (begin, *first), (end, *last) = self._seen[0], self._seen[-1]
        patches, waited = ((b - a) / max(end - begin, 1e-9) for a, b in zip(first, last, strict=True))
        return patches, waited

    def _report(self, losses: Losses, norm: Tensor, progress: float, monitor: Monitor) -> None:
        if math.isfinite(value := losses.main.item()):
            self._recent.append(value)
        if self.group.rank > 0:
            return
        state, (rate, waiting) = self.state, self._speed()
        mean = np.mean(self._recent[-50:] or [math.nan])
        monitor.progress(
            progress, f"step {state['step']}  loss {mean:.4f}  {rate:.1f} patches/s  {waiting:.1%} waiting"
        )
        if state["step"] % _LOG_EVERY == 0:
            curves = {"loss": losses.main, "gradient norm": norm} | losses.curves | {
                "learning rate": self.optimizers[0].param_groups[0]["lr"], "patches per second": rate,
                "waiting share": waiting, "skipped steps": state["skipped"], "limited gradients": self._limited,
            }  # fmt: skip
            monitor.scalars({k: float(torch.as_tensor(v).detach()) for k, v in curves.items()}, state["step"])

    def validate(self, stopping: Callable[[], bool], monitor: Monitor) -> bool:
        """Measure the averaged weights, and keep them beside the checkpoint if they are the best so far.

        Returns:
            Whether it was done, and not skipped because the run is to stop.
        """
        train_loss = mean_over(self._recent, self.group.world)
        network = self.task.network
        own = {k: v.clone() for k, v in network.state_dict().items()}
        network.load_state_dict(self.average)
        found = self.task.validate(stopping)
        network.load_state_dict(own)
        self._last_validation, self._recent = time.monotonic(), []
        if found is None:
            return False
        state = self.state
        row = {
            "step": state["step"], "patches": state["patches"], "minutes": round(state["seconds"] / 60, 2),
            "train_loss": None if train_loss is None else round(train_loss, 4),
        } | found.row  # fmt: skip
        # Through JSON, since a number of NumPy's in a checkpoint would make it unreadable.
        state["log"].append(json.loads(json.dumps(row)))
        if state.get("measure") != found.measure:  # older scores say nothing about this one
            state |= {"measure": found.measure, "best": math.inf}
        if self.group.rank == 0:
            monitor.scalars({"validation/score": found.score} | found.curves, state["step"])
            monitor.pictures(found.pictures, state["step"])
            log.info("validation at step %d: score %.4f; %s", state["step"], found.score, found.line)
        if found.score < state["best"]:
            state["best"] = float(found.score)
            if self.group.rank == 0:
                save_checkpoint(
                    self.out / BEST, self._content() | {"network": {}, "optimizers": [], "discriminator": {}}
                )
        return True

    def save(self) -> None:
        """Write the checkpoint; when it returns it is there, on every process."""
        self.state["seconds"] = time.monotonic() - self._started
        states = gathered_states(self.optimizers)
        if self.group.rank == 0:
            save_checkpoint(self.out / CHECKPOINT, self._content() | {"optimizers": states})
        if self.group.world > 1:
            dist.barrier()
        self._last_saved = time.monotonic()

    def _content(self) -> dict[str, Any]:
        own = {"network": self.task.network.state_dict(), "average": self.average}
        return self.task.content() | own | {"train": self.config.to_dict(), "state": self.state}


def _wrapped(task: Task, group: Group, compiled: bool) -> nn.Module:
    """The network as a step calls it."""
    model: nn.Module = task.network
    if group.world > 1:
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(task.unshared))
        # Depthwise kernels' gradients have any stride along their one input channel; the warning takes it for a copy.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        model = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    if compiled:
        model = torch.compile(model)  # type: ignore[assignment]
    return model


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Move averaged weights towards the network's; what is not floating point is copied."""
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)


def _hardware(group: Group, dtype: torch.dtype) -> str:
    on_gpu = group.device.startswith("cuda")
    name = torch.cuda.get_device_name(group.device) if on_gpu else f"CPU ({platform.machine()})"
    return f"{group.world} x {name}, {torch.get_num_threads()} threads each, {str(dtype).removeprefix('torch.')}"
