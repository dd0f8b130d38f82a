"""A second reader of `.dcae` files, written from docs/format.md and sharing nothing with `dcae.codec`.

Container, probability tables, range decoder and symbol order, in integers and plain Python. It is slow and trusts its
input where `dcae.codec` must not: it exists to disagree with `dcae.codec` should either leave the specification.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import accumulate

SIGNATURE = bytes([0x89, 0x44, 0x43, 0x41, 0x45, 0x0D, 0x0A, 0x1A, 0x0A])
WORD, STATE = 1 << 32, 1 << 64


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        value |= (data[at] % 128) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def read_sections(data: bytes) -> list[tuple[str, bytes]]:
    """(letter, payload) in file order; asserts what the specification asserts."""
    assert data.startswith(SIGNATURE)
    assert data[9] in (1, 2)
    sections, at = [], 10
    while at < len(data):
        begin = at
        length, at = read_varint(data, at + 1)
        payload, at = data[at : at + length], at + length
        assert int.from_bytes(data[at : at + 4], "little") == zlib.crc32(data[begin:at])
        at += 4
        sections.append((chr(data[begin]), payload))
    critical = "".join(letter for letter, _ in sections if not "a" <= letter <= "z")
    if data[9] == 1:
        assert critical == "HZY"
    else:
        assert critical.replace("A", "", 1).replace("S", "", 1) in ("HZY", "HP", "HV") and critical[0] == "H"
        assert "S" not in critical or "Z" in critical
        assert not any(letter == "A" and not payload for letter, payload in sections)
        assert all([s[0] for s in sections].count(letter) <= 1 for letter in "eix")
    assert sections[-1][0] in "YPV"
    return sections


def expand(payload: bytes) -> bytes:
    """Contents of an optional section."""
    length, at = read_varint(payload, 0)
    contents = zlib.decompress(payload[at:])
    assert len(contents) == length <= 1 << 22
    return contents


def read_header(payload: bytes, version: int) -> dict[str, int | bytes]:
    """The fields of section H in a version of the format."""
    fields: dict[str, int | bytes] = {}
    fields["width"], at = read_varint(payload, 0)
    fields["height"], at = read_varint(payload, at)
    fields["colour"], fields["numerics"] = payload[at], payload[at + 1]
    fields["quality"], at = read_varint(payload, at + 2)
    fields["model"] = payload[at : at + 8]
    fields["check"] = int.from_bytes(payload[at + 8 : at + 12], "little")
    fields["depth"] = payload[at + 12] if version == 2 else 0
    assert at + 12 + (version == 2) == len(payload)
    return fields


def read_enlargement(payload: bytes, width: int, height: int) -> dict[str, int | bytes]:
    """The fields of section S; asserts that they fit the width and height of the header."""
    fields: dict[str, int | bytes] = {"scale": payload[0]}
    large, at = read_varint(payload, 1)
    high, at = read_varint(payload, at)
    assert 2 <= payload[0] <= 4
    assert (width - 1) * payload[0] < large <= width * payload[0]
    assert (height - 1) * payload[0] < high <= height * payload[0]
    assert len(payload) == at + 8 and max(large, high) < 1 << 24
    return fields | {"width": large, "height": high, "model": payload[at:]}


class RangeDecoder:
    """Decodes intervals of 24-bit cumulative frequencies from 32-bit little-endian words."""

    def __init__(self, stream: bytes) -> None:
        self.words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
        self.at = 0
        self.range = STATE - 1
        self.offset = self._word() * WORD
        self.offset += self._word()

    def _word(self) -> int:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else 0

    def decode(self, cumulative: Sequence[int]) -> int:
        """The next symbol; symbol i owns [cumulative[i], cumulative[i + 1]), from 0 to 2**24."""
        scale = self.range >> 24
        quantile = self.offset // scale
        assert quantile < 1 << 24
        low, high = 0, len(cumulative) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if cumulative[middle] <= quantile else (low, middle)
        self.offset -= scale * cumulative[low]
        self.range = scale * (cumulative[low + 1] - cumulative[low])
        if self.range < WORD:
            self.range *= WORD
            self.offset = self.offset * WORD + self._word()
        return low

    @property
    def at_end(self) -> bool:
        """Whether the stream may end here."""
        return self.at >= len(self.words) and (self.range == STATE - 1 or self.offset < 2 * WORD - 1)


class SymbolReader:
    """Decodes arrays of symbols from one stream.

    Args:
        frequencies: one list per table row.
        offsets: the symbol that each row's first entry stands for.
    """

    def __init__(self, stream: bytes, frequencies: Sequence[Sequence[int]], offsets: Sequence[int]) -> None:
        self.coder = RangeDecoder(stream)
        self.offsets = offsets
        self.cumulative = [list(accumulate(row, initial=0)) for row in frequencies]

    def read(self, rows: Sequence[int]) -> list[int]:
        """One symbol per entry of `rows`, in that order."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i], i))
        symbols = [0] * len(rows)
        escaped = []
        for i in order:
            cumulative = self.cumulative[rows[i]]
            index = self.coder.decode(cumulative)
            symbols[i] = self.offsets[rows[i]] + index
            if index in (0, len(cumulative) - 2):
                escaped.append((i, -1 if index == 0 else 1))
        flat = range(0, (1 << 24) + 1, 1 << 8)
        for i, direction in escaped:
            symbols[i] += direction * self.coder.decode(flat)
        return symbols


