"""SOAP on problems whose answer is known."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from dcae.train.soap import Soap


def _turned(generator: torch.Generator, size: int) -> Tensor:
    """A symmetric matrix with eigenvalues from 1e-4 to 1 along random axes."""
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return (axes * torch.logspace(-4, 0, size)) @ axes.T


def _losses(kind: type[torch.optim.Optimizer], steps: int = 400, **options: float) -> list[float]:
    """Of minimising a quadratic of a matrix whose axes are none of its own, with noisy gradients."""
    generator = torch.Generator().manual_seed(0)
    left, right = _turned(generator, 12), _turned(generator, 20)
    goal = torch.randn(12, 20, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(12, 20))
    optimizer = kind([weight], lr=0.02, **options)  # type: ignore[call-arg]
    found = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        off = weight - goal
        loss = (off * (left @ off @ right)).sum()
        found.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss * (1 + 0.1 * torch.randn((), generator=generator))).backward()
        optimizer.step()
    return found


def test_descends_where_adam_is_held_up_by_axes_that_are_not_its_own() -> None:
    soap, adam = _losses(Soap, every=5), _losses(torch.optim.Adam)
    assert soap[0] == adam[0]
    assert soap[-1] < 0.3 * adam[-1] < 0.3 * adam[0]
    assert _losses(Soap, every=5, longest=12)[-1] < adam[-1]  # one side turned


def test_begins_as_adam() -> None:
    soap, adam = _losses(Soap, 5), _losses(torch.optim.Adam, 5, betas=(0.9, 0.99))  # type: ignore[arg-type]
    assert torch.allclose(torch.tensor(soap), torch.tensor(adam), rtol=1e-5)


def test_stays_finite_with_gradients_of_low_rank_and_of_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    dead, flat = torch.nn.Parameter(torch.ones(7, 9)), torch.nn.Parameter(torch.ones(40, 600))
    optimizer = Soap([dead, flat], lr=0.01, every=3)
    for _ in range(20):
        dead.grad = torch.zeros(7, 9)
        flat.grad = torch.randn(40, 1, generator=generator) @ torch.randn(1, 600, generator=generator) * 1e-12
        optimizer.step()
    assert torch.equal(dead, torch.ones(7, 9))
    assert torch.isfinite(flat).all() and (flat != 1).any()
    # A batch unlike all others moves no weight by more than its row and column of turned steps of 1.
    before = flat.detach().clone()
    flat.grad = 1e6 * torch.randn(40, 600, generator=generator)
    optimizer.step()
    assert (flat - before).norm() <= 0.01 * (40 * 600) ** 0.5 * 1.01


def test_goes_on_from_its_stored_state() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Parameter(torch.zeros(6, 5))
    optimizer = Soap([first], lr=0.01, every=3)
    gradients = torch.randn(12, 6, 5, generator=generator)

    def go(parameter: Tensor, optimizer: Soap, part: Tensor) -> None:
        for gradient in part:
            parameter.grad = gradient.clone()
            optimizer.step()

    go(first, optimizer, gradients[:7])
    second = torch.nn.Parameter(first.detach().clone())
    other = Soap([second], lr=0.01, every=3)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    go(first, optimizer, gradients[7:])
    go(second, other, gradients[7:])
    assert torch.equal(first, second)
