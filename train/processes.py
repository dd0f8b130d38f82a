"""Data-parallel processes: how `dcae train --processes N` starts them, how they find each other and agree."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from dcae.errors import DCAEError
from dcae.networks.base import check_device
from dcae.train.machine import cores

_GRACE = 60
"""Seconds that the other processes have to end by themselves when one of them has failed."""


def launch(count: int, task: Callable[..., None], *arguments: Any) -> None:
    """Run `task(*arguments)` in `count` processes of this machine that form one process group.

    Each gets its share of the cores, unless OMP_NUM_THREADS is set. SIGINT and SIGTERM are passed on to them.

    Args:
        task: a function of a module, so that a new process can import it.

    Raises:
        DCAEError: the first that one of them raised, or that one was killed.
    """
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = mp.start_processes(
            _begin, (count, os.path.join(folder, "store"), answers, task, arguments),
            nprocs=count, join=False, start_method="spawn",
        )  # fmt: skip
        with _passing_signals_on(processes.processes):
            try:
                while not processes.join(grace_period=_GRACE):
                    pass
            except mp.ProcessExitedException as error:
                if answers.empty():
                    raise DCAEError(f"training has ended early: {error}") from error
            except mp.ProcessRaisedException:
                if answers.empty():  # else it is what the failure of another one has led to
                    raise
    while not answers.empty():
        if message := answers.get():
            raise DCAEError(message)


def _begin(rank: int, count: int, store: str, answers: Any, task: Callable[..., None], arguments: Any) -> None:
    """Life of one process: its answer is an error's message, or nothing."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), DCAE_STORE=store)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // count))
    try:
        task(*arguments)
    except DCAEError as error:
        answers.put(str(error))
        raise SystemExit(1) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        answers.put("not enough memory; a smaller batch needs less")
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        answers.put("interrupted at once, without a checkpoint")
        raise SystemExit(1) from error
    answers.put("")


@contextmanager
def _passing_signals_on(processes: list[Any]) -> Iterator[None]:
    def pass_on(number: int, _: Any) -> None:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, number)

    before: dict[int, Any] = {}
    try:
        for asked in (signal.SIGINT, signal.SIGTERM):
            before[asked] = signal.signal(asked, pass_on)
    except ValueError:  # not the main thread: signals are somebody else's business
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Group(NamedTuple):
    """Processes that train together, as one of them sees it."""

    rank: int
    """Number of the process, from 0."""
    world: int
    """Number of processes."""
    device: str
    """Torch device of the process."""


def join_group(device: str) -> Group:
    """The group of this process, which has joined the others when it returns.

    The environment says whether there are others: variables of `torchrun`, or those that :func:`launch` sets.

    Raises:
        OptionError: no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        check_device(device)
        return Group(0, 1, device)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    check_device(device)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # gloo as well, since some of what is agreed on lies on the CPU.
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        store = os.environ.get("DCAE_STORE")
        method = f"file://{store}" if store else "env://"
        dist.init_process_group(backend, method, rank=int(os.environ["RANK"]), world_size=world)
    return Group(dist.get_rank(), dist.get_world_size(), device)


def leave_group() -> None:
    """Wait for the others, if there are any, and part from them."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def agreed(values: tuple[float, ...], world: int) -> tuple[float, ...]:
    """The largest of each over all processes, so that all validate, stop and end at the same step."""
    if world == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tuple(tensor.tolist())


def mean_over(losses: list[float], world: int) -> float | None:
    """Mean over all processes of the mean of each one's losses; None where there are none."""
    if not losses:
        return None
    mean = torch.tensor(sum(losses) / len(losses), dtype=torch.float64)
    if world > 1:
        dist.all_reduce(mean)
    return mean.item() / world


def sum_over(values: Tensor, world: int) -> Tensor:
    """Sum over all processes of a tensor of the CPU, in place."""
    if world > 1:
        dist.all_reduce(values)
    return values
