"""Optimisers: what one batch unlike all others may do."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from dcae.train.optimizers import limit_surprises  # noqa: E402

RATE = 1e-3


def _moved(limited: bool) -> float:
    """How far a parameter moves, in learning rates, in the ten steps from a gradient a thousand times as large."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.zeros(64))
    optimizer = torch.optim.Adam([parameter], lr=RATE)
    for step in range(310):
        if step == 300:
            before = parameter.detach().clone()
        usual = 1e-4 * torch.randn(64, generator=generator)
        parameter.grad = torch.full((64,), 0.1) if step == 300 else usual
        if limited:
            limit_surprises(optimizer)
        optimizer.step()
    return float((parameter.detach() - before).abs().mean() / RATE)


def test_one_batch_unlike_all_others_moves_little() -> None:
    assert _moved(limited=False) > 10
    assert _moved(limited=True) < 4


def test_usual_gradients_are_left_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.zeros(8, 8))
    optimizer = torch.optim.Adam([parameter], lr=RATE)
    for step in range(300):
        gradient = torch.randn(8, 8, generator=generator) * (1 if step < 50 else 1000)  # the first steps are not judged
        parameter.grad = gradient.clone()
        assert limit_surprises(optimizer) == 0
        assert torch.equal(parameter.grad, gradient)
        optimizer.step()
