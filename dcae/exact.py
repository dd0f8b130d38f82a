"""The entropy model of `lite` in exact arithmetic: what decides a probability is the same on every machine.

Every tensor holds integers, carried in float32. A linear map takes integers of at most `LIMIT` and has integer
weights whose absolute values, times `LIMIT`, add up to at most 2**24 in every row: every partial sum is an integer
that float32 holds exactly, in any order of summation, fused or not. Powers of two are multiplied exactly; rounding
(half to even), comparison, table look-ups and the division of the softmax are the same on every IEEE machine. The
gains, a few products per latent, are taken in float64 below 2**53. `docs/format.md` specifies all of it.

A map's input has `fraction` fractional bits: an integer n stands for n / 2**fraction. The state has `STATE`.
Fractions and the shifts of all weight rows are chosen at export (`dcae/exact_export.py`), where the weights are
rounded to them, and stored in the model file; the bounds are checked again when it is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.blocks import ConvLayer, Depthwise, DictionaryAttention, GatedUnit, depth_to_space
from dcae.config import QUALITY_STEPS
from dcae.errors import ModelFileError, OptionError
from dcae.lite import LiteDCAE
from dcae.network import SlicePrior
from dcae.scales import SCALE_LEVELS

LIMIT = 2047
"""Largest input of a map."""
EXACT = 1 << 24
"""Integers up to here are exact in float32, and so are their sums."""
STATE = 12
"""Fractional bits of the state, and of the stream of the hyper synthesis."""
STATE_LIMIT = float(1 << 22)
GATE, QUERY = 9, 8
"""Fractional bits of gates in [0, 4] and of queries in ±8."""
LOGIT, LOGITS = 7, 2048
"""Fractional bits of the softmax's logits, and how many below the largest the table reaches."""
WEIGHT_ONE = 4096.0
"""What the weights of a softmax add up to, nearly."""
TABLE_BITS = 20
"""Bits of the largest entry of a gain table."""
_SCALE = 532576 / 2**16
"""1 / SCALE_STEP: what one unit of log-scale is in rows of the scale table."""


class ExactTensors(NamedTuple):
    """What a model file holds for exact arithmetic beside the rounded weights."""

    fractions: Tensor
    """(sites,) int8, of the inputs in the order of :func:`sites`."""
    shifts: Tensor
    """(rows of all maps,) int8: a row's weights are integers over 2**shift; in the order of :func:`maps`."""
    keys: Tensor
    """(slices, entries, dictionary width) int16, integers over 2**shift; includes the softmax's 1/sqrt(channels)."""
    key_shifts: Tensor
    """(slices, heads, entries) int8."""
    value_shift: Tensor
    """() int8 of the dictionary as values."""
    exponentials: Tensor
    """(LOGITS,) int32, see :func:`exponentials`."""
    gains: Tensor
    """(anchors, columns) int32: inverse_z, mean_gain, context_gain, scale_offset, modulation's scale and shift."""
    gain_shifts: Tensor
    """(6,) int8, of these tables."""


def maps(network: LiteDCAE) -> dict[str, nn.Linear | Depthwise]:
    """The linear maps with stored weights, by name, in the order in which they work."""
    return {
        name: module
        for part in (network.h_s, network.slice_networks)
        for name, module in _named(network, part)
        if isinstance(module, nn.Linear | Depthwise) and not name.endswith("attention.key")
    }


def streams(name: str) -> bool:
    """Whether the results of a map are added to the state, or become it, so that they must leave room for it."""
    return name.endswith(("embed", "fc2", "attention.out", "extend", "up1", "up2"))


