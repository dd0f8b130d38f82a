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

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of a network by name."""


class Blocks:
    """Adds the blocks of a network to a graph."""

    def __init__(self, graph: Graph, config: LiteConfig, weights: Weights) -> None:
        self.graph, self.config, self.weights = graph, config, weights

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
        pads, weight = [kernel.shape[-1] // 2] * 4, g.weight(kernel)
        bias = g.weight(self.weights[f"{name}.depthwise.bias"])
        inner = g.nhwc(g.op("Conv", inner, weight, bias, group=len(kernel), pads=pads))
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
        return g.op("Conv", self._padded(x, factor // 2), g.weight(kernel), bias, strides=[factor] * 2)

    def lapped_up(self, x: str, name: str, outputs: int) -> str:
        """Convolution for the samples of a cell, which are then spread, from and to (1, channels, rows, columns)."""
        g = self.graph
        bias = self.weights[f"{name}.bias"]
        factor = round((len(bias) / outputs) ** 0.5)
        kernel = self.weights[f"{name}.patch.weight"].reshape(2, 2, len(bias), -1)
        kernel = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        x = g.op("Conv", self._padded(x, 1), g.weight(kernel), g.weight(bias))
        x = g.op("DepthToSpace", x, blocksize=factor, mode="DCR")
        trim = factor // 2
        return g.slice(g.slice(x, trim, -trim, 2), trim, -trim, 3)

    def _padded(self, x: str, count: int) -> str:
        """(1, channels, rows, columns) with its first and last rows and columns repeated."""
        pads = self.graph.constant([0, 0, count, count, 0, 0, count, count], "int64")
        return self.graph.op("Pad", x, pads, mode="edge")

    def window_attention(self, x: str, name: str, shifted: bool) -> str:
        """Tokens of other regions than a token's own, padding or across the border, are masked."""
        g, w, d = self.graph, self.config.window, self.config.head_channels
        channels = self.weights[f"{name}.out.weight"].shape[1]
        heads, tokens, shift = channels // d, w * w, w // 2 if shifted else 0
        height, rows, row_regions = self._windows(x, 1, shift)
        width, columns, column_regions = self._windows(x, 2, shift)
        regions = g.op(
            "Add", g.reshape(row_regions, -1, 1, w, 1),
            g.op("Mul", g.reshape(column_regions, 1, -1, 1, w), g.constant(4, "int64")),
        )  # fmt: skip
        visible = g.op("Equal", g.reshape(regions, -1, 1, 1, tokens), g.reshape(regions, -1, 1, tokens, 1))

        inner = self.norm(x, f"{name}.norm")
        none = g.constant([0], "int64")
        bottom, right = g.op("Sub", rows, height), g.op("Sub", columns, width)
        pads = g.op("Concat", *[none] * 5, bottom, right, none, axis=0)
        inner = g.op("Pad", inner, pads)
        if shift:
            inner = self._rolled(self._rolled(inner, 1, shift), 2, shift)
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
            out = self._rolled(self._rolled(out, 1, -shift), 2, -shift)
        out = g.slice(g.slice(out, 0, height, 1), 0, width, 2)
        return g.op("Add", x, out)

    def _windows(self, x: str, axis: int, shift: int) -> tuple[str, str, str]:
        """Length of an axis, that padded to whole windows (both (1,)), and the region of every padded place."""
        g, w = self.graph, self.config.window
        shape = g.op("Shape", x)
        length = g.slice(shape, axis, axis + 1, 0)
        size = g.constant([w], "int64")
        padded = g.op("Add", length, g.constant([w - 1], "int64"))
        padded = g.op("Mul", g.op("Div", padded, size), size)
        places = g.op("Range", g.constant(0, "int64"), g.op("Squeeze", padded), g.constant(1, "int64"))
        regions = g.cast(g.op("GreaterOrEqual", places, length), "int64")
        if shift:
            wrapped = g.cast(g.op("Less", places, g.constant(shift, "int64")), "int64")
            regions = g.op("Add", regions, g.op("Mul", wrapped, g.constant(2, "int64")))
            regions = self._rolled(regions, 0, shift)
        return length, padded, regions

    def _rolled(self, x: str, axis: int, shift: int) -> str:
        """x moved back by `shift` along an axis, its beginning to the end."""
        g = self.graph
        return g.op("Concat", g.slice(x, shift, 2**62, axis), g.slice(x, 0, shift, axis), axis=axis)


def relative_index(window: int) -> NDArray[np.intp]:
    """(tokens, tokens) position of (row_q - row_k, col_q - col_k) in a flattened (2w-1, 2w-1) table."""
    row, column = np.divmod(np.arange(window**2), window)
    dy, dx = row[:, None] - row[None, :], column[:, None] - column[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1
