"""SOAP: Adam along the axes in which the gradients of a matrix are uncorrelated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_SIDES = ("left", 0), ("right", 1)


class Soap(torch.optim.Optimizer):
    """SOAP (Vyas et al. 2024, arXiv 2409.11321) for matrices.

    A gradient G is turned to L^T G R, where L and R hold the eigenvectors of moving averages of G G^T and G^T G; Adam's
    step is made there and turned back. Sides longer than `longest` are not turned. The axes are found after `every`
    steps, which are Adam's, and followed every so many by one step of orthogonal iteration.

    Args:
        parameters: matrices, or groups of them.
        lr: step size, of the size of Adam's.
        betas: decay of the gradient's mean and of its square, as Adam's.
        memory: decay of the averages of G G^T and G^T G.
        every: steps between looks at the axes.
        longest: longest side that is turned.
        eps: added to the root of the square.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        memory: float = 0.99,
        every: int = 20,
        longest: int = 512,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "betas": betas, "memory": memory, "every": every, "longest": longest, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step with the gradients there are."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(self._update(parameter, group), alpha=-group["lr"])

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
            for name, side in _SIDES:
                if gradient.shape[side] <= group["longest"]:
                    state[name] = gradient.new_zeros(gradient.shape[side], gradient.shape[side])
        state["step"] += 1
        for name, side in _SIDES:
            if name in state:
                across = gradient if side == 0 else gradient.T
                state[name].addmm_(across, across.T, beta=group["memory"], alpha=1 - group["memory"])
        if state["step"] > group["every"] and state["step"] % group["every"] == 1:
            if state["step"] == group["every"] + 1:
                _find_axes(state)
            else:
                _follow_axes(state)
        left, right = state.get("left axes"), state.get("right axes")
        turned = gradient if left is None else left.T @ gradient
        turned = turned if right is None else turned @ right
        kept_mean, kept_square = group["betas"]
        state["mean"].lerp_(turned, 1 - kept_mean)
        state["square"].lerp_(turned.square(), 1 - kept_square)
        root = (state["square"] / (1 - kept_square ** state["step"])).sqrt_().add_(group["eps"])
        update = state["mean"] / root / (1 - kept_mean ** state["step"])
        # Usual steps are of 0.3. A batch unlike all others, or too small an idea of the squares, moves nothing far.
        update.clamp_(-1, 1)
        update = update if left is None else left @ update
        return update if right is None else update @ right.T


def _find_axes(state: dict[str, Any]) -> None:
    """Find the axes, and turn what Adam remembers; of squares, to the product of both sides' shares of their sum."""
    total = state["square"].sum()
    shares = []
    for name, side in _SIDES:
        size = state["mean"].shape[side]
        if name not in state:
            shares.append(state["mean"].new_full((size,), 1 / size))
            continue
        # In float64 and never singular: the decomposition of what is nearly zero does not converge.
        values, axes = torch.linalg.eigh(_scaled(state[name]).double() + 1e-6 * torch.eye(size).to(total).double())
        state[f"{name} axes"] = new = axes.flip(1).to(total)
        values = values.flip(0).clamp(min=0).to(total)
        shares.append(values / values.sum())
        state["mean"] = new.T @ state["mean"] if side == 0 else state["mean"] @ new
    state["square"] = total * shares[0][:, None] * shares[1]


def _follow_axes(state: dict[str, Any]) -> None:
    """Bring the axes up to date, and turn what Adam remembers with them."""
    for name, side in _SIDES:
        if name not in state:
            continue
        old = state[f"{name} axes"]
        product = _scaled(state[name]) @ old + 1e-5 * old  # no columns of nothing
        order = (old * product).sum(0).argsort(descending=True)
        state[f"{name} axes"] = new = torch.linalg.qr(product[:, order])[0]
        turn = new.T @ old
        state["mean"] = turn @ state["mean"] if side == 0 else state["mean"] @ turn.T
        state["square"] = state["square"].index_select(side, order)


def _scaled(products: Tensor) -> Tensor:
    """With eigenvalues of 1 on average."""
    return products / products.diagonal().mean().clamp(min=1e-30)
