"""The training loop, flat: set up, then step, validate, checkpoint until the schedule ends.

Started under `torchrun` it trains data-parallel; every process then draws `batch` patches of its own.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import pickle
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dcae.config import DCAEConfig
from dcae.errors import ModelFileError, OptionError
from dcae.network import DCAE
from dcae.presets import build_model
from dcae.train.config import TrainConfig
from dcae.train.data import Patches, load_folder, split
from dcae.train.loss import rate_distortion
from dcae.train.optimizers import build_optimizers

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"


def train(config: TrainConfig, data: Path, out: Path, device: str = "cpu", resume: bool = True) -> Path:
    """Train until the schedule ends; continue `out/checkpoint.pt` when there is one and `resume`.

    Returns:
        The last checkpoint, which `dcae.train.export` turns into a model file.

    Raises:
        OptionError: a bad setting or data folder.
        MissingDependencyError: compressai is not installed.
    """
    rank, world, device = _process_group(device)
    torch.manual_seed(config.seed)
    network = build_model(config.preset, **config.overrides).to(device).train()
    pictures, held_out = split(load_folder(data, config.patch))
    patches = Patches(pictures, config.patch, config.downscale, np.random.default_rng((config.seed, rank)))
    checkpoint = out / CHECKPOINT
    continuing = resume and checkpoint.exists()
    if not continuing:
        calibration = Patches(pictures, config.patch, 0.0, np.random.default_rng(config.seed))
        network.calibrate(to_tensor(calibration.batch(64), device))
    optimizers = build_optimizers(network, config.optimizer, config.learning_rate)
    base_rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "skipped": 0, "patches": 0, "log": []}
    if continuing:
        saved = load_checkpoint(checkpoint, device)
        if saved["config"] != network.config.to_dict() or saved["train"]["optimizer"] != config.optimizer:
            raise OptionError(
                f"{checkpoint} is of a run with another preset, λ, shape or optimizer; "
                "choose another output folder, or --no-resume to start over"
            )
        network.load_state_dict(saved["network"])
        average = saved["average"]
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        state = saved["state"]
        patches.rng.bit_generator.state = json.loads(saved["rng"])
        if rank:  # the stored stream is that of process 0
            patches.rng = np.random.default_rng((config.seed, rank, state["step"]))
        torch.manual_seed(config.seed + 1000 * rank + state["step"])
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
    model: torch.nn.Module = network
    if world > 1:
        # The quantiles learn from their own loss, identical on every process.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            network, [n for n, _ in network.named_parameters() if n.endswith("quantiles")]
        )
        model = DistributedDataParallel(network, broadcast_buffers=False)

    started, last_validation = time.monotonic() - state["seconds"], time.monotonic()
    recent: list[float] = []
    while True:
        state["seconds"] = time.monotonic() - started
        progress = state["step"] / config.steps
        if config.minutes is not None:
            progress = state["seconds"] / (60 * config.minutes)
        progress = _agreed(progress, world)
        finished = progress >= 1
        if finished or time.monotonic() - last_validation > 60 * config.validate_every:
            if rank == 0:
                state["log"].append(validation_row(network, average, held_out, config, state, recent))
                state["hardware"] = _hardware(device, world)
                _save(checkpoint, config, network, average, optimizers, state, patches.rng)
            last_validation = time.monotonic()
            recent = []
        if finished:
            break

        factor = min(1.0, (state["step"] + 1) / config.warmup) * (
            config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
        )
        for optimizer, rates in zip(optimizers[:-1], base_rates, strict=False):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

        x = to_tensor(patches.batch(config.batch), device)
        quality, lambdas = draw_qualities(network.config, config.batch, patches.rng, device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.bf16):
            output = model(x, quality)
        terms = rate_distortion(x, output, lambdas)
        loss = (terms.loss / (lambdas / 0.01) ** config.balance).mean()
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
            decay = min(config.ema, (1 + state["step"]) / (10 + state["step"]))
            with torch.no_grad():
                for key, value in network.state_dict().items():
                    if value.is_floating_point():
                        average[key].lerp_(value, 1 - decay)
                    else:
                        average[key].copy_(value)
        else:
            state["skipped"] += 1
        state["step"] += 1
        state["patches"] += config.batch * world
        recent.append(loss.item())
        if rank == 0 and state["step"] % 50 == 0:
            log.info(
                "step %d  loss %.4f  norm %.2f  %.1f patches/s  %.1f min",
                state["step"], np.mean(recent[-50:]), norm, state["patches"] / state["seconds"], state["seconds"] / 60,
            )  # fmt: skip
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
    return checkpoint


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What `train` wrote.

    Raises:
        ModelFileError: no checkpoint of ours, or a damaged one.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        missing = {"config", "train", "network", "average", "optimizers", "state", "rng", "date"} - set(saved)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{path}: not a checkpoint of dcae train ({str(error).splitlines()[0]})") from error
    if missing:
        raise ModelFileError(f"{path}: not a checkpoint of dcae train (no {', '.join(sorted(missing))})")
    return dict(saved)


def _process_group(device: str) -> tuple[int, int, str]:
    """Rank, number of processes, and the device of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1, device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # gloo as well, since some of what is agreed on lies on the CPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    return dist.get_rank(), dist.get_world_size(), device