def z_of(coded: list[list[list[int]]], weights: list[list[int]]) -> list[list[list[int]]]:
    """Symbols of z, [channel][row][column], of what is coded for them and the weights of each channel's prediction."""
    limit = 1 << 16
    z: list[list[list[int]]] = []
    for channel, (a, b, c) in zip(coded, weights, strict=True):
        rows: list[list[int]] = []
        for row in channel:
            above = rows[-1] if rows else [0] * len(row)
            found: list[int] = []
            for j, symbol in enumerate(row):
                left, corner = (found[-1], above[j - 1]) if j else (0, 0)
                said = max(-limit, min(limit, (a * left + b * above[j] + c * corner + 32) // 64))
                found.append(max(-limit, min(limit, symbol + said)) if a or b or c else symbol)
            rows.append(found)
        z.append(rows)
    return z


def z_row_sets(above: list[list[int]], activity: list[int], limits: list[int]) -> list[int]:
    """Set of tables of every position of a row, by what is coded above: [channel][column]."""
    sums = [sum(weight * min(abs(row[j]), 3) for weight, row in zip(activity, above, strict=True))
            for j in range(len(above[0]))]  # fmt: skip
    around = [sums[0], *sums, sums[-1]]
    seen = [around[j] + 2 * around[j + 1] + around[j + 2] for j in range(len(sums))]
    return [1 + sum(limit <= value for limit in limits) for value in seen]


def read_z(
    reader: SymbolReader, shape: tuple[int, int, int], activity: list[int], limits: list[int]
) -> list[list[list[int]]]:
    """What is coded for z, [channel][row][column], of section Z."""
    n, h, w = shape
    if not limits:
        flat = reader.read([channel for channel in range(n) for _ in range(h * w)])
        return [[flat[(c * h + i) * w : (c * h + i + 1) * w] for i in range(h)] for c in range(n)]
    coded: list[list[list[int]]] = [[] for _ in range(n)]
    for i in range(h):
        sets = z_row_sets([channel[-1] for channel in coded], activity, limits) if i else [0] * w
        flat = reader.read([channel + n * sets[j] for channel in range(n) for j in range(w)])
        for channel in range(n):
            coded[channel].append(flat[channel * w : (channel + 1) * w])
    return coded


def read_y(
    reader: SymbolReader, rows: list[list[list[int]]], expected: list[int], limits: list[int]
) -> list[list[list[int]]]:
    """Symbols of one array of section Y, [channel][row][column] as the rows of the first set are."""
    n, h, w = len(rows), len(rows[0]), len(rows[0][0])
    found = [[[0] * w for _ in range(h)] for _ in range(n)]

    def row_of(c: int, i: int, j: int, around: list[tuple[int, int]]) -> int:
        if not around:
            return rows[c][i][j]
        there = [(i + a, j + b) for a, b in around if 0 <= i + a < h and 0 <= j + b < w]
        seen = 256 * sum(min(abs(found[c][a][b]), 8) for a, b in there) + 77
        usual = sum(expected[rows[c][a][b]] for a, b in there) + 77
        return rows[c][i][j] + 64 * (1 + sum(64 * seen >= limit * usual for limit in limits))

    def places(i0: int, j0: int, step: int) -> list[tuple[int, int, int]]:
        return [(c, i, j) for c in range(n) for i in range(i0, h, step) for j in range(j0, w, step)]

    stages: list[tuple[list[tuple[int, int, int]], list[tuple[int, int]]]] = [
        (places(0, 0, 2), []),
        (places(1, 1, 2), [(a, b) for a in (-1, 1) for b in (-1, 1)]),
        (places(0, 1, 2) + places(1, 0, 2), [(-1, 0), (1, 0), (0, -1), (0, 1)]),
    ]
    for where, around in stages if limits else [(places(0, 0, 1), [])]:
        for (c, i, j), symbol in zip(where, reader.read([row_of(*at, around) for at in where]), strict=True):
            found[c][i][j] = symbol
    return found
