"""The walk over the slices of y: training, coding, export and measuring all go through this one.

It is the loop of figure 3 of arXiv 2504.00496 (slice by slice, each predicted from those before), over whatever has
the steps: a network on tensors (`dcae.networks.base.DCAE`) as well as an engine on arrays (`dcae.runtime.protocol`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Latents = TypeVar("Latents")
"""Tensors or arrays, (B, C_k, H/16, W/16)."""


class SliceSteps(Protocol):
    """The part of an entropy model that the walk calls."""

    def slice_prior(self, k: int, context: Any, q: Any, /) -> Any: ...
    def latent_residual(self, k: int, support: Any, y_hat: Any, q: Any, /) -> Any: ...
    def extend_context(self, k: int, context: Any, support: Any, y_hat: Any, q: Any, /) -> Any: ...


def walk_slices(
    model: SliceSteps,
    slices: int,
    context: Any,
    q: Any,
    quantised: Callable[[int, Any, list[Latents]], Latents],
    refined: Callable[[int, Latents], Latents] | None = None,
) -> list[Latents]:
    """ŷ of every slice, in coding order.

    Args:
        slices: number of slices.
        context: of slice 0, from `hyper_synthesis`.
        q: from `conditioning`.
        quantised: visitor that, given k, the prior of slice k and the slices ŷ before it, says what slice k is: ŷ_k
            before its refinement, a whole number of steps from the prior's mean. An encoder writes symbols here, a
            decoder reads them.
        refined: is shown every ŷ_k after its refinement, and returns it, perhaps in memory of its own choice.
    """
    y_hats: list[Latents] = []
    for k in range(slices):
        prior = model.slice_prior(k, context, q)
        y_hat = model.latent_residual(k, prior.support, quantised(k, prior, y_hats), q)
        if refined is not None:
            y_hat = refined(k, y_hat)
        y_hats.append(y_hat)
        if k + 1 < slices:
            context = model.extend_context(k, context, prior.support, y_hat, q)
    return y_hats
