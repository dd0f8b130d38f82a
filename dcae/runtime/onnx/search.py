"""The objective of the encoder's search over graphs of gradients; see `dcae/runtime/search.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcae.networks.ms_ssim import scales_of
from dcae.runtime.protocol import Array
from dcae.runtime.search import Moves, local_weights, middle, random_signs, similarity


class Graphs(Protocol):
    """Evaluates graphs of `dcae/networks/lite/graph_search.py` by name: inputs -> outputs, by name.

    Behind a space in the name may stand the number of scales of an objective with MS-SSIM.
    What depends on the quality alone need not be given.
    """

    def __call__(self, name: str, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]: ...


class GraphSearch:
    """A :class:`dcae.runtime.search.Problem`.

    Args:
        channels: of each searched slice.
        x: (1, 3, H, W) in [0, 1], sides multiples of the stride.
        z_hat: (1, N, H/64, W/64).
        worth: of a squared error, in bits.
        weights: (1, 1, H, W), how much the squared error of each pixel counts; 0 for padding.
        similar: count 1 - MS-SSIM instead, of the pixels that weigh 1, see `dcae.runtime.search.similarity`.
    """

    def __init__(
        self,
        graphs: Graphs,
        channels: Sequence[int],
        x: Array,
        z_hat: Array,
        worth: float,
        weights: Array,
        similar: bool = False,
    ) -> None:
        self._graphs, self._count, self._worth = graphs, len(channels), worth
        self._ends = np.cumsum(channels).tolist()[:-1]
        state = graphs("float_hyper_synthesis", z_hat=z_hat)["state"]
        self._weights, self._scales = weights, ""
        self._given: dict[str, NDArray[Any]] = {"x": x, "pixels": weights, "state": state, "worth": _number(worth)}
        if similar:
            found = similarity(x, weights)
            self._weights, self._scales = found.weights, f" {scales_of(found.height, found.width)}"
            sides = np.array([[found.height], [found.width]], np.int64)
            self._given |= {"worth": _number(worth * found.worth), "height": sides[0], "width": sides[1]}

    def curvature(self, y: Array) -> Array:
        part = np.rint(middle(y))
        rows, columns = (16 * side for side in part.shape[-2:])
        d_y = self._graphs("synthesis_gradient", y_hat=part, d_x=random_signs((1, 3, rows, columns)))["d_y"]
        everywhere = np.asarray(2 * self._worth * np.square(d_y).mean((0, 2, 3), keepdims=True), np.float32)
        return everywhere * local_weights(self._weights)

    def gradient(self, y: Array, temperature: float) -> tuple[Array, Array]:
        given = {**self._given, "sharpness": _number(1 / temperature), **self._slices("y", y)}
        found = self._graphs(f"objective_gradient{self._scales}", **given)
        return self._joined(found, "d_y"), self._joined(found, "sigma")

    def moves(self, values: Array, relative: bool) -> Moves:
        given = {**self._given, "relative": _number(relative), **self._slices("values", values)}
        found = self._graphs(f"moves{self._scales}", **given)
        arrays = (self._joined(found, name) for name in ("symbols", "mean", "d_symbols", "up", "down"))
        return Moves(float(found["value"]), *arrays)

    def _joined(self, found: dict[str, NDArray[Any]], name: str) -> Array:
        return np.concatenate([found[f"{name}{k}"] for k in range(self._count)], 1)

    def _slices(self, name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
        parts = np.split(array, self._ends, 1)
        return {f"{name}{k}": np.ascontiguousarray(part) for k, part in enumerate(parts)}


def _number(value: float) -> Array:
    return np.array(value, np.float32)
