"""Pieces of exact arithmetic: the blocks of `dcae/networks/exact_ready.py` in integers. `exact.py` joins them."""

from __future__ import annotations

from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.entropy.exact_bounds import GATE, LIMIT, LOGIT, LOGITS, QUERY, STATE, STATE_LIMIT, WEIGHT_ONE
from dcae.entropy.exact_tensors import ExactTensors, power, sites
from dcae.networks.band_tensors import pieces
from dcae.networks.exact_ready import ConvLayer, Depthwise, DictionaryAttention, ExactReady, GatedUnit


def enter(state: Tensor, fraction: int) -> Tensor:
    """Input of a map, at most ±`LIMIT` with `fraction` fractional bits, from the state, which has `STATE` of them."""
    return torch.mul(state, 2.0 ** (fraction - STATE)).round_().clamp_(-LIMIT, LIMIT)


CARRIER: ContextVar[torch.dtype] = ContextVar("carrier", default=torch.float32)
"""Type that matrices are multiplied in, float32 or float64; the integers are the same in both."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    carrier = CARRIER.get()
    return F.linear(x.to(carrier), weight.to(carrier), None if bias is None else bias.to(carrier)).float()


def product(a: Tensor, b: Tensor) -> Tensor:
    carrier = CARRIER.get()
    return torch.matmul(a.to(carrier), b.to(carrier)).float()


class Map:
    """A linear map of integers; its result, not yet rounded, is exact."""

    def __init__(self, weight: Tensor, bias: Tensor | None, fraction: int, out: int | Tensor) -> None:
        """out: fractional bits of the result, for all rows or each (rows, 1)."""
        # Rounded weights and biases are integers over powers of two; so are their multiples.
        self.weight = weight * power(out - fraction).to(weight)
        self.bias = None if bias is None else bias * power(out).to(bias).reshape(-1)

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Parts:
    """Builds the pieces, by the names of their modules."""

    def __init__(self, network: ExactReady, exact: ExactTensors) -> None:
        self.names = {module: name for name, module in network.named_modules()}
        self.fractions = dict(zip(sites(network), exact.fractions.tolist(), strict=True))

    def fraction(self, module: nn.Module) -> int:
        return self.fractions[self.names[module]]

    def map(self, module: nn.Linear, out: int | Tensor) -> Map:
        return Map(module.weight, module.bias, self.fraction(module), out)


class ExactDepthwise:
    """3x3 depthwise convolution, zero padding, as nine shifted multiply-adds: no library's fast algorithm has a say."""

    def __init__(self, parts: Parts, module: Depthwise, out: int) -> None:
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


class ExactGatedUnit:
    def __init__(self, parts: Parts, unit: GatedUnit) -> None:
        self.fraction = parts.fraction(unit.fc1)
        value = parts.fractions[parts.names[unit.fc1] + ".value"]
        hidden = unit.fc2.in_features
        out = torch.tensor([GATE] * hidden + [value] * hidden)[:, None]
        self.fc1 = parts.map(unit.fc1, out)
        self.product = 2.0 ** (parts.fraction(unit.fc2) - GATE - value)
        self.fc2 = parts.map(unit.fc2, STATE)
        self.bound = GatedUnit.BOUND * 2**GATE

    def __call__(self, state: Tensor) -> Tensor:
        flat = state.reshape(-1, state.shape[-1])
        for part in pieces(flat):
            gate, value = self.fc1(enter(part, self.fraction)).round_().chunk(2, -1)
            gate.clamp_(0, self.bound).mul_(value.clamp_(-2 * LIMIT, 2 * LIMIT))
            product = gate.mul_(self.product).round_().clamp_(-LIMIT, LIMIT)
            part.add_(self.fc2(product).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT)
        return flat.reshape(state.shape)


class ExactConvLayer:
    def __init__(self, parts: Parts, layer: ConvLayer) -> None:
        self.fraction = parts.fraction(layer.fc1)
        self.fc1 = parts.map(layer.fc1, parts.fraction(layer.depthwise))
        self.depthwise = ExactDepthwise(parts, layer.depthwise, parts.fraction(layer.fc2))
        self.fc2 = parts.map(layer.fc2, STATE)
        self.unit = ExactGatedUnit(parts, layer.unit)

    def __call__(self, state: Tensor) -> Tensor:
        x = self.fc1(enter(state, self.fraction)).round_().clamp_(0, LIMIT)
        x = self.depthwise(x).round_().clamp_(-LIMIT, LIMIT)
        return self.unit(state.add_(self.fc2(x).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT))


class ExactAttention:
    """Dictionary cross-attention; the softmax divides integers from a table by their sum."""

    def __init__(
        self, parts: Parts, attention: DictionaryAttention, k: int, exact: ExactTensors, values: Tensor
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
        flat = state.reshape(-1, state.shape[-1])
        for part in pieces(flat):
            self._add_to(part)
        return flat.reshape(state.shape)

    def _add_to(self, state: Tensor) -> None:
        """Attention of some positions (n, E)."""
        query = self.query(enter(state, self.fraction)).round_().clamp_(-self.limit, self.limit)
        logits = product(query.reshape(len(state), self.heads, -1).transpose(0, 1), self.keys).round_()
        below = torch.sub(logits.amax(-1, keepdim=True), logits, out=logits).clamp_(max=LOGITS - 1)
        weights = self.exponentials.index_select(0, below.to(torch.int32).reshape(-1)).reshape(below.shape)
        # A division by itself: torch would make a reciprocal, which need not be rounded correctly, of a quotient.
        weights.mul_(torch.div(self.one, weights.sum(-1, keepdim=True))).round_()
        x = product(weights, self.values).round_().clamp_(-LIMIT, LIMIT).transpose(0, 1).reshape(len(state), -1)
        state.add_(self.out(x).round_()).clamp_(-STATE_LIMIT, STATE_LIMIT)


class ExactSlice:
    """A slice network, see `dcae.networks.lite.wiring`."""

    def __init__(self, parts: Parts, network: ExactReady, k: int, exact: ExactTensors, values: Tensor) -> None:
        module = network.slice_network(k)
        self.channels = module.channels
        self.attention = ExactAttention(parts, module.attention, k, exact, values)
        self.layer = ExactConvLayer(parts, module.layer)
        self.head_fraction = parts.fraction(module.head)
        hidden = parts.fraction(module.residual_out)
        out = torch.tensor([0] * (2 * self.channels) + [hidden] * module.residual_in.out_features)[:, None]
        self.head = parts.map(module.head, out)
        self.context_fraction = parts.fraction(module.residual_in)
        self.residual_in = parts.map(module.residual_in, hidden)
        self.residual_out = parts.map(module.residual_out, 5)  # in 1/32: half of it is in 1/64
        self.extend = None if module.extend is None else parts.map(module.extend, STATE)
        self.extend_fraction = self.context_fraction if module.extend is None else parts.fraction(module.extend)