def _agreed(progress: float, world: int) -> float:
    """Process 0's view of the schedule, so that all end at the same step."""
    if world == 1:
        return progress
    value = torch.tensor([progress], dtype=torch.float64)
    dist.broadcast(value, 0)
    return value.item()


def _hardware(device: str, world: int) -> str:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"CPU ({platform.machine()})"
    return f"{world} x {name}, {torch.get_num_threads()} threads each"


def to_tensor(pixels: np.ndarray, device: str) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], channels_last."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255


def draw_qualities(config: DCAEConfig, count: int, rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Uniform random qualities over the model's range and their λ, each (count,)."""
    low, high = config.qualities
    qualities = rng.uniform(low, high, count)
    lambdas = [config.lambda_of(float(v)) for v in qualities]
    return (
        torch.tensor(qualities, dtype=torch.float32, device=device),
        torch.tensor(lambdas, dtype=torch.float32, device=device),
    )


def validation_row(
    network: DCAE,
    average: dict[str, Tensor],
    pictures: list[np.ndarray],
    config: TrainConfig,
    state: dict[str, Any],
    recent: list[float],
) -> dict[str, Any]:
    """Estimated rate and PSNR of the averaged weights on centre crops of the held-out pictures, per quality."""
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    device = next(network.parameters()).device
    low, high = network.config.qualities
    points = []
    for quality in sorted({low, high, *np.arange(low, high, 1.0).tolist()}):
        lambdas = torch.tensor([network.config.lambda_of(quality)], device=device)
        rows = []
        for picture in pictures[:8]:
            top, left = ((n - min(n, 512)) // 2 for n in picture.shape[:2])
            x = to_tensor(picture[None, top : top + 512, left : left + 512].copy(), str(device))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                output = network(x, quality)
            output["x_hat"] = output["x_hat"].clamp(0, 1)
            terms = rate_distortion(x, output, lambdas)
            rows.append([terms.loss.item(), (terms.bpp_y + terms.bpp_z).item(), -10 * math.log10(terms.mse.item())])
        points.append([quality, *np.mean(rows, 0).round(4).tolist()])
    network.load_state_dict(own)
    network.train()
    row = {
        "step": state["step"],
        "patches": state["patches"],
        "minutes": round(state["seconds"] / 60, 2),
        "train_loss": round(float(np.mean(recent)), 4) if recent else None,
        "score": round(float(np.mean([p[1] / (network.config.lambda_of(p[0]) / 0.01) ** 0.5 for p in points])), 4),
        "points": points,
    }
    log.info("validation %s", json.dumps(row))
    return row


def _save(
    path: Path,
    config: TrainConfig,
    network: DCAE,
    average: dict[str, Tensor],
    optimizers: list[torch.optim.Optimizer],
    state: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Replace the checkpoint atomically."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "config": network.config.to_dict(),
            "train": dataclasses.asdict(config),
            "network": network.state_dict(),
            "average": average,
            "optimizers": [o.state_dict() for o in optimizers],
            "state": state,
            "rng": json.dumps(rng.bit_generator.state),
            "date": date.today().isoformat(),
        },
        temporary,
    )
    os.replace(temporary, path)
