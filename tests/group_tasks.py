"""What test_train_machine.py and test_adversarial.py have several processes do, in a module that these can import."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from dcae.errors import DCAEError
from dcae.train.adversarial import Looks
from dcae.train.looks import LooksSettings
from dcae.train.processes import Group, agreed, join_group, leave_group


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


def discriminator_of(world: int) -> Looks:
    """A small one, the same in every process of so many."""
    torch.manual_seed(1)
    settings = LooksSettings(adversarial="vanilla", discriminator_width=4)
    return Looks(settings, Group(0, world, "cpu"), None)


def contest_gradients(looks: Looks, seed: int) -> list[torch.Tensor]:
    """Gradients of the discriminator for pictures that follow from the seed."""
    torch.manual_seed(seed)
    assert looks.discriminator is not None
    _, loss = looks._contest(looks.discriminator, torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))
    loss.backward()
    return [p.grad for p in looks.discriminator.parameters() if p.grad is not None]


def discriminator_gradients(folder: Path) -> None:
    """Those of pictures that each process has for itself, written to a file named by its rank."""
    rank, world, _ = join_group("cpu")
    torch.save(contest_gradients(discriminator_of(world), rank), folder / f"{rank}.pt")
    leave_group()