def _named(network: LiteDCAE, part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    prefix = next(name for name, module in network.named_children() if module is part)
    return part.named_modules(prefix=prefix)


def sites(network: LiteDCAE) -> list[str]:
    """Where integers get a fraction of their own: the inputs of all maps, and the values that gates multiply."""
    return [site for name in maps(network) for site in (name, *_value_site(name))]


def _value_site(name: str) -> list[str]:
    return [f"{name}.value"] if name.endswith("unit.fc1") else []


def _enter(state: Tensor, fraction: int) -> Tensor:
    """The state as a map's input."""
    return torch.mul(state, 2.0 ** (fraction - STATE)).round_().clamp_(-LIMIT, LIMIT)


def _power(exponents: int | Tensor) -> Tensor:
    """Exact powers of two, float64; `torch.exp2` may be off by a unit."""
    return torch.as_tensor(np.ldexp(1.0, torch.as_tensor(exponents).cpu().numpy()))


class _Map:
    """A linear map of integers; its result, not yet rounded, is exact."""

    def __init__(self, weight: Tensor, bias: Tensor | None, fraction: int, out: int | Tensor) -> None:
        """out: fractional bits of the result, for all rows or each (rows, 1)."""
        # Rounded weights and biases are integers over powers of two; so are their multiples.
        self.weight = weight * _power(out - fraction).to(weight)
        self.bias = None if bias is None else bias * _power(out).to(bias).reshape(-1)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _Parts:
    """Builds the pieces, by the names of their modules."""

    def __init__(self, network: LiteDCAE, exact: ExactTensors) -> None:
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
        keys = keys * _power(LOGIT - QUERY - exact.key_shifts[k].int()).to(keys)[..., None]
        self.keys = keys.transpose(1, 2).contiguous()
        self.values = values * 2.0 ** parts.fraction(attention.out) / WEIGHT_ONE
        self.out = parts.map(attention.out, STATE)
        self.exponentials = exact.exponentials.float()
        self.one = torch.tensor(WEIGHT_ONE, device=self.exponentials.device)

    def __call__(self, state: Tensor) -> Tensor:
        b, h, w, _ = state.shape
        query = self.query(_enter(state, self.fraction)).round_().clamp_(-self.limit, self.limit)
        logits = (query.reshape(b * h * w, self.heads, -1).transpose(0, 1) @ self.keys).round_()
        below = torch.sub(logits.amax(-1, keepdim=True), logits, out=logits).clamp_(max=LOGITS - 1)
        weights = self.exponentials.index_select(0, below.to(torch.int32).reshape(-1)).reshape(below.shape)
        # A division by itself: torch would make a reciprocal, which need not be rounded correctly, of a quotient.
        weights.mul_(torch.div(self.one, weights.sum(-1, keepdim=True))).round_()
        x = (weights @ self.values).round_().clamp_(-LIMIT, LIMIT).transpose(0, 1).reshape(b, h, w, -1)
        return state.add_(self.out(x).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT)


class _Slice:
    """A slice network, see `dcae.lite`."""

    def __init__(self, parts: _Parts, network: LiteDCAE, k: int, exact: ExactTensors, values: Tensor) -> None:
        module = network._network(k)
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


class _Support(NamedTuple):
    state: Tensor
    hidden: Tensor


class ExactEntropyModel:
    """The hooks of :class:`dcae.network.DCAE` from ẑ to the last ŷ, in exact arithmetic.

    Tensors at the interface are as there, (B, C, H, W): ẑ, means and ŷ float32 multiples of 1/64, `SlicePrior.scale`
    the row of the scale table.

    Raises:
        ModelFileError: weights that are not on the grids that `exact` says, or too large for exact sums.
    """

    numerics = "integer"

    def __init__(self, network: LiteDCAE, exact: ExactTensors) -> None:
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
        entries, heads = network.dictionary.shape[0], network._network(0).attention.heads
        values = network.dictionary.reshape(entries, heads, -1).transpose(0, 1).contiguous()
        self._slices = [_Slice(parts, network, k, exact, values) for k in range(len(self.config.slices))]
        self._gains = exact.gains.double()
        self._gain_scales = [2.0 ** -(int(s) + 8) for s in exact.gain_shifts]
        self._columns = _gain_columns(network)

    def conditioning(self, quality: float) -> _Gains:
        """Tables interpolated to `quality`, a multiple of 1/256."""
        self.config.lambda_of(quality)
        steps = round((quality - 1) * QUALITY_STEPS)
        low = min(steps // QUALITY_STEPS, max(len(self._gains) - 2, 0))
        part = steps - low * QUALITY_STEPS
        high = min(low + 1, len(self._gains) - 1)
        row = (QUALITY_STEPS - part) * self._gains[low] + part * self._gains[high]
        return _Gains(*(t * s for t, s in zip(row.split(self._columns), self._gain_scales, strict=True)))

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
        row = (scale.double() * _SCALE + offset).round_().clamp_(0, SCALE_LEVELS - 1)
        support = _Support(state, hidden.round())
        return SlicePrior(mean.float().permute(0, 3, 1, 2), row.permute(0, 3, 1, 2), support)

    def scale_index(self, scale: Tensor) -> Tensor:
        return scale.to(torch.int64)

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
        """Float32 as IEEE has it: no TF32, no bfloat16, no autocast, whatever the caller has set.

        Raises:
            OptionError: this machine multiplies matrices of float32 in something less.
        """
        before = torch.get_float32_matmul_precision()
        device = self._gains.device
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.autocast(device.type, enabled=False):
                _check_arithmetic(device)
                yield
        finally:
            torch.set_float32_matmul_precision(before)


def _check_arithmetic(device: torch.device) -> None:
    """A product whose exact sums need all 24 bits; environment variables can put bfloat16 in the place of float32."""
    x = torch.full((64, 128), float(LIMIT), device=device)
    w = torch.full((64, 128), 64.0, device=device) + torch.eye(64, 128, device=device)
    if not bool((F.linear(x, w) == LIMIT * (64 * 128 + 1)).all()):
        raise OptionError(
            f"matrices of float32 are multiplied with reduced precision on {device} (perhaps DNNL_DEFAULT_FPMATH_MODE "
            "or a build with fast math); unset it, exact decoding needs IEEE float32"
        )


def _gain_columns(network: LiteDCAE) -> list[int]:
    m, n, c = network.config.latent_channels, network.config.hyper_channels, network.config.context_width
    return [n, m, m, m, c, c]


def check(network: LiteDCAE, exact: ExactTensors) -> None:
    """Refuse what could make a sum inexact; the proof that the arithmetic is exact, computed from the weights.

    Raises:
        ModelFileError: see above.
    """
    found = maps(network)
    rows = [m.weight.shape[0] for m in found.values()]
    anchors, columns = len(network.config.lambdas), sum(_gain_columns(network))
    slices, heads = len(network.config.slices), network._network(0).attention.heads
    entries, width = network.dictionary.shape
    shapes: list[tuple[int, ...]] = [
        (len(sites(network)),), (sum(rows),), (slices, entries, width), (slices, heads, entries), (), (LOGITS,),
        (anchors, columns), (6,),
    ]  # fmt: skip
    kinds = (torch.int8, torch.int8, torch.int16, torch.int8, torch.int8, torch.int32, torch.int32, torch.int8)
    for name, tensor, shape, kind in zip(ExactTensors._fields, exact, shapes, kinds, strict=True):
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise ModelFileError(f"exact.{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}")
        if (kind == torch.int8 and int(tensor.min()) < -16) or (kind == torch.int8 and int(tensor.max()) > 24):
            raise ModelFileError(f"exact.{name} is out of range")
    fractions = dict(zip(sites(network), exact.fractions.tolist(), strict=True))
    for (name, module), shifts in zip(found.items(), exact.shifts.split(rows), strict=True):
        scale = _power(shifts.int()).to(module.weight.device)
        weight = module.weight.detach().double().flatten(1) * scale[:, None]
        bias = torch.zeros(()) if module.bias is None else module.bias.detach().double()
        bias = bias.to(scale) * scale * 2.0 ** fractions[name]
        if not (_whole(weight) and _whole(bias)):
            raise ModelFileError(f"the weights of {name} are not on their grid")
        if float((weight.abs().sum(1) * LIMIT + bias.abs()).max()) > EXACT:
            raise ModelFileError(f"the weights of {name} are too large for exact sums")
        if streams(name) and int(shifts.min()) + fractions[name] < STATE + 1:
            raise ModelFileError(f"the weights of {name} are too coarse")
    keys = exact.keys.double().abs().reshape(slices, entries, heads, width // heads).sum(-1)
    if float(keys.max()) * DictionaryAttention.CLAMP * 2**QUERY > EXACT:
        raise ModelFileError("the dictionary's keys are too large for exact sums")
    values = network.dictionary.detach().double() * 2.0 ** int(exact.value_shift)
    # Rounding can add half to each weight of the softmax.
    if not _whole(values) or float(values.abs().max()) * (WEIGHT_ONE + entries / 2) > EXACT:
        raise ModelFileError("the dictionary is not on its grid, or too large for exact sums")
    if int(exact.exponentials.min()) < 0 or int(exact.exponentials.max()) * entries > EXACT:
        raise ModelFileError("the table of exponentials is out of range")
    if int(exact.exponentials[0]) < 1:
        raise ModelFileError("the table of exponentials begins with nothing")
    if max(int(exact.gains.max()), -int(exact.gains.min())) > 1 << TABLE_BITS:  # int32 has no |-2**31|
        raise ModelFileError("a gain table is out of range")


def _whole(values: Tensor) -> bool:
    return bool((values == values.round()).all())


def exponentials(entries: int) -> Tensor:
    """2**16 exp(-k / 2**LOGIT), rounded, for k below LOGITS; a smaller power where so many could exceed `EXACT`."""
    bits = min(16, 24 - math.ceil(math.log2(max(entries, 1))))
    return torch.from_numpy(np.round(2**bits * np.exp(-np.arange(LOGITS) / 2**LOGIT)).astype(np.int32))
