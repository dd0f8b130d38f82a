"""Graphs of the transforms of `lite`, which decide what a picture looks like but no probability.

They mirror `dcae/networks/lite/transforms.py` and `closed_loop.py`. Pictures and latents are (1, channels, rows,
columns), whole or a band of rows (see `graph_bands.py`). Gains and the modulations of stages are inputs (channels,)
named as their tables. What the search's graphs (`graph_search.py`) are made of as well is a function of its own.
"""

from __future__ import annotations

from dcae.networks.graph import BuiltGraph, Graph
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.graph_blocks import Blocks, Weights
from dcae.networks.lite.shapes import weight_shapes

__all__ = [
    "add_means",
    "add_skip",
    "analysis",
    "base_synthesis",
    "block_means",
    "hyper_analysis",
    "skip_latents",
    "weight_shapes",
]


def analysis(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x` and `gain_y` -> y."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    x = g.op("Sub", g.input("x", 4), g.constant(0.5))
    x = g.nhwc(blocks.lapped_down(x, "g_a.embed", 3))
    x = _stage(blocks, x, "g_a.stage8", 0)
    x = g.nhwc(blocks.lapped_down(g.nchw(x), "g_a.down", config.widths[0]))
    x = blocks.linear(_stage(blocks, x, "g_a.stage16", 1), "g_a.head")
    return g.built(y=g.nchw(g.op("Mul", x, g.input("gain_y", 1))), **blocks.bands.kept)


def base_synthesis(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`y_hat` without the slice of the closed loop and `inverse_y` -> x̂0."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    x_hat = synthesised(blocks, g.nhwc(g.input("y_hat", 4)))
    return g.built(x_hat=x_hat, **blocks.bands.kept)


def synthesised(blocks: Blocks, y_hat: str) -> str:
    """ŷ (1, rows, columns, channels) of the graph's own -> x̂0, as :func:`base_synthesis`."""
    g = blocks.graph
    x = g.op("Mul", y_hat, g.input("inverse_y", 1))
    x = _stage(blocks, blocks.linear(x, "g_s.embed"), "g_s.stage16", 1, reverse=True)
    x = g.nhwc(blocks.lapped_up(g.nchw(x), "g_s.up", blocks.config.widths[0]))
    x = _stage(blocks, x, "g_s.stage8", 0, reverse=True)
    return g.op("Add", blocks.lapped_up(g.nchw(x), "g_s.head", 3), g.constant(0.5))


def hyper_analysis(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`y`, `context_gain` and `gain_z` -> z."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    x = g.op("Mul", g.nhwc(g.input("y", 4)), g.input("context_gain", 1))
    x = blocks.modulation(blocks.linear(x, "h_a.embed"), "h_a.modulation")
    x = blocks.conv_layer(x, "h_a.layer", norm=False)
    x = _folded(g, blocks.bands.multiple(x, "h_a.down1", 2))
    x = blocks.conv_layer(blocks.linear(x, "h_a.down1"), "h_a.layer1", norm=False)
    x = _folded(g, blocks.bands.multiple(x, "h_a.down2", 2))
    x = g.op("Mul", blocks.linear(x, "h_a.down2"), g.input("gain_z", 1))
    return g.built(z=g.nchw(x), **blocks.bands.kept)


def skip_latents(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x`, `base` and `skip_gain`, the `gain_y` of the last slice (channels, 1, 1) -> the last slice of y."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    y = left_latents(blocks, g.input("x", 4), g.input("base", 4))
    return g.built(y=y, **blocks.bands.kept)


def left_latents(blocks: Blocks, x: str, base: str) -> str:
    """x and x̂0 -> the last slice of y, as :func:`skip_latents`."""
    g = blocks.graph
    y = blocks.lapped_down(g.op("Sub", x, base), "left_over.down", 3)
    return g.op("Mul", y, g.input("skip_gain", 3))


def add_skip(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`base`, `y_hat` and `skip_inverse`, the `inverse_y` of the last slice (channels, 1, 1) -> x̂1."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    x_hat = with_skip(blocks, g.input("base", 4), g.input("y_hat", 4))
    return g.built(x_hat=x_hat, **blocks.bands.kept)


def with_skip(blocks: Blocks, base: str, y_hat: str) -> str:
    """x̂0 and ŷ of the last slice -> x̂1, as :func:`add_skip`."""
    g = blocks.graph
    skip = blocks.lapped_up(g.op("Mul", y_hat, g.input("skip_inverse", 3)), "left_over.up", 3)
    base, skip = blocks.bands.paired(base, skip, "add_skip", 2)
    return g.op("Add", base, skip)


def block_means(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x`, `x_hat` and `step` () -> the means of blocks, in steps."""
    g = Graph()
    return g.built(means=means_of(g, config, g.input("x", 4), g.input("x_hat", 4)))


def means_of(g: Graph, config: LiteConfig, x: str, x_hat: str) -> str:
    """x and x̂1 -> the means, as :func:`block_means`."""
    side = [config.stride] * 2
    left = g.op("AveragePool", g.op("Sub", x, x_hat), kernel_shape=side, strides=side)
    return g.op("Div", left, g.input("step", 0))


def add_means(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x_hat`, `means` and `step` () -> x̂."""
    g = Graph()
    return g.built(x_hat=with_means(g, config, g.input("x_hat", 4), g.input("means", 4)))


def with_means(g: Graph, config: LiteConfig, x_hat: str, means: str) -> str:
    """x̂1 and the rounded means -> x̂, as :func:`add_means`."""
    scales = g.constant([1, 1, config.stride, config.stride])
    means = g.op("Mul", means, g.input("step", 0))
    means = g.op("Resize", means, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return g.op("Add", x_hat, means)


def _stage(blocks: Blocks, x: str, name: str, level: int, reverse: bool = False) -> str:
    x = blocks.modulation(x, f"{name}.modulation")
    layers = blocks.config.layers[level][:: -1 if reverse else 1]
    for position, letter in enumerate(layers):
        layer = f"{name}.layers.{position}"
        if letter == "C":
            x = blocks.conv_layer(x, layer, norm=True)
        else:
            x = blocks.window_attention(x, f"{layer}.attention", layers[:position].count("S") % 2 == 1)
            x = blocks.gated_unit(x, f"{layer}.unit", norm=True)
    return x


def _folded(g: Graph, x: str) -> str:
    """2x2 positions as one."""
    return g.nhwc(g.op("SpaceToDepth", g.nchw(x), blocksize=2))
