"""The transforms of pictures of any size, in bands and strips, over an engine.

Beside what goes in and comes out, only so much memory is taken as a band needs. What comes out is the same, whatever
the bands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dcae.networks.bands import Band
from dcae.networks.means import unspread
from dcae.runtime.progress import watcher
from dcae.runtime.protocol import Array, Engine
from dcae.runtime.tiles import Divider, Strip, outputs

Picture = Callable[[slice, slice], Array]
"""Gives any rows and columns of a padded picture, (1, 3, rows, columns) as x of `dcae.runtime.protocol`."""
BLOCK = 64
"""Side of a block of the block means in pixels, the stride of z."""


class Part(NamedTuple):
    """Samples of a result, and where they belong."""

    row: int
    column: int
    values: Array
    """(1, channels, rows, columns)."""


class Transforms:
    """The transforms of an engine, for whole pictures.

    Args:
        divider: of the engine's configuration.
    """

    def __init__(self, engine: Engine, divider: Divider) -> None:
        self._engine, self._divider = engine, divider

    def analysis(self, picture: Picture, y: Array, quality: float) -> None:
        """Write y of a picture into an array (1, channels, H/16, W/16)."""

        def step(rows: slice, strip: Strip, band: Band) -> Array:
            x = picture(_pixels(rows), _pixels(slice(strip.low, strip.high)))
            return self._engine.analysis(x, quality, band)

        for part in self._parts("analysis", y.shape, step):
            _put(y, part)

    def hyper_analysis(self, y: Array, quality: float) -> Array:
        """y -> z."""

        def step(rows: slice, strip: Strip, band: Band) -> Array:
            return self._engine.hyper_analysis(_cut(y, rows, strip), quality, band)

        channels = self._engine.header.config.hyper_channels
        z = np.empty((1, channels, y.shape[2] // 4, y.shape[3] // 4), np.float32)
        for part in self._parts("hyper_analysis", y.shape, step):
            _put(z, part)
        return z

    def synthesis(self, y_hat: Array, means: Array | None, quality: float) -> Iterator[Part]:
        """The parts of x̂ of all latents, with the block means of a closed loop if they are given."""

        def step(rows: slice, strip: Strip, band: Band) -> Array:
            return self._engine.synthesis(_cut(y_hat, rows, strip), quality, band)

        for part in self._parts("base_synthesis", y_hat.shape, step):
            if means is not None:
                part = part._replace(values=part.values + self._spread(means, part, quality))
            yield part

    def skip_latents(self, picture: Picture, y_hat: Array, y: Array, quality: float) -> Array:
        """Write what the synthesis of ŷ (of all slices but the last) leaves over into y, the last slice.

        Returns:
            means of what is left over, in steps, (1, 3, H/64, W/64).
        """
        engine = self._engine
        means = np.empty((1, 3, y.shape[2] // 4, y.shape[3] // 4), np.float32)
        blocks = _Blocks(engine, means, quality)

        def step(rows: slice, strip: Strip, band: Band) -> Array:
            base = engine.base_synthesis(_cut(y_hat, rows, strip), quality, band)
            top = 0 if band.first else blocks.row
            x = picture(slice(top, top + base.shape[2]), _pixels(slice(strip.low, strip.high)))
            inner = slice(16 * (strip.begin - strip.low), 16 * (strip.end - strip.low))
            blocks.add(Part(top, 16 * strip.begin, (x - base)[..., inner]))
            return engine.skip_latents(x, base, quality, band)

        for part in self._parts("skip_latents", y_hat.shape, step):
            _put(y, part)
        return means

    def means_left(self, means: Array, y_hat: Array, quality: float) -> Array:
        """The block means to code for those that remain of what `skip_latents` returned, given ŷ of the last slice."""

        def step(rows: slice, strip: Strip, band: Band) -> Array:
            cut = _cut(y_hat, rows, strip)
            nothing = np.zeros((1, 3, 16 * cut.shape[2], 16 * cut.shape[3]), np.float32)
            return self._engine.add_skip(nothing, cut, quality, band)

        added = np.empty_like(means)
        blocks = _Blocks(self._engine, added, quality)
        for part in self._parts("add_skip", y_hat.shape, step):
            blocks.add(part)
        left = means - added
        return unspread(left) if getattr(self._engine.header.config, "unspreads_means", False) else left

    def _parts(
        self, transform: str, shape: tuple[int, ...], step: Callable[[slice, Strip, Band], Array]
    ) -> Iterator[Part]:
        """What a step makes of the bands of all strips, without the columns that nobody wants."""
        height, width = shape[2:]
        for strip in self._divider.strips(transform, width):
            row = 0
            inner = slice(outputs(transform, strip.begin - strip.low), outputs(transform, strip.end - strip.low))
            for begin, end, band in self._divider.bands(transform, height, strip.high - strip.low):
                values = step(slice(begin, end), strip, band)[..., inner]
                watcher().advance(transform, 256 * (end - begin) * (strip.end - strip.begin))
                yield Part(row, outputs(transform, strip.begin), values)
                row += values.shape[2]

    def _spread(self, means: Array, part: Part, quality: float) -> Array:
        """What the block means add to a part: between blocks they are interpolated, so that the next ones count too."""
        height, width = part.values.shape[2:]
        top, left = (max(place // BLOCK - 1, 0) for place in part[:2])
        bottom, right = (part.row + height - 1) // BLOCK + 2, (part.column + width - 1) // BLOCK + 2
        means = np.ascontiguousarray(means[..., top:bottom, left:right])
        nothing = np.zeros((1, 3, BLOCK * means.shape[2], BLOCK * means.shape[3]), np.float32)
        row, column = part.row - BLOCK * top, part.column - BLOCK * left
        return self._engine.add_means(nothing, means, quality)[..., row : row + height, column : column + width]


class _Blocks:
    """Means of blocks of what comes in bands, which do not end where blocks do."""

    def __init__(self, engine: Engine, means: Array, quality: float) -> None:
        self._engine, self._means, self._quality = engine, means, quality
        self._rest: list[Array] = []
        self.row = 0
        """The next row of pixels."""

    def add(self, part: Part) -> None:
        """Parts of a strip in their order, the strips one after the other."""
        self._rest.append(part.values)
        self.row = part.row + part.values.shape[2]
        first = self.row - sum(values.shape[2] for values in self._rest)
        if (count := self.row // BLOCK * BLOCK - first) <= 0:
            return
        values = np.concatenate(self._rest, 2)
        self._rest = [values[:, :, count:].copy()] if count < values.shape[2] else []
        whole = np.ascontiguousarray(values[:, :, :count])
        _put(
            self._means,
            Part(
                first // BLOCK,
                part.column // BLOCK,
                self._engine.block_means(whole, np.zeros_like(whole), self._quality),
            ),
        )


def _pixels(samples: slice) -> slice:
    return slice(16 * samples.start, 16 * samples.stop)


def _cut(array: Array, rows: slice, strip: Strip) -> Array:
    return np.ascontiguousarray(array[:, :, rows, strip.low : strip.high])


def _put(array: Array, part: Part) -> None:
    height, width = part.values.shape[2:]
    array[:, :, part.row : part.row + height, part.column : part.column + width] = part.values
