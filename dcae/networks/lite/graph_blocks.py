"""The blocks of the transforms of `lite` as parts of graphs, on maps (1, rows, columns, channels).

They mirror `dcae/networks/lite/blocks.py` and `dcae/networks/exact_ready.py`, whose comments say what is computed and
why; weights are looked up by the names that modules have there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dcae.networks.bounds import GATE_BOUND
from dcae.networks.graph import Graph
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.graph_bands import GraphBands

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of a network by name."""


class Blocks:
    """Adds the blocks of a network to a graph.

    Args:
        bands: what is done with the rows of a band; a :class:`GraphWhole` for a graph of whole pictures.
    """

    def __init__(self, graph: Graph, config: LiteConfig, weights: Weights, bands: GraphBands | None = None) -> None:
        self.graph, self.config, self.weights = graph, config, weights
        self.bands = bands or GraphBands(graph)

    def linear(self, x: str, name: str, rows: slice = slice(None)) -> str:
        """The map of a name, or some of its rows."""
        g = self.graph
        x = g.op("MatMul", x, g.weight(self.weights[f"{name}.weight"][rows].T))
        bias = self.weights.get(f"{name}.bias")
        return x if bias is None else g.op("Add", x, g.weight(bias[rows]))

    def norm(self, x: str, name: str) -> str:
        g = self.graph
        weight, bias = (g.weight(self.weights[f"{name}.{leaf}"]) for leaf in ("weight", "bias"))
        return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=1e-5)

    def gated_unit(self, x: str, name: str, norm: bool) -> str:
        g = self.graph
        inner = self.norm(x, f"{name}.norm") if norm else x
        half = len(self.weights[f"{name}.fc1.weight"]) // 2
        gate = g.clip(self.linear(inner, f"{name}.fc1", slice(half)), 0, GATE_BOUND)
        value = self.linear(inner, f"{name}.fc1", slice(half, None))
        return g.op("Add", x, self.linear(g.op("Mul", gate, value), f"{name}.fc2"))

    def conv_layer(self, x: str, name: str, norm: bool) -> str:
        g = self.graph
        inner = self.norm(x, f"{name}.norm") if norm else x
        inner = g.nchw(g.op("Relu", self.linear(inner, f"{name}.fc1")))
        kernel = self.weights[f"{name}.depthwise.weight"]
        pad, weight = kernel.shape[-1] // 2, g.weight(kernel)
        bias = g.weight(self.weights[f"{name}.depthwise.bias"])
        inner = self.bands.joined(inner, f"{name}.depthwise", 2)
        self.bands.keep(inner, f"{name}.depthwise", -2 * pad, 2)
        inner = self.bands.padded(inner, pad, 0, 2, "constant")
        inner = g.nhwc(g.op("Conv", inner, weight, bias, group=len(kernel), pads=[0, pad, 0, pad]))
        x = self.bands.taken(x, name, self.bands.length(inner, 1), 1)
        return self.gated_unit(g.op("Add", x, self.linear(inner, f"{name}.fc2")), f"{name}.unit", norm)

    def modulation(self, x: str, name: str) -> str:
        """Scale and shift are inputs of the graph."""
        g = self.graph
        scale, shift = (g.input(f"{name}.{leaf}", 1) for leaf in ("scale", "shift"))
        return g.op("Add", g.op("Mul", x, scale), shift)

    def lapped_down(self, x: str, name: str, inputs: int) -> str:
        """Strided convolution of whole patches, from and to (1, channels, rows, columns)."""
        g = self.graph
        weight = self.weights[f"{name}.patch.weight"]
        factor = round((weight.shape[1] / inputs / 4) ** 0.5)
        kernel = weight.reshape(-1, 2, 2, factor, factor, inputs).transpose(0, 5, 1, 3, 2, 4)
        kernel = kernel.reshape(len(weight), inputs, 2 * factor, 2 * factor)
        bias = g.weight(self.weights[f"{name}.patch.bias"])
        x = self.bands.joined(self.bands.padded(x, factor // 2, factor // 2, 2, "edge"), name, 2)
        factors = g.constant([factor], "int64")
        patches = g.op("Sub", g.op("Div", self.bands.length(x, 2), factors), g.constant([1], "int64"))
        self.bands.keep(x, name, g.op("Mul", patches, factors), 2)
        return g.op("Conv", x, g.weight(kernel), bias, strides=[factor] * 2)

    def lapped_up(self, x: str, name: str, outputs: int) -> str:
        """Convolution for the samples of a cell, which are then spread, from and to (1, channels, rows, columns)."""
        g = self.graph
        bias = self.weights[f"{name}.bias"]
        factor = round((len(bias) / outputs) ** 0.5)
        kernel = self.weights[f"{name}.patch.weight"].reshape(2, 2, len(bias), -1)
        kernel = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        x = self.bands.joined(self.bands.padded(x, 1, 1, 2, "edge"), name, 2)
        self.bands.keep(x, name, -1, 2)
        x = g.op("Conv", x, g.weight(kernel), g.weight(bias))
        x = g.op("DepthToSpace", x, blocksize=factor, mode="DCR")
        trim = g.constant([factor // 2], "int64")
        top, bottom = (g.op("Mul", end, trim) for end in (self.bands.first, self.bands.last))
        x = g.slice(x, top, g.op("Sub", self.bands.length(x, 2), bottom), 2)
        return g.slice(x, factor // 2, -(factor // 2), 3)

    def window_attention(self, x: str, name: str, shifted: bool) -> str:
        """Tokens of other regions than a token's own, padding or across the border, are masked."""
        g, w, d = self.graph, self.config.window, self.config.head_channels
        channels = self.weights[f"{name}.out.weight"].shape[1]
        heads, tokens, shift = channels // d, w * w, w // 2 if shifted else 0
        # Rows do not wrap around, since a band may have no other border: above the first ones windows are padded.
        above = g.op("Mul", self.bands.first, g.constant([w - shift if shift else 0], "int64"))
        x = self.bands.multiple(x, name, w, above)
        height, rows, row_regions = self._windows(x, 1, above)
        width, columns, column_regions = self._windows(x, 2)
        if shift:
            wrapped = g.op("Less", self._places(columns), g.constant(shift, "int64"))
            wrapped = g.op("Mul", g.cast(wrapped, "int64"), g.constant(2, "int64"))
            column_regions = self._rolled(g.op("Add", column_regions, wrapped), 0, shift)
        regions = g.op(
            "Add", g.reshape(row_regions, -1, 1, w, 1),
            g.op("Mul", g.reshape(column_regions, 1, -1, 1, w), g.constant(4, "int64")),
        )  # fmt: skip
        visible = g.op("Equal", g.reshape(regions, -1, 1, 1, tokens), g.reshape(regions, -1, 1, tokens, 1))

        inner = self.norm(x, f"{name}.norm")
        none = g.constant([0], "int64")
        end = g.op("Add", above, height)
        bottom, right = g.op("Sub", rows, end), g.op("Sub", columns, width)
        pads = g.op("Concat", none, above, none, none, none, bottom, right, none, axis=0)
        inner = g.op("Pad", inner, pads)
        if shift:
            inner = self._rolled(inner, 2, shift)
        cells = g.op("Div", rows, g.constant([w], "int64"))
        inner = g.transpose(g.reshape(inner, cells, w, -1, w, channels), 0, 2, 1, 3, 4)
        inner = g.reshape(inner, -1, tokens, channels)
        query, key, value = (
            g.reshape(self.linear(inner, f"{name}.qkv", slice(k * channels, (k + 1) * channels)), -1, tokens, heads, d)
            for k in range(3)
        )
        query = g.op("Mul", g.transpose(query, 0, 2, 1, 3), g.constant(d**-0.5))
        logits = g.op("MatMul", query, g.transpose(key, 0, 2, 3, 1))
        bias = self.weights[f"{name}.position_bias"][:, relative_index(w)]
        logits = g.op("Where", visible, g.op("Add", logits, g.weight(bias)), g.constant(-np.inf))
        out = g.op("MatMul", g.op("Softmax", logits, axis=-1), g.transpose(value, 0, 2, 1, 3))
        out = g.reshape(g.transpose(out, 0, 2, 1, 3), -1, tokens, channels)
        out = self.linear(out, f"{name}.out")
        out = g.transpose(g.reshape(out, cells, -1, w, w, channels), 0, 2, 1, 3, 4)
        out = g.reshape(out, 1, rows, -1, channels)
        if shift:
            out = self._rolled(out, 2, -shift)
        out = g.slice(g.slice(out, above, end, 1), 0, width, 2)
        return g.op("Add", x, out)

    def _windows(self, x: str, axis: int, above: str | None = None) -> tuple[str, str, str]:
        """Length of an axis, that padded to whole windows (both (1,)), and which of its places are padding (1) or not
        (0); `above` of them are before the beginning."""
        g = self.graph
        size, beyond = (g.constant([value], "int64") for value in (self.config.window, self.config.window - 1))
        length = self.bands.length(x, axis)
        end = length if above is None else g.op("Add", above, length)
        padded = g.op("Mul", g.op("Div", g.op("Add", end, beyond), size), size)
        places = self._places(padded)
        regions = g.cast(g.op("GreaterOrEqual", places, end), "int64")
        if above is not None:
            regions = g.op("Add", regions, g.cast(g.op("Less", places, above), "int64"))
        return length, padded, regions

    def _places(self, length: str) -> str:
        """0 to a (1,) length."""
        g = self.graph
        return g.op("Range", g.constant(0, "int64"), g.op("Squeeze", length), g.constant(1, "int64"))

    def _rolled(self, x: str, axis: int, shift: int) -> str:
        """x moved back by `shift` along an axis, its beginning to the end."""
        g = self.graph
        return g.op("Concat", g.slice(x, shift, 2**62, axis), g.slice(x, 0, shift, axis), axis=axis)


def relative_index(window: int) -> NDArray[np.intp]:
    """(tokens, tokens) position of (row_q - row_k, col_q - col_k) in a flattened (2w-1, 2w-1) table."""
    row, column = np.divmod(np.arange(window**2), window)
    dy, dx = row[:, None] - row[None, :], column[:, None] - column[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1
