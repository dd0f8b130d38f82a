"""What test_train_machine.py has several processes do; in a module of its own, so that they can import it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from dcae.errors import DCAEError
from dcae.train.processes import agreed, join_group, leave_group


def write_ranks(folder: Path) -> None:
    """One file each, named by its rank, with what all agreed on."""
    rank, world, _ = join_group("cpu")
    highest = agreed((float(rank), 1.0 - rank), world)
    (folder / str(rank)).write_text(f"{world} {highest} {torch.get_num_threads()}")
    leave_group()


def fail_in_one(kind: str) -> None:
    """The second process fails; the first waits for it."""
    rank, _, _ = join_group("cpu")
    if rank == 1 and kind == "error":
        raise DCAEError("the second one failed")
    if rank == 1 and kind == "killed":
        os.kill(os.getpid(), 9)
    dist.barrier()


def sleep(folder: Path) -> None:
    """Long, unless a signal comes."""
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)
