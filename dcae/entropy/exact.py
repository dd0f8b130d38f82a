"""The entropy model of `lite` in exact arithmetic: what decides a probability is the same on every machine.

Every tensor holds integers, carried in float32. A linear map takes integers of at most `LIMIT` and has integer
weights whose absolute values, times `LIMIT`, add up to at most 2**24 in every row: every partial sum is an integer
that float32 holds exactly, in any order of summation, fused or not. Powers of two are multiplied exactly; rounding
(half to even), comparison, table look-ups and the division of the softmax are the same on every IEEE machine. The
gains, a few products per latent, are taken in float64 below 2**53. `docs/format.md` specifies all of it.

A map's input has `fraction` fractional bits: an integer n stands for n / 2**fraction. The state has `STATE`.
Fractions and the shifts of all weight rows are chosen at export (`dcae/entropy/exact_export.py`), where the weights are
rounded to them, and stored in the model file; the bounds are checked again when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dcae.entropy.exact_bounds import EXACT, LIMIT, SCALE_ROWS, STATE, STATE_LIMIT, gains_at
from dcae.entropy.exact_parts import CARRIER, ExactConvLayer, ExactSlice, Parts, enter
from dcae.entropy.exact_tensors import ExactTensors, check, exact_arrays
from dcae.networks.exact_ready import ExactReady, depth_to_space
from dcae.networks.scales import SCALE_LEVELS
from dcae.networks.steps import SlicePrior


class _Gains(NamedTuple):
    """The gain tables at one quality, each (C,) float64; exact multiples of a power of two."""

    inverse_z: Tensor
    mean_gain: Tensor
    context_gain: Tensor
    scale_offset: Tensor
    scale: Tensor
    shift: Tensor
    means_scale: Tensor | None = None
    """(3,), where there is a closed loop."""


class Support(NamedTuple):
    """What a slice's prior hands on to the steps after it, integers in (B, H/16, W/16, channels)."""

    state: Tensor
    hidden: Tensor
    """The state's part of the latent residual's hidden layer."""


