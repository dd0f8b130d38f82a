"""Tensors that a model file holds for exact arithmetic, and the proof that it is exact: bounds from the weights.

See `dcae/entropy/exact.py` for the arithmetic, `dcae/entropy/exact_export.py` for how the numbers are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dcae.errors import ModelFileError
from dcae.networks.exact_ready import Depthwise, DictionaryAttention, ExactReady

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
"""Sum of the weights of a softmax, but for rounding."""
TABLE_BITS = 20
"""Bits of the largest entry of a gain table."""


class ExactTensors(NamedTuple):
    """Tensors of a model file for exact arithmetic, beside the rounded weights."""

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
    """(anchors, columns) int32: inverse_z, mean_gain, context_gain, scale_offset, modulation's scale and shift, and
    where there is a closed loop means_scale."""
    gain_shifts: Tensor
    """(tables,) int8, of these."""


def maps(network: ExactReady) -> dict[str, nn.Linear | Depthwise]:
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


def _named(network: ExactReady, part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    prefix = next(name for name, module in network.named_children() if module is part)
    return part.named_modules(prefix=prefix)


def sites(network: ExactReady) -> list[str]:
    """Places where integers get a fraction of their own: the inputs of all maps, and the values that gates multiply."""
    return [site for name in maps(network) for site in (name, *_value_site(name))]


def _value_site(name: str) -> list[str]:
    return [f"{name}.value"] if name.endswith("unit.fc1") else []


def power(exponents: int | Tensor) -> Tensor:
    """Exact powers of two, float64; `torch.exp2` may be off by a unit."""
    return torch.as_tensor(np.ldexp(1.0, torch.as_tensor(exponents).cpu().numpy()))


def gain_columns(network: ExactReady) -> list[int]:
    """Columns of each table of gains."""
    m, n, c = network.config.latent_channels, network.config.hyper_channels, network.config.context_width
    return [n, m, m, m, c, c, *([3] if network.closed_loop else [])]


def check(network: ExactReady, exact: ExactTensors) -> None:
    """Refuse what could make a sum inexact; the proof that the arithmetic is exact, computed from the weights.

    Raises:
        ModelFileError: see above.
    """
    found = maps(network)
    rows = [m.weight.shape[0] for m in found.values()]
    anchors, columns = len(network.config.lambdas), gain_columns(network)
    slices, heads = len(network.config.slices), network.slice_network(0).attention.heads
    entries, width = network.dictionary.shape
    shapes: list[tuple[int, ...]] = [
        (len(sites(network)),), (sum(rows),), (slices, entries, width), (slices, heads, entries), (), (LOGITS,),
        (anchors, sum(columns)), (len(columns),),
    ]  # fmt: skip
    kinds = (torch.int8, torch.int8, torch.int16, torch.int8, torch.int8, torch.int32, torch.int32, torch.int8)
    for name, tensor, shape, kind in zip(ExactTensors._fields, exact, shapes, kinds, strict=True):
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise ModelFileError(f"exact.{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}")
        if (kind == torch.int8 and int(tensor.min()) < -16) or (kind == torch.int8 and int(tensor.max()) > 24):
            raise ModelFileError(f"exact.{name} is out of range")
    fractions = dict(zip(sites(network), exact.fractions.tolist(), strict=True))
    for (name, module), shifts in zip(found.items(), exact.shifts.split(rows), strict=True):
        scale = power(shifts.int()).to(module.weight.device)
        weight = module.weight.detach().double().flatten(1) * scale[:, None]
        bias = torch.zeros(()) if module.bias is None else module.bias.detach().double()
        bias = bias.to(scale) * scale * 2.0 ** fractions[name]
        if not (_whole(weight) and _whole(bias)):
            raise ModelFileError(f"the weights of {name} are not on their grid")
        if float((weight.abs().sum(1) * LIMIT + bias.abs()).max()) > EXACT:
            raise ModelFileError(f"the weights of {name} are too large for exact sums")
        if streams(name) and int(shifts.min()) + fractions[name] < STATE + 1:
            raise ModelFileError(f"the weights of {name} are too coarse")
        # So that the predicted scale and its offset add up below 2**53.
        apart = (shifts.int() + fractions[name] - int(exact.gain_shifts[3])).abs()
        if name.endswith(".head") and int(apart.max()) > 16:
            raise ModelFileError(f"the weights of {name} do not fit the scale offsets")
    if int(exact.gain_shifts[4]) != int(exact.gain_shifts[5]):
        raise ModelFileError("scale and shift of the modulation are not on one grid")
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
