"""Look-up of a unit in torch, with gradients to the table and to what is looked up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcae.sr.tables.simplex import Simplex


class _Rounded(torch.autograd.Function):
    """Rounding, halves to even, whose gradient is that of leaving values as they are."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def rounded(values: Tensor) -> Tensor:
    """Values rounded to integers, halves to even; gradients pass straight through."""
    found: Tensor = _Rounded.apply(values)
    return found


class _Interpolated(torch.autograd.Function):
    """Weighted sums of a table's entries, see :func:`interpolated`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, table: Tensor, simplex: Simplex, bits: int) -> Tensor:
        whole = (values.double() * 2**bits).round().long() if bits else values.int()
        base, keys, ordered = simplex.sorted_keys(list(whole), torch)
        entries, weights = [], []
        found = table.new_zeros(len(base), table.shape[1])
        for entry, weight in simplex.vertices(base, ordered):
            entries.append(entry.int())
            weights.append(weight.to(table.dtype) / simplex.divisor)
            found += table.index_select(0, entries[-1]) * weights[-1][:, None]
        ctx.save_for_backward(table, torch.stack(entries), torch.stack(weights), torch.stack(keys), *ordered)
        ctx.steps = simplex.steps(base, torch)
        ctx.bits = bits
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        table, entries, weights, keys, *ordered = ctx.saved_tensors
        own = by_value = None
        if ctx.needs_input_grad[1]:
            own = torch.zeros_like(table)
            for entry, weight in zip(entries, weights, strict=True):
                own.index_add_(0, entry, gradient * weight[:, None])
        if ctx.needs_input_grad[0]:
            by_value = torch.zeros_like(keys, dtype=table.dtype)
            slope = 2**ctx.bits / ctx.steps
            at = [(table.index_select(0, entry) * gradient).sum(1) for entry in entries]
            for k, key in enumerate(ordered):
                # Keys of a pixel differ, so that each is that of one input.
                by_value += (keys == key) * ((at[k + 1] - at[k]) * slope)
        return by_value, own, None, None


def interpolated(values: Tensor, table: Tensor, simplex: Simplex, bits: int = 0) -> Tensor:
    """What a unit finds, as :class:`dcae.sr.tables.lookup.Lookup` does, divided by the sum of the weights.

    Args:
        values: (inputs, pixels) in 0...255, multiples of 2 to the power of -`bits`.
        table: (entries, outputs), entries as `simplex` counts them.
        bits: bits of the values after the point.

    Returns:
        (pixels, outputs). The gradient to `values` is the slope within their simplex.
    """
    found: Tensor = _Interpolated.apply(values, table, simplex, bits)
    return found
