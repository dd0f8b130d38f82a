"""The training loop, flat: set up, then step, validate, checkpoint until the schedule ends.

Where several processes form a group (`dcae/train/processes.py`, or `torchrun`) each trains on its part of the global
batch. Every random choice follows from (seed, step, place in the batch), so that a run that was interrupted continues
exactly.
"""

from __future__ import annotations

import logging
import math
import platform
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dcae.errors import DCAEError, OptionError
from dcae.networks.base import DCAE
from dcae.networks.config import config_from_dict
from dcae.networks.registry import build_model
from dcae.train import schedule
from dcae.train.checkpoint import BEST, CHECKPOINT, save_checkpoint
from dcae.train.config import TrainConfig
from dcae.train.data import Loader, Patches, load_folder, split, to_float
from dcae.train.init import initial_network
from dcae.train.loss import balanced, rate_distortion
from dcae.train.machine import compute_type
from dcae.train.monitor import Monitor
from dcae.train.optimizers import build_optimizers, gathered_states
from dcae.train.processes import agreed, join_group, leave_group
from dcae.train.qualities import in_strata, qualities_of
from dcae.train.schedule import new_state
from dcae.train.start import open_run
from dcae.train.validation import reconstructions, validate, validation_crops

log = logging.getLogger(__name__)
_SKIPPED_IN_A_ROW = 100
_LOG_EVERY = 20


