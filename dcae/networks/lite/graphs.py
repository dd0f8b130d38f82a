"""Graphs of the transforms of `lite`, which decide what a picture looks like but no probability.

They mirror `dcae/networks/lite/transforms.py` and `closed_loop.py`. Pictures and latents are (1, channels, rows,
columns), whole or a band of rows (see `graph_bands.py`). Gains and the modulations of stages are inputs (channels,)
named as their tables.
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
    x = g.op("Mul", g.nhwc(g.input("y_hat", 4)), g.input("inverse_y", 1))
    x = _stage(blocks, blocks.linear(x, "g_s.embed"), "g_s.stage16", 1, reverse=True)
    x = g.nhwc(blocks.lapped_up(g.nchw(x), "g_s.up", config.widths[0]))
    x = _stage(blocks, x, "g_s.stage8", 0, reverse=True)
    x = blocks.lapped_up(g.nchw(x), "g_s.head", 3)
    return g.built(x_hat=g.op("Add", x, g.constant(0.5)), **blocks.bands.kept)


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
    """`x`, `base` and `gain_y` of the last slice (channels, 1, 1) -> the last slice of y."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    left = g.op("Sub", g.input("x", 4), g.input("base", 4))
    y = blocks.lapped_down(left, "left_over.down", 3)
    return g.built(y=g.op("Mul", y, g.input("gain_y", 3)), **blocks.bands.kept)


def add_skip(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`base`, `y_hat` and `inverse_y` of the last slice (channels, 1, 1) -> x̂1."""
    g = Graph()
    blocks = Blocks(g, config, weights)
    skip = g.op("Mul", g.input("y_hat", 4), g.input("inverse_y", 3))
    skip = blocks.lapped_up(skip, "left_over.up", 3)
    base, skip = blocks.bands.paired(g.input("base", 4), skip, "add_skip", 2)
    return g.built(x_hat=g.op("Add", base, skip), **blocks.bands.kept)


def block_means(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x`, `x_hat` and `step` () -> the means of blocks, in steps."""
    g = Graph()
    side = [config.stride] * 2
    left = g.op("Sub", g.input("x", 4), g.input("x_hat", 4))
    left = g.op("AveragePool", left, kernel_shape=side, strides=side)
    return g.built(means=g.op("Div", left, g.input("step", 0)))


def add_means(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`x_hat`, `means` and `step` () -> x̂."""
    g = Graph()
    means = g.op("Mul", g.input("means", 4), g.input("step", 0))
    scales = g.constant([1, 1, config.stride, config.stride])
    means = g.op("Resize", means, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return g.built(x_hat=g.op("Add", g.input("x_hat", 4), means))


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
