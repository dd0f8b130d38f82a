"""What exact arithmetic needs beside the weights, and the proof that it is exact: bounds computed from the weights.

All on arrays, for every engine. See `dcae/entropy/exact.py` for the arithmetic, `dcae/entropy/exact_export.py` for how
the numbers are chosen. Maps and sites are named as the modules of a network in whose entropy model they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.networks.bounds import QUERY_BOUND
from dcae.networks.config import QUALITY_STEPS

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
SCALE_ROWS = 532576 / 2**16
"""Rows of the scale table per unit of log-scale, 1 / SCALE_STEP."""

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of a network by name, in float32."""


class ExactArrays(NamedTuple):
    """Tensors of a model file for exact arithmetic, beside the rounded weights."""

    fractions: NDArray[np.int8]
    """(sites,), fractional bits of the inputs in the order of :func:`site_names`."""
    shifts: NDArray[np.int8]
    """(rows of all maps,): a row's weights are integers over 2**shift; in the order of :func:`map_names`."""
    keys: NDArray[np.int16]
    """(slices, entries, dictionary width), integers over 2**shift; includes the softmax's 1/sqrt(channels)."""
    key_shifts: NDArray[np.int8]
    """(slices, heads, entries)."""
    value_shift: NDArray[np.int8]
    """() of the dictionary as values."""
    exponentials: NDArray[np.int32]
    """(LOGITS,), see `exact_tensors.exponentials`."""
    gains: NDArray[np.int32]
    """(anchors, columns): inverse_z, mean_gain, context_gain, scale_offset, modulation's scale and shift, and
    where there is a closed loop means_scale."""
    gain_shifts: NDArray[np.int8]
    """(tables,), of these."""


def map_names(config: Any) -> list[str]:
    """The linear maps with stored weights, in the order in which they work."""
    layer = ("fc1", "depthwise", "fc2", "unit.fc1", "unit.fc2")
    names = ["embed", *(f"layer1.{part}" for part in layer), "up1", *(f"layer2.{part}" for part in layer), "up2"]
    names = [f"h_s.{name}" for name in names]
    for k in range(slices := len(config.slices)):
        parts = ["attention.query", "attention.out", *(f"layer.{part}" for part in layer)]
        parts += ["head", "residual_in", "residual_out", *(["extend"] if k + 1 < slices else [])]
        names += [f"slice_networks.{k}.{part}" for part in parts]
    return names


def site_names(config: Any) -> list[str]:
    """Places where integers get a fraction of their own: the inputs of all maps, and the values that gates multiply."""
    return [
        site for name in map_names(config) for site in (name, *([f"{name}.value"] if name.endswith("unit.fc1") else []))
    ]


def streams(name: str) -> bool:
    """Whether the results of a map are added to the state, or become it, so that they must leave room for it."""
    return name.endswith(("embed", "fc2", "attention.out", "extend", "up1", "up2"))


def gain_columns(config: Any) -> list[int]:
    """Columns of each table of gains."""
    m, n, c = config.latent_channels, config.hyper_channels, config.context_width
    return [n, m, m, m, c, c, *([3] if config.skip_channels else [])]


class Gains(NamedTuple):
    """The gain tables at one quality, each (C,) float64; exact multiples of a power of two."""

    inverse_z: NDArray[np.float64]
    mean_gain: NDArray[np.float64]
    context_gain: NDArray[np.float64]
    scale_offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    means_scale: NDArray[np.float64] | None = None
    """(3,), where there is a closed loop."""