class Interrupted(DCAEError):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has written a checkpoint."""


def train(config: TrainConfig, out: Path, device: str = "cpu", resume: bool = False) -> Path:
    """Train until the schedule ends.

    Args:
        config: all settings; `config.data` is the folder of pictures.
        out: folder of the run: checkpoints and TensorBoard files.
        device: torch device; under `torchrun`, "cuda" means each process's own GPU.
        resume: continue the checkpoint in `out` when there is one; without it a folder with one is refused. Where
            there is none, `config.decay` names the run to branch off.

    Returns:
        `out`, from which `dcae.train.export` makes a model file.

    Raises:
        OptionError: a bad setting or data folder, or a run that is there already.
        Interrupted: stopped by a signal, after a checkpoint.
        DCAEError: a checkpoint could not be written, or training has diverged.
        MissingDependencyError: compressai is not installed.
    """
    if not config.data:
        raise OptionError("no training pictures; give their folder with --data")
    saved = open_run(config, out, resume)
    rank, world, device = join_group(device)
    _check_same_checkpoint(saved, world)
    torch.manual_seed(config.seed)
    network = (build_model(config_from_dict(saved["config"])) if saved else initial_network(config)).to(device).train()
    pictures, held_out = split(load_folder(Path(config.data), max(config.patch)))
    patches = Patches(
        pictures, config.downscale, config.seed, device, smooth=config.smooth, drawn=config.drawn, colour=config.colour
    )
    loader = Loader(patches, rank)
    crops = validation_crops([p.pixels for p in held_out], config.validation_pictures)
    if not saved:
        sample = to_float(patches.batch(0, config.patch[0], 0, 64).pixels)
        if not config.init:
            network.calibrate(sample)
        network.calibrate_skip(sample)
    optimizers = build_optimizers(network, config.optimizer, config.learning_rate)
    base_rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    state = new_state()
    if saved:
        network.load_state_dict(saved["network"])
        average = {k: v.to(device) for k, v in saved["average"].items()}
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        state = saved["state"]
        del saved
    model: torch.nn.Module = network
    if world > 1:
        # The quantiles learn from their own loss, identical on every process.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            network, [n for n, _ in network.named_parameters() if n.endswith("quantiles")]
        )
        model = DistributedDataParallel(network, broadcast_buffers=False)
    if config.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    dtype = compute_type(config.precision, device)
    state["hardware"] = _hardware(device, world, dtype)
    if rank == 0:
        log.info("training on %s", state["hardware"])

    def checkpoint_now() -> None:
        state["seconds"] = time.monotonic() - started
        states = gathered_states(optimizers)
        if rank == 0:
            save_checkpoint(out / CHECKPOINT, _content(config, network, average, state) | {"optimizers": states})

    stop = _Stop()
    started, last_validation = time.monotonic() - state["seconds"], time.monotonic()
    recent: list[float] = []
    in_a_row = 0
    with stop, Monitor(out, state["step"], quiet=rank > 0) as monitor:
        while True:
            state["seconds"] = time.monotonic() - started
            late = time.monotonic() - last_validation > 60 * config.validate_every
            progress, due, stopped = agreed((schedule.progress(config, state), late, stop.asked), world)
            if stopped:
                checkpoint_now()
                if world > 1:  # nobody leaves, and has the others ended, before it is written
                    dist.barrier()
                raise Interrupted(f"stopped after step {state['step']}; {out} can be continued with --resume auto")
            if progress >= 1 or due:
                train_loss = _mean(recent, world)
                if rank == 0:
                    row = _validation(network, average, crops, config, state, train_loss, monitor)
                    if row["score"] < state["best"]:
                        state["best"] = row["score"]
                        only: dict[str, Any] = {"network": {}, "optimizers": []}
                        save_checkpoint(out / BEST, _content(config, network, average, state) | only)
                checkpoint_now()
                last_validation, recent = time.monotonic(), []
            if progress >= 1:
                monitor.progress(1.0, f"step {state['step']}, best score {state['best']:.4f}")
                break

            step = state["step"]
            factor = schedule.rate_factor(config, state, progress)
            for optimizer, rates in zip(optimizers[:-1], base_rates, strict=False):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            patch, count = config.phase(progress)
            waiting = time.monotonic()
            batch = loader.batch(step, patch, count)
            state["waited"] += time.monotonic() - waiting
            draws = in_strata(batch.draws, config.seed, step, rank * count, world * count)
            quality, lambdas = qualities_of(network.config, draws, config.low_rate_weight, device)
            # The noise of the rate estimate.
            torch.manual_seed(int(np.random.SeedSequence((config.seed, step, rank)).generate_state(1)[0]))

            x = to_float(batch.pixels)
            with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
                output = model(x, quality)
            terms = rate_distortion(x, output, lambdas, config.metric, config.block_means)
            loss = balanced(terms.loss, lambdas, config.metric, config.balance).mean()
            auxiliary = network.entropy_bottleneck.loss()
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            auxiliary.backward()
            norm = torch.nn.utils.clip_grad_norm_(
                [p for n, p in network.named_parameters() if not n.endswith("quantiles")], config.clip
            )
            # The norm of averaged gradients is the same on every process, so all skip together.
            if torch.isfinite(norm):
                for optimizer in optimizers:
                    optimizer.step()
                _update_average(average, network, schedule.average_decay(config, state))
                in_a_row = 0
            else:
                state["skipped"] += 1
                in_a_row += 1
                if in_a_row >= _SKIPPED_IN_A_ROW:
                    raise DCAEError(f"{in_a_row} steps in a row were not finite; lower the learning rate")
            state["step"] += 1
            state["patches"] += count * world
            if math.isfinite(value := loss.item()):
                recent.append(value)
            if rank == 0:
                seconds = max(time.monotonic() - started, 1e-9)
                rate = state["patches"] / seconds
                monitor.progress(
                    progress,
                    f"step {step + 1}  loss {np.mean(recent[-50:] or [math.nan]):.4f}  {rate:.1f} patches/s  "
                    f"{state['waited'] / seconds:.1%} waiting",
                )
                if (step + 1) % _LOG_EVERY == 0:
                    curves = {
                        "loss": loss, "bpp/y": terms.bpp_y.mean(), "bpp/z": terms.bpp_z.mean(),
                        "psnr": -10 * terms.mse.log10().mean(), "auxiliary loss": auxiliary, "gradient norm": norm,
                        "learning rate": optimizers[0].param_groups[0]["lr"], "patches per second": rate,
                        "waiting share": state["waited"] / seconds, "skipped steps": state["skipped"],
                    }  # fmt: skip
                    monitor.scalars({k: float(torch.as_tensor(v).detach()) for k, v in curves.items()}, step + 1)
    loader.close()
    leave_group()
    return out


class _Stop:
    """Remembers that SIGINT or SIGTERM came, so that the step is finished and a checkpoint written."""

    PATIENCE = 1.0
    """Seconds in which a second Ctrl-C still counts as the first: one may come from the terminal and torchrun."""

    def __init__(self) -> None:
        self.asked = False
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        except ValueError:  # not the main thread: signals are somebody else's business
            pass

    def _ask(self, number: int, _: Any) -> None:
        if self.asked and number == signal.SIGINT and time.monotonic() - self._when > self.PATIENCE:
            raise KeyboardInterrupt  # asked for again: at once
        if not self.asked:
            self.asked, self._when = True, time.monotonic()

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _mean(losses: list[float], world: int) -> float | None:
    """Mean loss since the last validation, over all processes."""
    if not losses:
        return None
    mean = torch.tensor(np.mean(losses), dtype=torch.float64)
    if world > 1:
        dist.all_reduce(mean)
    return mean.item() / world


def _hardware(device: str, world: int, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"CPU ({platform.machine()})"
    return f"{world} x {name}, {torch.get_num_threads()} threads each, {str(dtype).removeprefix('torch.')}"


def _check_same_checkpoint(saved: dict[str, Any] | None, world: int) -> None:
    """Processes on machines that do not share the run's folder would continue from different steps."""
    if world > 1:
        step = float(saved["state"]["step"]) if saved else -1.0
        highest, lowest = agreed((step, -step), world)
        if highest != -lowest:
            raise OptionError("not every process finds the same checkpoint; all machines must share the run's folder")


