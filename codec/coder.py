"""Range coding of symbol arrays against frozen tables, on constriction's range coder.

Symbols of one array are grouped by table row, since constriction codes an array under one model at once: rows in
increasing order, within a row the array's order. A symbol at the end of its row means "this or beyond" and the
excess, 0 to 65535, follows in 16 flat bits after the array.

constriction quantises the weights w to floor(cumsum(w)·(2**24 - n) / sum(w)) + position. Weights of frequency - 1,
which add up to 2**24 - n, come out as the integer frequencies themselves, exactly (tests check this against an
independent decoder).
"""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from dcae.entropy.tables import PRECISION, Tables
from dcae.errors import FileFormatError
from dcae.runtime.protocol import Floats

Rows = NDArray[np.uint8] | NDArray[np.uint16]
"""Table rows, one per symbol."""
MAX_EXCESS = 0xFFFF
_PART = 1 << 18
_EXCESS_MODEL = constriction.stream.model.Uniform(MAX_EXCESS + 1)


class SymbolTables:
    """Tables prepared for coding, constriction's models built when first used; encoders and decoders share one."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._starts = tables.starts
        self._models: dict[int, constriction.stream.model.Categorical] = {}
        self._bits = PRECISION - np.log2(tables.frequencies)

    def model(self, row: int) -> constriction.stream.model.Categorical:
        if row not in self._models:
            frequencies = self.tables.frequencies[self._starts[row] : self._starts[row + 1]]
            weights = (frequencies - 1).astype(np.float64)
            self._models[row] = constriction.stream.model.Categorical(weights, perfect=False)
        return self._models[row]

    def clamp(self, symbols: NDArray[np.int32], rows: Rows) -> NDArray[np.int32]:
        """Symbols as far as they can be coded, escapes included."""
        found = np.empty_like(symbols)
        for part in _parts(len(symbols)):
            low = self.tables.offsets[rows[part]]
            high = low + self.tables.lengths[rows[part]] - 1
            found[part] = np.clip(symbols[part], low - MAX_EXCESS, high + MAX_EXCESS)
        return found

    def bits(self, rows: Rows, index: NDArray[np.int32]) -> float:
        """What the entries `index` (n,) of rows (n,) cost together; no stream takes less for them."""
        return float(self._bits[self._starts[rows] + index].sum())

    def worthwhile(self, values: Floats, rows: Rows, worth: Floats | np.float32) -> NDArray[np.int32]:
        """(n,) symbols for n `values`: each rounded, or the next smaller one, or zero, as error and rate together are
        least (rate-distortion optimised quantisation).

        Args:
            values: n numbers in any shape, in steps from what is predicted.
            rows: (n,) table row of each.
            worth: bits that a squared error of one step is worth, in a shape that broadcasts to that of `values`.
        """
        each = np.broadcast_to(np.asarray(worth, np.float32), values.shape).reshape(-1)
        values = values.reshape(-1)
        found = np.empty(len(values), np.int32)
        for part in _parts(len(values)):
            found[part] = self._worthwhile(values[part], rows[part], each[part])
        return found

    def _worthwhile(self, values: Floats, rows: Rows, worth: Floats) -> NDArray[np.int32]:
        def cost(symbols: Floats) -> Floats:
            index = np.nan_to_num(symbols - self.tables.offsets[rows]).clip(0, self.tables.lengths[rows] - 1)
            return worth * (values - symbols) ** 2 + self._bits[self._starts[rows] + index.astype(np.intp)]

        with np.errstate(all="ignore"):  # infinities and NaN, which damaged weights may give, become some number
            rounded = np.rint(values).clip(-(2**30), 2**30)
            some = np.flatnonzero(rounded)  # to most there is nothing smaller
            values, rows, worth, best = values[some], rows[some], worth[some], rounded[some]
            lowest = cost(best)
            for smaller in (best - np.sign(best), np.zeros_like(best)):
                found = cost(smaller)
                best, lowest = np.where(found < lowest, smaller, best), np.minimum(found, lowest)
            rounded[some] = best
            return rounded.astype(np.int32)

    def least_bits(self) -> NDArray[np.float64]:
        """(rows,) what the cheapest symbol of each row costs; no encoder's stream is shorter than their sum."""
        return np.minimum.reduceat(self._bits, self._starts[:-1])


