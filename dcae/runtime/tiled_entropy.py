"""The entropy model of pictures of any size, in tiles, over one that has a reach.

Tiles are computed with the samples around them that they depend on. Its arithmetic being exact, nothing depends on how
a picture is divided.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.runtime.progress import SLICE, watcher
from dcae.runtime.protocol import Array, EntropyModel, Floats, SlicePrior
from dcae.runtime.tiles import Divider, Tile


class TiledEntropyModel:
    """An :class:`dcae.runtime.protocol.EntropyModel` over one in exact arithmetic, whose contexts are arrays.

    A context is overwritten by the steps that take it, and ŷ_k by its refinement.
    """

    def __init__(self, model: EntropyModel, divider: Divider) -> None:
        self.numerics = model.numerics
        self._model, self._divider = model, divider

    def arithmetic(self) -> AbstractContextManager[None]:
        return self._model.arithmetic()

    def conditioning(self, quality: float, /) -> Any:
        return self._model.conditioning(quality)

    def means_rows(self, q: Any, /) -> NDArray[np.uint8]:
        return self._model.means_rows(q)

    def hyper_synthesis(self, z_hat: Array, q: Any, /) -> Array:
        height, width = 4 * z_hat.shape[2], 4 * z_hat.shape[3]
        state: Array | None = None
        for tile in self._divider.tiles("hyper_synthesis", height, width):
            part = self._model.hyper_synthesis(np.ascontiguousarray(z_hat[:, :, tile.from_rows, tile.from_columns]), q)
            if state is None:
                state = np.empty((1, height, width, part.shape[-1]), np.float32)
            state[:, tile.rows, tile.columns] = part[(slice(None), *_inner(tile, 4))]
        assert state is not None
        return state

    def slice_prior(self, k: int, context: Array, q: Any, /) -> SlicePrior:
        height, width = context.shape[1:3]
        found: SlicePrior | None = None
        band, begin, done = context[:, :0], 0, 0
        for tile in self._divider.tiles("slice_prior", height, width):
            if tile.columns.start == 0:  # the next rows as they were, those above from the copy before
                above = band[:, tile.from_rows.start - begin : done - begin]
                band, begin, done = context[:, tile.from_rows].copy(), tile.from_rows.start, tile.rows.stop
                band[:, : above.shape[1]] = above
            prior = self._model.slice_prior(k, np.array(band[:, :, tile.from_columns]), q)
            state, hidden = prior.support
            if found is None:
                shape = (1, prior.mean.shape[1], height, width)
                kept = context, np.empty((1, height, width, hidden.shape[-1]), np.float32)
                found = SlicePrior(np.empty(shape, np.float32), np.empty(shape, np.uint8), kept)
            for whole, part in ((found.mean, prior.mean), (found.rows, prior.rows)):
                whole[:, :, tile.rows, tile.columns] = part[(..., *_inner(tile))]
            for whole, part in zip(found.support, (state, hidden), strict=True):
                whole[:, tile.rows, tile.columns] = part[(slice(None), *_inner(tile))]
            watcher().advance(SLICE, 256 * state[(0, *_inner(tile), 0)].size)
        assert found is not None
        return found

    def latent_residual(self, k: int, support: tuple[Array, Array], y_hat: Floats, q: Any, /) -> Floats:
        for tile in self._divider.tiles("", *y_hat.shape[2:]):
            cut = np.ascontiguousarray(y_hat[:, :, tile.rows, tile.columns])
            y_hat[:, :, tile.rows, tile.columns] = self._model.latent_residual(k, _of_tile(support, tile), cut, q)
        return y_hat

    def extend_context(self, k: int, context: Array, support: tuple[Array, Array], y_hat: Floats, q: Any, /) -> Array:
        state, _ = support
        for tile in self._divider.tiles("", *y_hat.shape[2:]):
            cut, of_tile = np.ascontiguousarray(y_hat[:, :, tile.rows, tile.columns]), _of_tile(support, tile)
            state[:, tile.rows, tile.columns] = self._model.extend_context(k, of_tile[0], of_tile, cut, q)
        return state


def _inner(tile: Tile, scale: int = 1) -> tuple[slice, slice]:
    """The wanted part of a tile, in what was made of all of it."""
    row, column = tile.rows.start - scale * tile.from_rows.start, tile.columns.start - scale * tile.from_columns.start
    height, width = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
    return slice(row, row + height), slice(column, column + width)


def _of_tile(support: tuple[Array, Array], tile: Tile) -> tuple[Array, Array]:
    state, hidden = (np.ascontiguousarray(part[:, tile.rows, tile.columns]) for part in support)
    return state, hidden