def _content(config: TrainConfig, network: DCAE, average: dict[str, Tensor], state: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": network.config.to_dict(),
        "train": config.to_dict(),
        "network": network.state_dict(),
        "average": average,
        "state": state,
    }


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: DCAE, decay: float) -> None:
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)


def _validation(
    network: DCAE,
    average: dict[str, Tensor],
    crops: list[np.ndarray],
    config: TrainConfig,
    state: dict[str, Any],
    train_loss: float | None,
    monitor: Monitor,
) -> dict[str, Any]:
    """Validate the averaged weights; the row joins the log."""
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(average)
    row: dict[str, Any] = {
        "step": state["step"],
        "patches": state["patches"],
        "minutes": round(state["seconds"] / 60, 2),
        "train_loss": None if train_loss is None else round(train_loss, 4),
    } | validate(network, crops, config)
    monitor.pictures(reconstructions(network, crops[:4], network.config.default_quality), state["step"])
    network.load_state_dict(own)
    state["log"].append(row)
    curves = {"validation/score": row["score"]}
    for quality, _, bpp, psnr in row["points"]:
        curves |= {f"validation/bpp {quality:g}": bpp, f"validation/psnr {quality:g}": psnr}
    for quality, whole, _, _ in row["files"]:
        curves[f"validation/file bpp {quality:g}"] = whole
    monitor.scalars(curves, state["step"])
    first, last = row["points"][0], row["points"][-1]
    log.info(
        "validation at step %d: score %.4f; λ %.4g: %.4f bpp, %.2f dB; λ %.4g: %.4f bpp, %.2f dB; files %s bpp",
        state["step"], row["score"],
        network.config.lambdas[0], first[2], first[3], network.config.lambdas[-1], last[2], last[3],
        ", ".join(f"{f[1]:.4f}" for f in row["files"]),
    )  # fmt: skip
    return row