def _parts(count: int) -> Iterator[slice]:
    """So many numbers in parts, for what takes several times the memory of what it gives."""
    for begin in range(0, count, _PART):
        yield slice(begin, begin + _PART)


def _groups(rows: Rows) -> tuple[NDArray[np.intp], list[tuple[int, int, int]]]:
    """Stable order by row, and (row, begin, end) of each group in that order."""
    order = np.argsort(rows, kind="stable")  # a radix sort for at most 16 bits
    ends = np.cumsum(np.bincount(rows, minlength=1))
    begins = np.concatenate([[0], ends[:-1]])
    return order, [(r, int(b), int(e)) for r, (b, e) in enumerate(zip(begins, ends, strict=True)) if b < e]


class SymbolEncoder:
    """Collects arrays of symbols into one stream."""

    def __init__(self, tables: SymbolTables) -> None:
        self._rows = tables
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: NDArray[np.int32], rows: Rows) -> None:
        """Append `symbols` (n,), each under its table row (n,). They must be `SymbolTables.clamp`-ed."""
        order, groups = _groups(rows)
        ordered, tables = symbols[order], self._rows.tables
        excess = []
        # The calls of NumPy are for many rows at once: an array may have hundreds, of a few symbols each.
        for part in _parts(len(ordered)):
            row = rows[order[part]]
            index, last = ordered[part] - tables.offsets[row], tables.lengths[row] - 1
            clipped = index.clip(0, last)
            if (at_end := (clipped == 0) | (clipped == last)).any():
                excess.append(np.abs(index - clipped)[at_end])
            ordered[part] = clipped
        for row, begin, end in groups:
            self._coder.encode(ordered[begin:end], self._rows.model(row))
        if excess:
            self._coder.encode(np.concatenate(excess).astype(np.int32), _EXCESS_MODEL)

    def finish(self) -> bytes:
        """The stream: 32-bit words, little endian."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class SymbolDecoder:
    """Reads arrays back in the order in which they were encoded."""

    def __init__(self, tables: SymbolTables, stream: bytes, what: str) -> None:
        if len(stream) % 4:
            raise FileFormatError(f"the stream of {what} is no whole number of words; the file is damaged")
        self._rows = tables
        self._what = what
        self._bits_there, self._bits_read = 8 * len(stream), 0.0
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))

    def _decode(self, model: object, count: int) -> NDArray[np.int32]:
        try:
            return self._coder.decode(model, count)
        except AssertionError as error:  # what constriction raises for a stream that no encoder wrote
            raise FileFormatError(f"the stream of {self._what} is not valid; the file is damaged") from error

    def decode(self, rows: Rows) -> NDArray[np.int32]:
        """The next (n,) symbols, given the table row of each.

        Raises:
            FileFormatError: the stream cannot have been written by an encoder.
        """
        order, groups = _groups(rows)
        tables = self._rows.tables
        ordered = np.empty(len(rows), np.int32)
        ends = np.zeros(len(rows), np.int8)
        for row, begin, end in groups:
            ordered[begin:end] = self._decode(self._rows.model(row), end - begin)
        for part in _parts(len(rows)):
            row, index = rows[order[part]], ordered[part]
            self._bits_read += self._rows.bits(row, index)
            ends[part] = (index == tables.lengths[row] - 1).view(np.int8) - (index == 0).view(np.int8)
            index += tables.offsets[row]
        if count := np.count_nonzero(ends):
            ordered[ends != 0] += ends[ends != 0] * self._decode(_EXCESS_MODEL, count)
            self._bits_read += 16 * count
        symbols = np.empty_like(ordered)
        symbols[order] = ordered
        return symbols

    def finish(self) -> None:
        """Check that the stream ends where its last symbol does."""
        if not self._coder.maybe_exhausted():
            raise FileFormatError(f"the stream of {self._what} is longer than its symbols; the file is damaged")

    def check_length(self) -> None:
        """Refuse a stream that is too short for the symbols read so far, which otherwise only the check value shows."""
        if self._bits_there < self._bits_read * (1 - 1e-9):
            raise FileFormatError(f"the stream of {self._what} is shorter than its symbols; the file is damaged")
