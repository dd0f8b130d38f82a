"""The range coder: what it writes, against a decoder and an encoder written from the document alone."""

from __future__ import annotations

import numpy as np
import pytest
import reference_decoder as reference
from numpy.typing import NDArray

from dcae.codec.coder import MAX_EXCESS, SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.entropy.tables import MAX_ROW, PRECISION, Tables, gaussian_tables
from dcae.errors import FileFormatError, ModelFileError

TOTAL = 1 << PRECISION


def _row(rng: np.random.Generator, length: int, kind: str) -> NDArray[np.int64]:
    """Frequencies of one row: "even", "random", "skewed" (all on one entry) or "steep" (geometric)."""
    if kind == "skewed":
        frequencies = np.ones(length, np.int64)
    else:
        weights = {"even": np.ones(length), "random": rng.random(length) ** 8, "steep": 0.5 ** np.arange(length)}[kind]
        frequencies = (weights / weights.sum() * (TOTAL - length)).astype(np.int64) + 1
    frequencies[rng.integers(length)] += TOTAL - frequencies.sum()
    return frequencies


def _tables(seed: int) -> Tables:
    rng = np.random.default_rng(seed)
    lengths = [3, 4, 17, 300, 2821, MAX_ROW]
    rows = [_row(rng, n, kind) for n in lengths for kind in ("even", "random", "skewed", "steep")]
    return Tables(
        np.concatenate(rows).astype(np.int32),
        np.array([len(r) for r in rows], np.int32),
        rng.integers(-MAX_ROW, MAX_ROW, len(rows), endpoint=True).astype(np.int32),
    )


def _split(tables: Tables) -> tuple[list[list[int]], list[int]]:
    frequencies = [part.tolist() for part in np.split(tables.frequencies, tables.starts[1:-1])]
    return frequencies, tables.offsets.tolist()


def _arrays(tables: Tables, seed: int, counts: list[int]) -> list[tuple[NDArray[np.int32], NDArray[np.uint8]]]:
    """Symbols and rows: as the tables predict, anywhere in the row, and beyond either end up to the last excess."""
    rng = np.random.default_rng(seed)
    arrays = []
    for count in counts:
        rows = rng.integers(0, len(tables.lengths), count).astype(np.uint8)
        index = np.empty(count, np.int64)
        for i, row in enumerate(rows):
            length = int(tables.lengths[row])
            frequencies = tables.frequencies[tables.starts[row] : tables.starts[row + 1]]
            index[i] = (
                np.searchsorted(np.cumsum(frequencies), rng.integers(TOTAL), side="right"),
                rng.integers(length),
                -rng.integers(0, MAX_EXCESS, endpoint=True),
                length - 1 + rng.integers(0, MAX_EXCESS, endpoint=True),
                rng.choice([-MAX_EXCESS, -1, 0, length - 1, length, length - 1 + MAX_EXCESS]),
            )[rng.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1])]
        arrays.append(((index + tables.offsets[rows]).astype(np.int32), rows))
    return arrays


def _coded(tables: SymbolTables, arrays: list[tuple[NDArray[np.int32], NDArray[np.uint8]]]) -> bytes:
    encoder = SymbolEncoder(tables)
    for symbols, rows in arrays:
        encoder.encode(symbols, rows)
    return encoder.finish()


@pytest.mark.parametrize("seed", range(4))
def test_second_decoder_reads_the_same_symbols(seed: int) -> None:
    tables = _tables(seed)
    arrays = _arrays(tables, seed, [1, 0, 700, 2, 0, 300])
    stream = _coded(SymbolTables(tables), arrays)

    reader = reference.SymbolReader(stream, *_split(tables))
    decoder = SymbolDecoder(SymbolTables(tables), stream, "test")
    for symbols, rows in arrays:
        assert reader.read(rows.tolist()) == symbols.tolist()
        np.testing.assert_array_equal(decoder.decode(rows), symbols)
    assert reader.coder.at_end
    decoder.finish()