class ExactEntropyModel:
    """The hooks of :class:`dcae.networks.base.DCAE` from ẑ to the last ŷ, in exact arithmetic.

    Tensors at the interface are as there, (B, C, H, W): ẑ, means and ŷ float32 multiples of 1/64, `SlicePrior.scale`
    the row of the scale table.

    Raises:
        ModelFileError: weights that are not on the grids that `exact` says, or too large for exact sums.
    """

    numerics = "integer"

    def __init__(self, network: ExactReady, exact: ExactTensors) -> None:
        check(network, exact)
        self.config = network.config
        self.grid = network.latent_grid
        device = network.dictionary.device
        exact = ExactTensors(*(t.to(device) for t in exact))
        parts = Parts(network, exact)
        h = network.h_s
        self._embed_fraction = parts.fraction(h.embed)
        self._embed, self._layer1 = parts.map(h.embed, STATE), ExactConvLayer(parts, h.layer1)
        self._up1_fraction, self._up1 = parts.fraction(h.up1), parts.map(h.up1, STATE)
        self._layer2 = ExactConvLayer(parts, h.layer2)
        self._up2_fraction, self._up2 = parts.fraction(h.up2), parts.map(h.up2, STATE)
        entries, heads = network.dictionary.shape[0], network.slice_network(0).attention.heads
        values = network.dictionary.reshape(entries, heads, -1).transpose(0, 1).contiguous()
        self._slices = [ExactSlice(parts, network, k, exact, values) for k in range(len(self.config.slices))]
        self._exact, self._device = exact_arrays(exact), device

    def conditioning(self, quality: float) -> _Gains:
        """Tables interpolated to `quality`, a multiple of 1/256."""
        tables = gains_at(self.config, self._exact, quality)
        return _Gains(*(torch.from_numpy(t).to(self._device) for t in tables if t is not None))

    def hyper_synthesis(self, z_hat: Tensor, q: _Gains) -> Tensor:
        z = z_hat.permute(0, 2, 3, 1).double() * q.inverse_z
        z = (z * 2.0**self._embed_fraction).round_().clamp_(-LIMIT, LIMIT).float()
        x = self._layer1(self._embed(z).round_())
        x = depth_to_space(self._up1(enter(x, self._up1_fraction)).round_(), 2)
        x = self._layer2(x)
        x = depth_to_space(self._up2(enter(x, self._up2_fraction)).round_(), 2)
        x = (x.double() * q.scale + q.shift * 2.0**STATE).round_()
        return x.clamp_(-STATE_LIMIT, STATE_LIMIT).float()

    def slice_prior(self, k: int, context: Tensor, q: _Gains) -> SlicePrior:
        part = self._slices[k]
        state = part.layer(part.attention(context))
        out = part.head(enter(state, part.head_fraction))
        mean, scale, hidden = out.split((part.channels, part.channels, out.shape[-1] - 2 * part.channels), -1)
        gain, offset = self._of_slice(k, q.mean_gain), self._of_slice(k, q.scale_offset)
        mean = (mean.double() * gain * self.grid).round_().clamp_(-(2**21), 2**21) / self.grid
        row = (scale.double() * SCALE_ROWS + offset).round_().clamp_(0, SCALE_LEVELS - 1)
        support = Support(state, hidden.round())
        return SlicePrior(mean.float().permute(0, 3, 1, 2), row.permute(0, 3, 1, 2), support)

    def scale_index(self, scale: Tensor) -> Tensor:
        return scale.to(torch.int64)

    def means_scale(self, q: _Gains) -> Tensor:
        assert q.means_scale is not None
        return q.means_scale.round().clamp(0, SCALE_LEVELS - 1)[None, :, None, None]

    def latent_residual(self, k: int, support: Support, y_hat: Tensor, q: _Gains) -> Tensor:
        part = self._slices[k]
        hidden = part.residual_in(self._context(k, y_hat, q, part.context_fraction)).round_()
        hidden = hidden.add_(support.hidden).clamp_(0, LIMIT)
        residual = part.residual_out(hidden).round_().clamp_(-32, 32) / self.grid
        return y_hat + residual.permute(0, 3, 1, 2)

    def extend_context(self, k: int, context: Tensor, support: Support, y_hat: Tensor, q: _Gains) -> Tensor:
        part = self._slices[k]
        if part.extend is None:
            return support.state
        y = part.extend(self._context(k, y_hat, q, part.extend_fraction)).round_()
        return support.state.add_(y).clamp_(-STATE_LIMIT, STATE_LIMIT)

    def _of_slice(self, k: int, table: Tensor) -> Tensor:
        start = sum(self.config.slices[:k])
        return table[start : start + self.config.slices[k]]

    def _context(self, k: int, y_hat: Tensor, q: _Gains, fraction: int) -> Tensor:
        """ŷ in the entropy model's units, as a map's input."""
        y = y_hat.permute(0, 2, 3, 1).double() * self._of_slice(k, q.context_gain)
        return (y * 2.0**fraction).round_().clamp_(-LIMIT, LIMIT).float()

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Whatever the caller has set: without autocast, and in float64 where matrices of float32 are multiplied with
        TF32 or bfloat16. Nothing global is changed, so that threads do not disturb each other."""
        device = self._device
        with torch.autocast(device.type, enabled=False):
            token = CARRIER.set(torch.float32 if _is_ieee(device) else torch.float64)
            try:
                yield
            finally:
                CARRIER.reset(token)


def _is_ieee(device: torch.device) -> bool:
    """Whether products of float32 keep all 24 bits of their operands and sums; settings of torch, environment variables
    and builds may put TF32 or bfloat16 in their place."""

    def full(value: float) -> Tensor:  # of this type, whatever torch's default is
        return torch.full((64, 128), value, dtype=torch.float32, device=device)

    x, w = full(0), full(1)
    x[:, 5] = EXACT - 1
    sums = full(LIMIT), full(64)
    sums[1].fill_diagonal_(65.0)
    pairs = ((x, w, EXACT - 1), (w, x, EXACT - 1), (*sums, LIMIT * (64 * 128 + 1)))
    return all(
        bool((F.linear(a, b) == value).all()) and bool((torch.matmul(a[None], b.mT[None]) == value).all())
        for a, b, value in pairs
    )
