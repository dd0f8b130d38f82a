"""Latents as the coded sections of a file, and back: the two visitors of the walk over the slices."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.codec.coder import SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.codec.stages import CODING, ENTROPY, Observer, unobserved
from dcae.entropy.y_coding import Part
from dcae.errors import FileFormatError, SymbolMismatchError
from dcae.networks.walk import walk_slices
from dcae.runtime.progress import SLICE, watcher
from dcae.runtime.protocol import Array, Engine, EntropyModel, Floats, SlicePrior
from dcae.runtime.tiled_entropy import TiledEntropyModel
from dcae.runtime.tiles import Divider

Symbols = NDArray[np.int32]
_PART = 1 << 16


class Sections(NamedTuple):
    """Latents as the sections of a file."""

    z: bytes
    y: bytes
    check: int
    """Check value, see :class:`Check`."""


class Coded(NamedTuple):
    """Latents as the sections of a file, and what they decode to."""

    sections: Sections
    y_hat: Array
    """(1, M, H/16, W/16), for the synthesis."""
    means: Array | None
    """(1, 3, H/64, W/64) block means of a closed loop, in steps."""


class Decoded(NamedTuple):
    """Latents that the sections of a file hold."""

    z: Symbols
    """Symbols of z, (N * H/64 * W/64,), channel by channel."""
    y: list[Symbols]
    """Symbols of every slice of y, (C_k * H/16 * W/16,) likewise, and of a closed loop's block means
    (3 * H/64 * W/64,)."""
    y_hat: Array
    """(1, M, H/16, W/16), for the synthesis."""
    means: Array | None
    """(1, 3, H/64, W/64) block means of a closed loop, in steps."""


class Check:
    """CRC-32 over everything that was decoded, int32 little endian, in coding order."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, symbols: Symbols) -> None:
        self.value = zlib.crc32(symbols.astype("<i4", copy=False), self.value)

    def add_latents(self, y_hat: Floats, grid: int) -> None:
        """Latents (1, C, h, w) as multiples of 1/grid, some channels at a time for the memory's sake."""
        count = max(_PART // y_hat[0, 0].size, 1)
        for k in range(0, y_hat.shape[1], count):
            self.add(_symbols(y_hat[0, k : k + count] * grid))


class LatentCoder:
    """Codes latents with the entropy model and the tables of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.observe: Observer = unobserved
        self.tables_y = SymbolTables(engine.tables_y)
        self.tables_z = SymbolTables(engine.tables_z)
        self.divider = Divider(engine.header.config)

    def encode(
        self,
        z: Array,
        latents: Callable[[list[Floats]], Floats],
        quality: float,
        numerics: str,
        y_hat: Array,
        step_worth: float = 0.0,
    ) -> Coded:
        """Code z and y, arrays as in `dcae.runtime.protocol`.

        Args:
            latents: gives the next slice of y, and of a closed loop then the block means, from the slices ŷ that are
                coded already.
            quality: in the model's range, a multiple of 1/256.
            numerics: arithmetic of the entropy model, one of the engine's.
            y_hat: (1, M, H/16, W/16) that ŷ is written into, a slice as soon as it is coded.
            step_worth: bits that a squared error of one step is worth where symbols of y are chosen by error and rate;
                with 0 they are rounded, but for those of a closed loop, which says itself what theirs are worth.
        """
        check = Check()
        y_encoder, z_encoder = SymbolEncoder(self.tables_y), SymbolEncoder(self.tables_z)
        with self.observe(CODING):
            z_symbols = self.encode_z(z_encoder, _symbols(z - self.engine.z_median).reshape(z.shape[1:]))

        base = len(self.engine.header.config.slices) - self.engine.closed_loop

        def code(mean: Floats, rows: NDArray[np.uint8], y_hats: list[Floats]) -> Symbols:
            left = latents(y_hats) - mean
            with self.observe(CODING):
                k = len(y_hats)
                worth = self.engine.skip_worth(quality) if k == base else np.float32(step_worth if k < base else 0)
                symbols = self.tables_y.worthwhile(left, rows, worth) if worth.any() else _symbols(left)
                shape = left.shape[1:]
                del left
                return self.encode_y(y_encoder, symbols.reshape(shape), rows)

        y_hat, means = self.walk(self.engine.entropy_model(numerics), z_symbols, z.shape, quality, code, check, y_hat)
        with self.observe(CODING):
            return Coded(Sections(z_encoder.finish(), y_encoder.finish(), check.value), y_hat, means)

    def decode(
        self,
        z: bytes,
        y: bytes,
        check: int,
        shape: tuple[int, ...],
        quality: float,
        numerics: str,
        keep_symbols: bool = True,
    ) -> Decoded:
        """Decode sections z and y, and compare with the check value.

        Args:
            shape: of z, (1, N, H/64, W/64).
            quality, numerics: as in `encode`.
            keep_symbols: return the symbols of y too.

        Raises:
            FileFormatError: a section that no encoder wrote.
            SymbolMismatchError: sections that are intact, but other symbols than were encoded.
        """
        found = Check()
        with self.observe(CODING):
            z_decoder = SymbolDecoder(self.tables_z, z, "z")
            z_symbols = self._decode_z(z_decoder, shape)
            z_decoder.finish()  # before the networks run: no arithmetic has had a say so far
            z_decoder.check_length()
            y_decoder = SymbolDecoder(self.tables_y, y, "y")
        y_symbols: list[Symbols] = []

        def code(mean: Floats, rows: NDArray[np.uint8], y_hats: list[Floats]) -> Symbols:
            with self.observe(CODING):
                symbols = self._decode_y(y_decoder, mean.shape[1:], rows)
                y_decoder.check_length()  # before the networks run for the next slice
                if keep_symbols:
                    y_symbols.append(symbols)
                return symbols

        try:
            y_hat, means = self.walk(self.engine.entropy_model(numerics), z_symbols, shape, quality, code, found)
            y_decoder.finish()
            if found.value != check:
                raise SymbolMismatchError("the decoded symbols differ from those that were encoded")
        except FileFormatError as error:
            raise self._mismatch(error, numerics) from error
        return Decoded(z_symbols, y_symbols, y_hat, means)

    def walk(
        self,
        model: EntropyModel,
        z_symbols: Symbols,
        shape: tuple[int, ...],
        quality: float,
        code: Callable[[Floats, NDArray[np.uint8], list[Floats]], Symbols],
        check: Check,
        y_hat: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """ŷ of z's symbols, and the block means of a closed loop.

        Args:
            code: writes or reads the symbols of one array, given its means, the table row of each and the slices ŷ
                before it.
            y_hat: (1, M, H/16, W/16) that ŷ is written into.
        """
        engine, config = self.engine, self.engine.header.config
        if model.numerics == "integer":
            model = TiledEntropyModel(model, self.divider)
        if y_hat is None:
            y_hat = np.empty((1, config.latent_channels, *(4 * side for side in shape[2:])), np.float32)
        ends = np.cumsum(config.slices)
        with self.observe(CODING):
            check.add(z_symbols)

        def quantised(k: int, prior: SlicePrior, y_hats: list[Floats]) -> Floats:
            symbols = code(prior.mean, prior.rows.reshape(-1), y_hats)
            with self.observe(CODING):
                check.add(symbols)
                y_hat_k = prior.mean
                y_hat_k += symbols.reshape(y_hat_k.shape)
                return y_hat_k

        def refined(k: int, y_hat_k: Floats) -> Floats:
            if engine.latent_grid:
                with self.observe(CODING):
                    check.add_latents(y_hat_k, engine.latent_grid)
            place = y_hat[:, ends[k] - config.slices[k] : ends[k]]
            place[...] = y_hat_k
            if not isinstance(model, TiledEntropyModel):  # which has told of its tiles
                watcher().advance(SLICE, 256 * place[0, 0].size)
            return place if y_hat_k.dtype == place.dtype else y_hat_k

        with self.observe(ENTROPY), model.arithmetic():
            q = model.conditioning(quality)
            z_hat = z_symbols.reshape(shape).astype(np.float32) + engine.z_median
            context = model.hyper_synthesis(z_hat, q)
            y_hats: list[Floats] = walk_slices(model, len(config.slices), context, q, quantised, refined)
            del context
            means: Array | None = None
            if engine.closed_loop:
                zero = np.zeros((1, 3, *shape[2:]), np.float32)
                symbols = code(zero, np.broadcast_to(model.means_rows(q), zero.shape).reshape(-1), y_hats)
                check.add(symbols)
                means = symbols.reshape(zero.shape).astype(np.float32)
            return y_hat, means

    def encode_y(self, encoder: SymbolEncoder, symbols: Symbols, rows: NDArray[np.uint8]) -> Symbols:
        """Code symbols (C, h, w) of an array of y with table rows (n,) of the first set; returns them (n,) as they will
        be decoded."""
        for parts, chosen in self._stages(symbols, rows):
            coded = np.concatenate([symbols[:, i, j].reshape(-1) for i, j in parts])
            coded = self.tables_y.clamp(coded, chosen)
            encoder.encode(coded, chosen)
            _fill(symbols, parts, coded)
        return symbols.reshape(-1)

    def _decode_y(self, decoder: SymbolDecoder, shape: tuple[int, ...], rows: NDArray[np.uint8]) -> Symbols:
        """Decode symbols (n,) of an array of y of `shape` (C, h, w)."""
        symbols = np.zeros(shape, np.int32)
        for parts, chosen in self._stages(symbols, rows):
            _fill(symbols, parts, decoder.decode(chosen))
        return symbols.reshape(-1)

    def _stages(self, symbols: Symbols, rows: NDArray[np.uint8]) -> Iterator[tuple[list[Part], NDArray[np.uint16]]]:
        return self.engine.symbol_coding.y.stages(symbols, rows.reshape(symbols.shape))

    def least_bits_z(self) -> float:
        """The fewest bits that z takes at a position, whatever its neighbours."""
        sets = self.tables_z.least_bits().reshape(self.engine.symbol_coding.z.sets, -1)
        return float(sets.min(0).sum())

    def encode_z(self, encoder: SymbolEncoder, symbols: Symbols) -> Symbols:
        """Code symbols of z (N, h, w); returns them (n,) as they will be decoded."""
        coding = self.engine.symbol_coding.z
        coded, above = coding.differences(symbols), None
        for part in coding.arrays(symbols.shape[1]):
            rows = self._z_rows(above, symbols[:, part])
            coded[:, part] = self.tables_z.clamp(coded[:, part].reshape(-1), rows).reshape(symbols[:, part].shape)
            encoder.encode(coded[:, part].reshape(-1), rows)
            above = coded[:, part.stop - 1]
        return coding.restored(coded).reshape(-1)

    def _decode_z(self, decoder: SymbolDecoder, shape: tuple[int, ...]) -> Symbols:
        """Decode symbols of z (n,); `shape` is (1, N, H/64, W/64)."""
        coding, above = self.engine.symbol_coding.z, None
        coded = np.empty(shape[1:], np.int32)
        for part in coding.arrays(shape[2]):
            coded[:, part] = decoder.decode(self._z_rows(above, coded[:, part])).reshape(coded[:, part].shape)
            above = coded[:, part.stop - 1]
        return coding.restored(coded).reshape(-1)

    def _z_rows(self, above: Symbols | None, part: Symbols) -> NDArray[np.uint16]:
        """Table rows of a part of z, (N, rows, w), of one row of positions or of all."""
        rows = self.engine.symbol_coding.z.table_rows(above, part.shape[2]).reshape(len(part), 1, -1)
        return np.broadcast_to(rows, part.shape).reshape(-1)

    def _mismatch(self, error: FileFormatError, numerics: str) -> SymbolMismatchError:
        """The error for sections that passed their CRC: the usual cause is arithmetic, not damage."""
        if numerics == "integer":
            return SymbolMismatchError(
                f"the sections are intact, but do not belong together ({error}); the file was put together or "
                "altered by a program, encode the picture again"
            )
        cure = "decode it on the kind of machine and device that wrote it"
        if numerics == "float32":
            cure += ", or encode the picture again with --portable"
        return SymbolMismatchError(
            f"the file is intact, but this machine's floating-point arithmetic ({numerics}, {self.engine.device}) "
            f"does not reproduce the encoder's symbols ({error})",
            cure,
        )


def _fill(symbols: Symbols, parts: list[Part], coded: Symbols) -> None:
    """Put what one stage coded (n,) into its places of symbols (C, h, w)."""
    for i, j in parts:
        there = symbols[:, i, j]
        there[...] = coded[: there.size].reshape(there.shape)
        coded = coded[there.size :]


def _symbols(values: Floats) -> Symbols:
    with np.errstate(invalid="ignore"):  # NaN, which damaged weights may give, becomes some number
        rounded = np.rint(values)
        return rounded.clip(-(2**30), 2**30, out=rounded).astype(np.int32).reshape(-1)