def gains_at(config: Any, exact: ExactArrays, quality: float) -> Gains:
    """Tables interpolated to `quality`, a multiple of 1/256.

    Raises:
        OptionError: a quality outside the configuration's.
    """
    config.lambda_of(quality)
    steps = round((quality - 1) * QUALITY_STEPS)
    low = min(steps // QUALITY_STEPS, max(len(exact.gains) - 2, 0))
    part = steps - low * QUALITY_STEPS
    high = min(low + 1, len(exact.gains) - 1)
    rows = exact.gains.astype(np.float64)
    row = (QUALITY_STEPS - part) * rows[low] + part * rows[high]
    tables = np.split(row, np.cumsum(gain_columns(config))[:-1])
    return Gains(*(t * 2.0 ** -(int(s) + 8) for t, s in zip(tables, exact.gain_shifts, strict=True)))


def check(weights: Weights, config: Any, exact: ExactArrays) -> None:
    """Refuse what could make a sum inexact; the proof that the arithmetic is exact, computed from the weights.

    Args:
        weights: of the shapes that the configuration asks for.

    Raises:
        ModelFileError: see above.
    """
    names = map_names(config)
    rows = [len(weights[f"{name}.weight"]) for name in names]
    _check_shapes(config, sum(rows), weights["dictionary"].shape, exact)
    fractions = dict(zip(site_names(config), exact.fractions.tolist(), strict=True))
    for name, shifts in zip(names, np.split(exact.shifts.astype(int), np.cumsum(rows)[:-1]), strict=True):
        _check_map(weights, name, shifts, fractions[name], int(exact.gain_shifts[3]))
    if int(exact.gain_shifts[4]) != int(exact.gain_shifts[5]):
        raise ModelFileError("scale and shift of the modulation are not on one grid")
    slices, entries, width = exact.keys.shape
    heads = exact.key_shifts.shape[1]
    keys = np.abs(exact.keys.astype(np.float64)).reshape(slices, entries, heads, width // heads).sum(-1)
    if float(keys.max()) * QUERY_BOUND * 2**QUERY > EXACT:
        raise ModelFileError("the dictionary's keys are too large for exact sums")
    values = weights["dictionary"].astype(np.float64) * 2.0 ** int(exact.value_shift)
    # Rounding can add half to each weight of the softmax.
    if not _whole(values) or not float(np.abs(values).max()) * (WEIGHT_ONE + entries / 2) <= EXACT:
        raise ModelFileError("the dictionary is not on its grid, or too large for exact sums")
    if int(exact.exponentials.min()) < 0 or int(exact.exponentials.max()) * entries > EXACT:
        raise ModelFileError("the table of exponentials is out of range")
    if int(exact.exponentials[0]) < 1:
        raise ModelFileError("the table of exponentials begins with nothing")
    if max(int(exact.gains.max()), -int(exact.gains.min())) > 1 << TABLE_BITS:  # int32 has no |-2**31|
        raise ModelFileError("a gain table is out of range")


def _check_shapes(config: Any, rows: int, dictionary: tuple[int, ...], exact: ExactArrays) -> None:
    anchors, columns = len(config.lambdas), gain_columns(config)
    slices, heads = len(config.slices), config.dictionary_width // config.head_channels
    entries, width = dictionary
    shapes: list[tuple[int, ...]] = [
        (len(site_names(config)),), (rows,), (slices, entries, width), (slices, heads, entries), (), (LOGITS,),
        (anchors, sum(columns)), (len(columns),),
    ]  # fmt: skip
    kinds = (np.int8, np.int8, np.int16, np.int8, np.int8, np.int32, np.int32, np.int8)
    arrays: tuple[NDArray[Any], ...] = exact
    for name, array, shape, kind in zip(ExactArrays._fields, arrays, shapes, kinds, strict=True):
        if array.shape != shape or array.dtype != kind:
            raise ModelFileError(f"exact.{name} has shape {array.shape} and type {array.dtype}")
        if kind == np.int8 and not -16 <= int(array.min()) <= int(array.max()) <= 24:
            raise ModelFileError(f"exact.{name} is out of range")


def _check_map(weights: Weights, name: str, shifts: NDArray[np.int_], fraction: int, offset_shift: int) -> None:
    """Bounds of one map, given the shifts of its rows (rows,) and its input's fraction."""
    stored = weights[f"{name}.weight"]
    scale = np.ldexp(1.0, shifts)
    weight = stored.reshape(len(stored), -1).astype(np.float64) * scale[:, None]
    bias = weights.get(f"{name}.bias", np.zeros(1, np.float32)).astype(np.float64) * scale * 2.0**fraction
    if not (_whole(weight) and _whole(bias)):
        raise ModelFileError(f"the weights of {name} are not on their grid")
    if float((np.abs(weight).sum(1) * LIMIT + np.abs(bias)).max()) > EXACT:
        raise ModelFileError(f"the weights of {name} are too large for exact sums")
    if streams(name) and int(shifts.min()) + fraction < STATE + 1:
        raise ModelFileError(f"the weights of {name} are too coarse")
    # So that the predicted scale and its offset add up below 2**53.
    if name.endswith(".head") and int(np.abs(shifts + fraction - offset_shift).max()) > 16:
        raise ModelFileError(f"the weights of {name} do not fit the scale offsets")


def _whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.rint(values)).all())


def exponentials(entries: int) -> NDArray[np.int32]:
    """2**16 exp(-k / 2**LOGIT), rounded, for k below LOGITS; a smaller power where so many could exceed `EXACT`."""
    bits = min(16, 24 - math.ceil(math.log2(max(entries, 1))))
    return np.round(2**bits * np.exp(-np.arange(LOGITS) / 2**LOGIT)).astype(np.int32)
