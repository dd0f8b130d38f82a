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
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.entropy.exact_bounds import (
    EXACT,
    GATE,
    LIMIT,
    LOGIT,
    LOGITS,
    QUERY,
    SCALE_ROWS,
    STATE,
    STATE_LIMIT,
    WEIGHT_ONE,
    gains_at,
)
from dcae.entropy.exact_tensors import ExactTensors, check, exact_arrays, power, sites
from dcae.networks.base import SlicePrior
from dcae.networks.exact_ready import ConvLayer, Depthwise, DictionaryAttention, ExactReady, GatedUnit, depth_to_space
from dcae.networks.scales import SCALE_LEVELS


def _enter(state: Tensor, fraction: int) -> Tensor:
    """Input of a map, at most ±`LIMIT` with `fraction` fractional bits, from the state, which has `STATE` of them."""
    return torch.mul(state, 2.0 ** (fraction - STATE)).round_().clamp_(-LIMIT, LIMIT)


_CARRIER: ContextVar[torch.dtype] = ContextVar("carrier", default=torch.float32)
"""Type that matrices are multiplied in, float32 or float64; the integers are the same in both."""


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    carrier = _CARRIER.get()
    return F.linear(x.to(carrier), weight.to(carrier), None if bias is None else bias.to(carrier)).float()


def _product(a: Tensor, b: Tensor) -> Tensor:
    carrier = _CARRIER.get()
    return torch.matmul(a.to(carrier), b.to(carrier)).float()


class _Map:
    """A linear map of integers; its result, not yet rounded, is exact."""

    def __init__(self, weight: Tensor, bias: Tensor | None, fraction: int, out: int | Tensor) -> None:
        """out: fractional bits of the result, for all rows or each (rows, 1)."""
        # Rounded weights and biases are integers over powers of two; so are their multiples.
        self.weight = weight * power(out - fraction).to(weight)
        self.bias = None if bias is None else bias * power(out).to(bias).reshape(-1)

    def __call__(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias)


class _Parts:
    """Builds the pieces, by the names of their modules."""

    def __init__(self, network: ExactReady, exact: ExactTensors) -> None:
        self.names = {module: name for name, module in network.named_modules()}
        self.fractions = dict(zip(sites(network), exact.fractions.tolist(), strict=True))

    def fraction(self, module: nn.Module) -> int:
        return self.fractions[self.names[module]]

    def map(self, module: nn.Linear, out: int | Tensor) -> _Map:
        return _Map(module.weight, module.bias, self.fraction(module), out)


class _Depthwise:
    """3x3 depthwise convolution, zero padding, as nine shifted multiply-adds: no library's fast algorithm has a say."""

    def __init__(self, parts: _Parts, module: Depthwise, out: int) -> None:
        taps = module.weight[:, 0] * 2.0 ** (out - parts.fraction(module))
        self.taps = taps.permute(1, 2, 0).contiguous()
        self.bias = module.bias * 2.0**out

    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 1, 1, 1, 1))
        y = self.bias.expand(*x.shape[:1], height, width, -1).clone()
        for row in range(3):
            for column in range(3):
                y.addcmul_(x[:, row : row + height, column : column + width], self.taps[row, column])
        return y


class _GatedUnit:
    def __init__(self, parts: _Parts, unit: GatedUnit) -> None:
        self.fraction = parts.fraction(unit.fc1)
        value = parts.fractions[parts.names[unit.fc1] + ".value"]
        hidden = unit.fc2.in_features
        out = torch.tensor([GATE] * hidden + [value] * hidden)[:, None]
        self.fc1 = parts.map(unit.fc1, out)
        self.product = 2.0 ** (parts.fraction(unit.fc2) - GATE - value)
        self.fc2 = parts.map(unit.fc2, STATE)
        self.bound = GatedUnit.BOUND * 2**GATE

    def __call__(self, state: Tensor) -> Tensor:
        gate, value = self.fc1(_enter(state, self.fraction)).round_().chunk(2, -1)
        gate.clamp_(0, self.bound).mul_(value.clamp_(-2 * LIMIT, 2 * LIMIT))
        product = gate.mul_(self.product).round_().clamp_(-LIMIT, LIMIT)
        return state.add_(self.fc2(product).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT)


