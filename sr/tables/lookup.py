"""Look-up of one unit in integers: interpolation between the vertices of a simplex, many pixels at a time.

All outputs of an entry lie in lanes of 64-bit words, so that one gather and one multiplication serve several of them.
Lanes hold a value + 128; they are wide enough for every sum that is formed in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.sr.tables.layout import TableSet
from dcae.sr.tables.simplex import Simplex

Integers = NDArray[np.signedinteger[Any]]
Words = NDArray[np.uint64]

BIAS = 128


def lane_bits(sum_of_weights: int) -> int:
    """Width of lanes that hold weighted sums of bytes."""
    return next(bits for bits in (16, 32, 64) if sum_of_weights * (2 * BIAS - 1) < 1 << bits)


class Lookup:
    """A unit's tables, ready for look-up.

    Args:
        tables: of one unit.
        near: entries at full sampling that the part near the diagonal holds, where the table has parts.
        simplex: geometry of the table.
        additions: number of look-ups that are added up in words.
    """

    def __init__(self, tables: TableSet, near: NDArray[np.intp] | None, simplex: Simplex, additions: int = 1) -> None:
        self.simplex = simplex
        self.dtype: type[np.int32] | type[np.int64] = np.int32 if simplex.small else np.int64
        """Type of the inputs."""
        values = joined(tables, near, simplex.entries)
        self.outputs = values.shape[1]
        # In the wrong order one weight may be negative, and a sum as well; lanes start above zero then.
        self._start = 2 * BIAS * simplex.divisor * additions if simplex.wrong_order else 0
        self.bits = lane_bits(simplex.divisor * additions * (3 if simplex.wrong_order else 1))
        self._words = _packed(values, self.bits)

    def __call__(self, values: Sequence[Integers], words: list[Words]) -> None:
        """Add the weighted entries of every pixel to `words`.

        Args:
            values: of each input, 0...255 with the geometry's bits after the point, arrays of one shape and of
                :attr:`dtype`.
            words: as :meth:`zeros` makes them.
        """
        base, _, ordered = self.simplex.sorted_keys(values, np)
        for entry, weight in self.simplex.vertices(base, ordered):
            weight = weight.astype(np.uint64)  # a negative one is right modulo 2^64
            for own, table in zip(words, self._words, strict=True):
                found = table.take(entry)
                found *= weight
                own += found

    def zeros(self, shape: tuple[int, ...]) -> list[Words]:
        """Words to add to, each of that shape."""
        lane = np.full(64 // self.bits, self._start, f"u{self.bits // 8}").view(np.uint64)[0]
        return [np.full(shape, lane) for _ in self._words]

    def unpacked(self, words: list[Words], additions: int) -> Integers:
        """(outputs, ...) sums of weighted entries, out of words to which so many look-ups were added."""
        lanes, weights = 64 // self.bits, self.simplex.divisor * additions
        split = [word.view(f"u{self.bits // 8}").reshape(*word.shape, lanes) for word in words]
        dtype: type[np.signedinteger[Any]] = np.int32 if weights < 1 << 16 else np.int64
        found: Integers = np.empty((self.outputs, *words[0].shape), dtype)
        for k, own in enumerate(found):
            lane = split[k // lanes][..., k % lanes]
            np.subtract(lane, BIAS * weights + self._start, out=own, dtype=dtype, casting="unsafe")
        return found


def joined(tables: TableSet, near: NDArray[np.intp] | None, entries: int) -> NDArray[np.int8]:
    """(entries, outputs) of the full table, or of both parts one after the other, the first with gaps filled up.

    Entries in the gaps are read with weight 0 alone.
    """
    if tables.full is not None:
        return tables.full
    assert tables.diagonal is not None and tables.coarse is not None and near is not None
    fine = np.zeros((entries, tables.diagonal.shape[1]), np.int8)
    fine[near] = tables.diagonal
    return np.concatenate([fine, tables.coarse])


def _packed(values: NDArray[np.int8], bits: int) -> list[Words]:
    """Words, each (entries,), with as many outputs as they have lanes."""
    lanes = 64 // bits
    count = -(-values.shape[1] // lanes)
    padded = np.zeros((count, len(values), lanes), f"u{bits // 8}")
    for k in range(values.shape[1]):
        padded[k // lanes, :, k % lanes] = values[:, k].astype(np.int64) + BIAS
    return [words.view(np.uint64).reshape(-1) for words in padded]