def test_second_decoder_with_the_gaussian_tables() -> None:
    tables = gaussian_tables()
    arrays = _arrays(tables, 5, [1500])
    reader = reference.SymbolReader(_coded(SymbolTables(tables), arrays), *_split(tables))
    assert reader.read(arrays[0][1].tolist()) == arrays[0][0].tolist()


def _write_big_integer(intervals: list[tuple[int, int]]) -> bytes:
    """The encoder of docs/format.md, on a number of any length."""
    low, size, words = 0, (1 << 64) - 1, 0
    for cumulative, frequency in intervals:
        step = size >> 24
        low, size = low + step * cumulative, step * frequency
        if size < 1 << 32:
            low, size, words = low << 32, size << 32, words + 1
    if not intervals:
        return b""
    point = (low + (1 << 32) - 1) >> 32
    stream = [point >> 32 * (words - i) & 0xFFFFFFFF for i in range(words + 1)]
    if point == (low + size) >> 32:
        stream.append(0)
    return b"".join(word.to_bytes(4, "little") for word in stream)


@pytest.mark.parametrize("seed", range(4))
def test_encoder_writes_what_the_document_says(seed: int) -> None:
    """Every integer frequency is honoured exactly: one cumulative number off by one would change the stream."""
    tables = _tables(seed)
    rows = np.arange(len(tables.lengths), dtype=np.uint8).repeat(40)
    rng = np.random.default_rng(seed)
    index = rng.integers(1, tables.lengths[rows] - 1)  # no ends, hence no excess
    stream = _coded(SymbolTables(tables), [((index + tables.offsets[rows]).astype(np.int32), rows)])
    starts = tables.starts[:-1][rows]
    cumulative = np.concatenate([[0], np.cumsum(tables.frequencies, dtype=np.int64)])
    intervals = [
        (int(cumulative[s + i] - cumulative[s]), int(tables.frequencies[s + i]))
        for s, i in zip(starts, index, strict=True)
    ]
    assert stream == _write_big_integer(intervals)


def test_encoder_carries_into_words_it_has_shifted_out() -> None:
    """Streams whose carry runs through several words, which random symbols hardly ever make."""
    tables = Tables(np.array([1, TOTAL - 2, 1], np.int32), np.array([3], np.int32), np.array([0], np.int32))
    prepared = SymbolTables(tables)
    inverted = 0
    for count in range(1, 60):
        for last in (0, 1, 2):
            # The last entry's interval again and again keeps L + R at the top, where everything hangs on a carry.
            symbols = np.array([2] * count + [last, 1, 2, 0], np.int32)
            ends = int((symbols != 1).sum())
            intervals = [((0, 1), (1, TOTAL - 2), (TOTAL - 1, 1))[s] for s in symbols] + [(0, 256)] * ends
            stream = _coded(prepared, [(symbols, np.zeros(len(symbols), np.uint8))])
            assert stream == _write_big_integer(intervals)
            inverted += b"\xff\xff\xff\xff" in stream
            reader = reference.SymbolReader(stream, *_split(tables))
            assert reader.read([0] * len(symbols)) == symbols.tolist()
    assert inverted > 0


@pytest.mark.parametrize("symbol", [-1, 0, 1, 2, 3])
def test_nothing_but_empty_arrays_and_single_symbols(symbol: int) -> None:
    tables = SymbolTables(_tables(0))
    empty = (np.zeros(0, np.int32), np.zeros(0, np.uint8))
    assert _coded(tables, [empty, empty]) == b""
    decoder = SymbolDecoder(tables, b"", "test")
    assert decoder.decode(empty[1]).size == 0
    decoder.finish()
    single = (np.array([symbol], np.int32) + tables.tables.offsets[:1], np.zeros(1, np.uint8))
    stream = _coded(tables, [empty, single, empty])
    decoder = SymbolDecoder(tables, stream, "test")
    decoder.decode(empty[1])
    assert decoder.decode(single[1]) == single[0]
    decoder.finish()
    assert reference.SymbolReader(stream, *_split(tables.tables)).read([0]) == single[0].tolist()