class _ConvLayer:
    def __init__(self, parts: _Parts, layer: ConvLayer) -> None:
        self.fraction = parts.fraction(layer.fc1)
        self.fc1 = parts.map(layer.fc1, parts.fraction(layer.depthwise))
        self.depthwise = _Depthwise(parts, layer.depthwise, parts.fraction(layer.fc2))
        self.fc2 = parts.map(layer.fc2, STATE)
        self.unit = _GatedUnit(parts, layer.unit)

    def __call__(self, state: Tensor) -> Tensor:
        x = self.fc1(_enter(state, self.fraction)).round_().clamp_(0, LIMIT)
        x = self.depthwise(x).round_().clamp_(-LIMIT, LIMIT)
        return self.unit(state.add_(self.fc2(x).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT))


class _Attention:
    """Dictionary cross-attention; the softmax divides integers from a table by their sum."""

    def __init__(
        self, parts: _Parts, attention: DictionaryAttention, k: int, exact: ExactTensors, values: Tensor
    ) -> None:
        self.heads = attention.heads
        self.fraction = parts.fraction(attention.query)
        self.query = parts.map(attention.query, QUERY)
        self.limit = DictionaryAttention.CLAMP * 2**QUERY
        entries, width = exact.keys.shape[1:]
        keys = exact.keys[k].float().reshape(entries, self.heads, width // self.heads).transpose(0, 1)
        keys = keys * power(LOGIT - QUERY - exact.key_shifts[k].int()).to(keys)[..., None]
        self.keys = keys.transpose(1, 2).contiguous()
        self.values = values * 2.0 ** parts.fraction(attention.out) / WEIGHT_ONE
        self.out = parts.map(attention.out, STATE)
        self.exponentials = exact.exponentials.float()
        self.one = torch.tensor(WEIGHT_ONE, device=self.exponentials.device)

    def __call__(self, state: Tensor) -> Tensor:
        b, h, w, _ = state.shape
        query = self.query(_enter(state, self.fraction)).round_().clamp_(-self.limit, self.limit)
        logits = _product(query.reshape(b * h * w, self.heads, -1).transpose(0, 1), self.keys).round_()
        below = torch.sub(logits.amax(-1, keepdim=True), logits, out=logits).clamp_(max=LOGITS - 1)
        weights = self.exponentials.index_select(0, below.to(torch.int32).reshape(-1)).reshape(below.shape)
        # A division by itself: torch would make a reciprocal, which need not be rounded correctly, of a quotient.
        weights.mul_(torch.div(self.one, weights.sum(-1, keepdim=True))).round_()
        x = _product(weights, self.values).round_().clamp_(-LIMIT, LIMIT).transpose(0, 1).reshape(b, h, w, -1)
        return state.add_(self.out(x).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT)


class _Slice:
    """A slice network, see `dcae.networks.lite.wiring`."""

    def __init__(self, parts: _Parts, network: ExactReady, k: int, exact: ExactTensors, values: Tensor) -> None:
        module = network.slice_network(k)
        self.channels = module.channels
        self.attention = _Attention(parts, module.attention, k, exact, values)
        self.layer = _ConvLayer(parts, module.layer)
        self.head_fraction = parts.fraction(module.head)
        hidden = parts.fraction(module.residual_out)
        out = torch.tensor([0] * (2 * self.channels) + [hidden] * module.residual_in.out_features)[:, None]
        self.head = parts.map(module.head, out)
        self.context_fraction = parts.fraction(module.residual_in)
        self.residual_in = parts.map(module.residual_in, hidden)
        self.residual_out = parts.map(module.residual_out, 5)  # in 1/32: half of it is in 1/64
        self.extend = None if module.extend is None else parts.map(module.extend, STATE)
        self.extend_fraction = self.context_fraction if module.extend is None else parts.fraction(module.extend)


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


class _Support(NamedTuple):
    state: Tensor
    hidden: Tensor


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
        parts = _Parts(network, exact)
        h = network.h_s
        self._embed_fraction = parts.fraction(h.embed)
        self._embed, self._layer1 = parts.map(h.embed, STATE), _ConvLayer(parts, h.layer1)
        self._up1_fraction, self._up1 = parts.fraction(h.up1), parts.map(h.up1, STATE)
        self._layer2 = _ConvLayer(parts, h.layer2)
        self._up2_fraction, self._up2 = parts.fraction(h.up2), parts.map(h.up2, STATE)
        entries, heads = network.dictionary.shape[0], network.slice_network(0).attention.heads
        values = network.dictionary.reshape(entries, heads, -1).transpose(0, 1).contiguous()
        self._slices = [_Slice(parts, network, k, exact, values) for k in range(len(self.config.slices))]
        self._exact, self._device = exact_arrays(exact), device

    def conditioning(self, quality: float) -> _Gains:
        """Tables interpolated to `quality`, a multiple of 1/256."""
        tables = gains_at(self.config, self._exact, quality)
        return _Gains(*(torch.from_numpy(t).to(self._device) for t in tables if t is not None))

    def hyper_synthesis(self, z_hat: Tensor, q: _Gains) -> Tensor:
        z = z_hat.permute(0, 2, 3, 1).double() * q.inverse_z
        z = (z * 2.0**self._embed_fraction).round_().clamp_(-LIMIT, LIMIT).float()
        x = self._layer1(self._embed(z).round_())
        x = depth_to_space(self._up1(_enter(x, self._up1_fraction)).round_(), 2)
        x = self._layer2(x)
        x = depth_to_space(self._up2(_enter(x, self._up2_fraction)).round_(), 2)
        x = (x.double() * q.scale + q.shift * 2.0**STATE).round_()
        return x.clamp_(-STATE_LIMIT, STATE_LIMIT).float()

    def slice_prior(self, k: int, context: Tensor, q: _Gains) -> SlicePrior:
        part = self._slices[k]
        state = part.layer(part.attention(context))
        out = part.head(_enter(state, part.head_fraction))
        mean, scale, hidden = out.split((part.channels, part.channels, out.shape[-1] - 2 * part.channels), -1)
        gain, offset = self._of_slice(k, q.mean_gain), self._of_slice(k, q.scale_offset)
        mean = (mean.double() * gain * self.grid).round_().clamp_(-(2**21), 2**21) / self.grid
        row = (scale.double() * SCALE_ROWS + offset).round_().clamp_(0, SCALE_LEVELS - 1)
        support = _Support(state, hidden.round())
        return SlicePrior(mean.float().permute(0, 3, 1, 2), row.permute(0, 3, 1, 2), support)

    def scale_index(self, scale: Tensor) -> Tensor:
        return scale.to(torch.int64)

    def means_scale(self, q: _Gains) -> Tensor:
        assert q.means_scale is not None
        return q.means_scale.round().clamp(0, SCALE_LEVELS - 1)[None, :, None, None]

    def latent_residual(self, k: int, support: _Support, y_hat: Tensor, q: _Gains) -> Tensor:
        part = self._slices[k]
        hidden = part.residual_in(self._context(k, y_hat, q, part.context_fraction)).round_()
        hidden = hidden.add_(support.hidden).clamp_(0, LIMIT)
        residual = part.residual_out(hidden).round_().clamp_(-32, 32) / self.grid
        return y_hat + residual.permute(0, 3, 1, 2)

    def extend_context(self, k: int, context: Tensor, support: _Support, y_hat: Tensor, q: _Gains) -> Tensor:
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
            token = _CARRIER.set(torch.float32 if _is_ieee(device) else torch.float64)
            try:
                yield
            finally:
                _CARRIER.reset(token)


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
