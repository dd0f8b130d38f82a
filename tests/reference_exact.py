"""The exact arithmetic of docs/format.md once more, in integers, written from the document, not from `dcae.entropy`.

Integers are NumPy's int64, positions are (rows, columns, channels). Slow, and only NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def rnd(n: Any, bits: int) -> Any:
    """n / 2**bits to the nearest integer, halves to even."""
    if bits <= 0:
        return n << -bits
    low, half = n & ((1 << bits) - 1), 1 << (bits - 1)
    floor = n >> bits
    return floor + ((low > half) | ((low == half) & (floor & 1 == 1)))


class Map:
    """One linear map: integer weights and biases, shifts per row, fractional bits of the input."""

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any] | None, shifts: NDArray[Any], fraction: int) -> None:
        self.shifts, self.fraction = shifts.astype(np.int64), fraction
        rows = weight.reshape(len(weight), -1).astype(np.float64)
        self.weight = (rows * 2.0 ** self.shifts[:, None]).astype(np.int64)
        assert (self.weight == rows * 2.0 ** self.shifts[:, None]).all()
        self.bias = np.zeros(len(weight), np.int64)
        if bias is not None:
            scaled = bias.astype(np.float64) * 2.0 ** (self.shifts + fraction)
            self.bias = scaled.astype(np.int64)
            assert (self.bias == scaled).all()
        assert (2047 * np.abs(self.weight).sum(1) + np.abs(self.bias)).max() <= 2**24

    def enter(self, state: Ints) -> Ints:
        return np.clip(rnd(state, 12 - self.fraction), -2047, 2047)

    def result(self, x: Ints) -> Ints:
        assert np.abs(x).max() <= 2047
        return x @ self.weight.T + self.bias

    def depthwise(self, x: Ints) -> Ints:
        rows, columns, channels = x.shape
        padded = np.zeros((rows + 2, columns + 2, channels), np.int64)
        padded[1:-1, 1:-1] = x
        total = np.broadcast_to(self.bias, x.shape).copy()
        for i in range(3):
            for j in range(3):
                total += padded[i : i + rows, j : j + columns] * self.weight[:, 3 * i + j]
        return total

    def to(self, result: Ints, bits: int, rows: slice = slice(None)) -> Ints:
        columns = [rnd(result[..., k], int(shift) + self.fraction - bits) for k, shift in enumerate(self.shifts[rows])]
        return np.stack(columns, -1)


def add(state: Ints, result: Ints) -> Ints:
    return np.clip(state + result, -(2**22), 2**22)


class ReferenceEntropyModel:
    """From the tensors of a model file and its configuration."""

    def __init__(self, tensors: dict[str, NDArray[Any]], config: dict[str, Any]) -> None:
        self.config = config
        self.exact = {n.removeprefix("exact."): v for n, v in tensors.items() if n.startswith("exact.")}
        self.dictionary = tensors["network.dictionary"].astype(np.float64)
        self.median = (tensors["z_median"].astype(np.float64) * 64).astype(np.int64)
        self.maps: dict[str, Map] = {}
        self.value_fractions: dict[str, int] = {}
        fractions, shifts = iter(self.exact["fractions"].tolist()), self.exact["shifts"]
        at = 0
        for name in self._names():
            weight = tensors[f"network.{name}.weight"]
            fraction = next(fractions)
            if name.endswith("unit.fc1"):
                self.value_fractions[name] = next(fractions)
            bias = tensors.get(f"network.{name}.bias")
            self.maps[name] = Map(weight, bias, shifts[at : at + len(weight)], fraction)
            at += len(weight)
        assert at == len(shifts)

    def _names(self) -> Iterator[str]:
        layer = ("fc1", "depthwise", "fc2", "unit.fc1", "unit.fc2")
        yield "h_s.embed"
        yield from (f"h_s.layer1.{part}" for part in layer)
        yield "h_s.up1"
        yield from (f"h_s.layer2.{part}" for part in layer)
        yield "h_s.up2"
        slices = len(self.config["slices"])
        for k in range(slices):
            parts = ["attention.query", "attention.out", *(f"layer.{part}" for part in layer)]
            parts += ["head", "residual_in", "residual_out", *(["extend"] if k + 1 < slices else [])]
            yield from (f"slice_networks.{k}.{part}" for part in parts)

    def gains(self, quality: int) -> list[tuple[Ints, int]]:
        """(entries, fractional bits) of the tables."""
        tables = self.exact["gains"].astype(np.int64)
        t = quality - 256
        low = max(min(t // 256, len(tables) - 2), 0)
        p = t - 256 * low
        row = (256 - p) * tables[low] + (p * tables[low + 1] if len(tables) > 1 else 0)
        n, m, c = self.config["hyper_channels"], sum(self.config["slices"]), self.config["context_width"]
        ends = np.cumsum([n, m, m, m, c, c, *([3] if self.config.get("skip_channels") else [])])
        bits = [int(s) + 8 for s in self.exact["gain_shifts"]]
        return list(zip(np.split(row, ends[:-1]), bits, strict=True))

    def conv_layer(self, state: Ints, prefix: str) -> Ints:
        fc1, depthwise, fc2 = (self.maps[f"{prefix}.{part}"] for part in ("fc1", "depthwise", "fc2"))
        unit1, unit2 = self.maps[f"{prefix}.unit.fc1"], self.maps[f"{prefix}.unit.fc2"]
        x = np.clip(fc1.to(fc1.result(fc1.enter(state)), depthwise.fraction), 0, 2047)
        x = np.clip(depthwise.to(depthwise.depthwise(x), fc2.fraction), -2047, 2047)
        state = add(state, fc2.to(fc2.result(x), 12))
        result = unit1.result(unit1.enter(state))
        half, v_bits = result.shape[-1] // 2, self.value_fractions[f"{prefix}.unit.fc1"]
        gate = np.clip(unit1.to(result[..., :half], 9, slice(0, half)), 0, 2048)
        value = np.clip(unit1.to(result[..., half:], v_bits, slice(half, None)), -4094, 4094)
        x = np.clip(rnd(gate * value, 9 + v_bits - unit2.fraction), -2047, 2047)
        return add(state, unit2.to(unit2.result(x), 12))

    def attention(self, state: Ints, k: int) -> Ints:
        query, out = (self.maps[f"slice_networks.{k}.attention.{part}"] for part in ("query", "out"))
        x = np.clip(query.to(query.result(query.enter(state)), 8), -2048, 2048)
        heads = self.exact["key_shifts"].shape[1]
        keys = np.split(self.exact["keys"][k].astype(np.int64), heads, 1)
        v_bits = int(self.exact["value_shift"])
        values = np.split((self.dictionary * 2.0**v_bits).astype(np.int64), heads, 1)
        found = []
        for head, part in enumerate(np.split(x, heads, -1)):
            dots = part @ keys[head].T
            shifts = self.exact["key_shifts"][k, head]
            c = np.stack([rnd(dots[..., j], 8 + int(s) - 7) for j, s in enumerate(shifts)], -1)
            e = self.exact["exponentials"][np.minimum(c.max(-1, keepdims=True) - c, 2047)].astype(np.float32)
            total = e.sum(-1, keepdims=True, dtype=np.float64).astype(np.float32)
            a = np.rint(e * (np.float32(4096) / total)).astype(np.int64)
            found.append(np.clip(rnd(a @ values[head], 12 + v_bits - out.fraction), -2047, 2047))
        return add(state, out.to(out.result(np.concatenate(found, -1)), 12))

    def hyper_synthesis(self, z: Ints, quality: int) -> Ints:
        """z (N, h, w) symbols -> state (4h, 4w, E)."""
        embed, up1, up2 = (self.maps[f"h_s.{part}"] for part in ("embed", "up1", "up2"))
        (inverse, bits), _, _, _, (scale, scale_bits), (shift, shift_bits) = self.gains(quality)[:6]
        z64 = 64 * z.transpose(1, 2, 0) + self.median
        x = np.clip(rnd(z64 * inverse, 6 + bits - embed.fraction), -2047, 2047)
        state = self.conv_layer(embed.to(embed.result(x), 12), "h_s.layer1")
        state = self.conv_layer(spread(up1.to(up1.result(up1.enter(state)), 12)), "h_s.layer2")
        state = spread(up2.to(up2.result(up2.enter(state)), 12))
        common = max(scale_bits, shift_bits)
        total = (state * scale << (common - scale_bits)) + (shift << (12 + common - shift_bits))
        return np.clip(rnd(total, common), -(2**22), 2**22)

    def slice_prior(self, k: int, state: Ints, quality: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Means in 1/64 and table rows, both (C, h, w); the new state; what the residual takes from it."""
        state = self.conv_layer(self.attention(state, k), f"slice_networks.{k}.layer")
        head, residual = self.maps[f"slice_networks.{k}.head"], self.maps[f"slice_networks.{k}.residual_out"]
        result, channels = head.result(head.enter(state)), self.config["slices"][k]
        columns = self._columns(k)
        (gain, gain_bits), (offset, offset_bits) = self.gains(quality)[1], self.gains(quality)[3]
        gain, offset = gain[columns], offset[columns]
        mean, row = [], []
        for c in range(channels):
            bits = int(head.shifts[c]) + head.fraction
            mean.append(np.clip(rnd(result[..., c] * gain[c], bits + gain_bits - 6), -(2**21), 2**21))
            bits = int(head.shifts[channels + c]) + head.fraction + 16
            common = max(bits, offset_bits)
            total = (result[..., channels + c] * SCALE << (common - bits)) + (int(offset[c]) << (common - offset_bits))
            row.append(np.clip(rnd(total, common), 0, 63))
        hidden = head.to(result[..., 2 * channels :], residual.fraction, slice(2 * channels, None))
        return np.stack(mean), np.stack(row), state, hidden

    def _columns(self, k: int) -> slice:
        start = sum(self.config["slices"][:k])
        return slice(start, start + self.config["slices"][k])

    def _context(self, k: int, y: Ints, quality: int, fraction: int) -> Ints:
        gain, bits = self.gains(quality)[2]
        return np.clip(rnd(y.transpose(1, 2, 0) * gain[self._columns(k)], 6 + bits - fraction), -2047, 2047)

    def latent_residual(self, k: int, hidden: Ints, y: Ints, quality: int) -> Ints:
        """ŷ in 1/64 (C, h, w), before and after."""
        first, second = (self.maps[f"slice_networks.{k}.residual_{part}"] for part in ("in", "out"))
        x = first.to(first.result(self._context(k, y, quality, first.fraction)), second.fraction)
        x = np.clip(x + hidden, 0, 2047)
        return y + np.clip(second.to(second.result(x), 5), -32, 32).transpose(2, 0, 1)

    def means_rows(self, quality: int) -> Ints:
        """(3,) table rows of a closed loop's block means."""
        scale, bits = self.gains(quality)[6]
        return np.clip(rnd(scale, bits), 0, 63)

    def extend(self, k: int, state: Ints, y: Ints, quality: int) -> Ints:
        extend = self.maps[f"slice_networks.{k}.extend"]
        x = self._context(k, y, quality, extend.fraction)
        return add(state, extend.to(extend.result(x), 12))


SCALE = 532576
"""In units of 2**-16, what one unit of log-scale is in rows of the table."""


def spread(x: Ints) -> Ints:
    """(h, w, 4c) -> (2h, 2w, c)."""
    h, w, channels = x.shape
    out = np.empty((2 * h, 2 * w, channels // 4), np.int64)
    for i in range(2):
        for j in range(2):
            k = 2 * i + j
            out[i::2, j::2] = x[..., k * (channels // 4) : (k + 1) * (channels // 4)]
    return out