def test_clamp_reaches_exactly_the_largest_excess() -> None:
    tables = _tables(1)
    prepared = SymbolTables(tables)
    rows = np.arange(len(tables.lengths), dtype=np.uint8)
    for far in (-(2**30), 2**30):
        clamped = prepared.clamp(np.full(len(rows), far, np.int32), rows)
        index = clamped - tables.offsets
        np.testing.assert_array_equal(index, -MAX_EXCESS if far < 0 else tables.lengths - 1 + MAX_EXCESS)
        stream = _coded(prepared, [(clamped, rows)])
        assert reference.SymbolReader(stream, *_split(tables)).read(rows.tolist()) == clamped.tolist()


def test_longer_streams_and_odd_lengths_are_refused() -> None:
    tables = gaussian_tables()
    prepared = SymbolTables(tables)
    symbols, rows = _arrays(tables, 3, [200])[0]
    stream = _coded(prepared, [(symbols, rows)])
    with pytest.raises(FileFormatError, match="whole number of words"):
        SymbolDecoder(prepared, stream[:-1], "test")
    for extra in (bytes(8), b"\xff" * 8, bytes(400)):
        decoder = SymbolDecoder(prepared, stream + extra, "test")
        np.testing.assert_array_equal(decoder.decode(rows), symbols)
        with pytest.raises(FileFormatError, match="longer than its symbols"):
            decoder.finish()


def test_random_streams_give_symbols_or_our_error() -> None:
    tables = _tables(2)
    prepared, split = SymbolTables(tables), _split(tables)
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(200):
        stream = rng.bytes(4 * int(rng.integers(0, 12)))
        rows = rng.integers(0, len(tables.lengths), 60).astype(np.uint8)
        reader = reference.SymbolReader(stream, *split)
        try:
            expected = reader.read(rows.tolist())
        except AssertionError:
            refused += 1
            with pytest.raises(FileFormatError, match="is not valid"):
                SymbolDecoder(prepared, stream, "test").decode(rows)
            continue
        decoder = SymbolDecoder(prepared, stream, "test")
        assert decoder.decode(rows).tolist() == expected
        if reader.coder.at_end:
            decoder.finish()
        else:
            with pytest.raises(FileFormatError):
                decoder.finish()
    assert 0 < refused < 200


def test_least_bits_is_a_lower_bound_that_is_nearly_reached() -> None:
    tables = gaussian_tables()
    prepared = SymbolTables(tables)
    count = 4000
    for row in (0, 10, 30, 63):
        best = np.argmax(tables.frequencies[tables.starts[row] : tables.starts[row + 1]]) + tables.offsets[row]
        stream = _coded(prepared, [(np.full(count, best, np.int32), np.full(count, row, np.uint8))])
        assert 0 <= 8 * len(stream) - count * prepared.least_bits()[row] <= 64


@pytest.mark.parametrize(
    "change",
    [
        {"frequencies": np.array([1, TOTAL - 3, 1], np.int32)},
        {"frequencies": np.array([0, TOTAL - 1, 1], np.int32)},
        {"frequencies": np.array([1, TOTAL - 2, 1], np.int64)},
        {"frequencies": np.array([1, TOTAL - 3, 1, 1], np.int32)},
        {"lengths": np.array([2], np.int32)},
        {"lengths": np.array([], np.int32)},
        {"lengths": np.array(3, np.int32)},
        {"lengths": np.array([MAX_ROW + 1], np.int32)},
        {"offsets": np.array([0, 0], np.int32)},
        {"offsets": np.array([-MAX_ROW - 1], np.int32)},
    ],
)
def test_malformed_tables_are_refused(change: dict[str, NDArray[np.int32]]) -> None:
    good = {
        "frequencies": np.array([1, TOTAL - 2, 1], np.int32),
        "lengths": np.array([3], np.int32),
        "offsets": np.array([0], np.int32),
    }
    Tables(**good)
    with pytest.raises(ModelFileError):
        Tables(**(good | change))
