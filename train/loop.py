"""The training loop: step, validate, checkpoint until the schedule ends, whatever the task.

Where several processes form a group (`dcae/train/processes.py`, or `torchrun`) each trains on its part of the global
batch. Every random choice follows from (seed, step, place in the batch), so that a run that was interrupted continues
exactly.
"""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from dcae.errors import DCAEError, OptionError
from dcae.train.families import FAMILIES
from dcae.train.monitor import Monitor
from dcae.train.processes import agreed, join_group, leave_group
from dcae.train.run import Run
from dcae.train.settings import Settings
from dcae.train.start import open_run
from dcae.train.task import Task


class Interrupted(DCAEError):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has written a checkpoint."""


def train(
    config: Settings, out: Path, device: str = "cpu", resume: bool = False, family: type[Task] | None = None
) -> Path:
    """Train until the schedule ends.

    Args:
        config: all settings.
        out: folder of the run: checkpoints and TensorBoard files.
        device: torch device; of several processes on "cuda" each has a GPU of its own.
        resume: continue the checkpoint in `out` when there is one; without it a folder with one is refused. Where
            there is none, `config.decay` names the run to branch off.
        family: what is trained, on which data and loss; by default that of the settings' task.

    Returns:
        `out`, from which `dcae.train.export` makes a model file.

    Raises:
        OptionError: a bad setting or data folder, or a run that is there already.
        Interrupted: stopped by a signal, after a checkpoint.
        DCAEError: a checkpoint could not be written, or training has diverged.
        MissingDependencyError: what the task needs is not installed.
    """
    saved = open_run(config, out, resume)
    group = join_group(device)
    _check_same_checkpoint(saved, group.world)
    torch.manual_seed(config.seed)
    family = family or FAMILIES[config.task].task_type()
    with closing(family(config, group, saved)) as task:
        run = Run(config, out, group, task, saved)
        del saved
        with _Stop() as stop, Monitor(out, run.state["step"], quiet=group.rank > 0) as monitor:
            while True:
                progress, due, keep, stopped = run.agreed(stop.asked)
                if stopped:
                    run.save()
                    raise Interrupted(
                        f"stopped after step {run.state['step']}; {out} can be continued with --resume auto"
                    )
                if due:
                    validated = run.validate(lambda: stop.asked, monitor)
                    run.save()
                    if not validated:
                        continue
                elif keep:
                    run.save()
                if progress >= 1:
                    break
                run.step(progress, monitor)
            monitor.progress(1.0, f"step {run.state['step']}, best score {run.state['best']:.4f}")
    leave_group()
    return out


class _Stop:
    """Remembers that SIGINT or SIGTERM came, so that the step is finished and a checkpoint written."""

    PATIENCE = 1.0
    """Seconds in which a second Ctrl-C counts as the first: one may come from the terminal, one from a parent."""

    def __init__(self) -> None:
        self.asked = False
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        except ValueError:  # not the main thread: signals are somebody else's business
            pass
        return self

    def _ask(self, number: int, _: Any) -> None:
        if self.asked and number == signal.SIGINT and time.monotonic() - self._when > self.PATIENCE:
            raise KeyboardInterrupt  # asked for again: at once
        if not self.asked:
            self.asked, self._when = True, time.monotonic()

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _check_same_checkpoint(saved: dict[str, Any] | None, world: int) -> None:
    """Processes on machines that do not share the run's folder would continue from different steps."""
    if world > 1:
        step = float(saved["state"]["step"]) if saved else -1.0
        highest, lowest = agreed((step, -step), world)
        if highest != -lowest:
            raise OptionError("not every process finds the same checkpoint; all machines must share the run's folder")
