"""Graphs of the encoder's search in `lite`, for pictures that are taken whole: the objective's gradient.

The entropy model is in floating point here, as `dcae/networks/lite/slices.py` and `wiring.py` have it, since its exact
form has no gradients. What is computed, and why, says `dcae/runtime/torch_search.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dcae.networks.bounds import LEAST_PROBABILITY, QUERY_BOUND
from dcae.networks.graph import BuiltGraph, Graph
from dcae.networks.graph_gradients import gradients
from dcae.networks.graph_ms_ssim import ms_ssim
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.graph_bands import GraphWhole
from dcae.networks.lite.graph_blocks import Blocks, Weights
from dcae.networks.lite.graphs import left_latents, means_of, synthesised, with_means, with_skip
from dcae.networks.scales import SCALE_LEVELS, SCALE_MIN, SCALE_STEP
from dcae.networks.walk import walk_slices

GRID = 64
"""Means and ŷ are multiples of 1 / GRID."""
_BITS = -1 / math.log(2)
"""Bits of a natural logarithm of a probability."""


def synthesis_gradient(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`y_hat` and `d_x`, the gradient of anything with respect to x̂0 -> that with respect to ŷ."""
    g = Graph()
    y_hat = g.input("y_hat", 4)
    x_hat = synthesised(_blocks(g, config, weights), g.nhwc(y_hat))
    return g.built(d_y=gradients(g, {x_hat: g.input("d_x", 4)}, [y_hat])[0])


def float_hyper_synthesis(config: LiteConfig, weights: Weights) -> BuiltGraph:
    """`z_hat` and `inverse_z` -> state (1, H/16, W/16, E) of slice 0."""
    g = Graph()
    blocks = _blocks(g, config, weights)
    x = g.op("Mul", g.nhwc(g.input("z_hat", 4)), g.input("inverse_z", 1))
    x = blocks.conv_layer(blocks.linear(x, "h_s.embed"), "h_s.layer1", norm=False)
    x = blocks.conv_layer(_spread(g, blocks.linear(x, "h_s.up1")), "h_s.layer2", norm=False)
    return g.built(state=blocks.modulation(_spread(g, blocks.linear(x, "h_s.up2")), "h_s.modulation"))


def objective_gradient(config: LiteConfig, weights: Weights, scales: int = 0) -> BuiltGraph:
    """Gradient of J = `worth` · squared error + bits, and σ of every latent.

    If `scales` are given, J is `worth` · (1 - MS-SSIM) + bits, of so many scales and of the first `height` rows and
    `width` columns, (1,) int64, in place of `pixels`.

    Inputs are `x`, `pixels` (1, 1, H, W), how much the squared error of each counts; `state` of slice 0; `y0`, ...,
    (1, C_k, H/16, W/16); `sharpness`, the inverse of the soft rounding's temperature, and `worth`, numbers; and gains
    (channels,). Of a closed loop further `skip_worth` (1, 1, 1, C_k), `skip_gain`, `skip_inverse` and `step`. Outputs
    are `d_y0`, ... and `sigma0`, ..., (1, C_k, H/16, W/16).
    """
    g = Graph()
    sigmas: dict[str, str] = {}
    y = [g.input(f"y{k}", 4) for k in range(_searched(config))]

    def symbols_of(k: int, prior: _Prior) -> tuple[str, str]:
        symbols = _soft_rounded(g, g.op("Sub", g.nhwc(y[k]), prior.mean))
        sigmas[f"sigma{k}"] = g.nchw(prior.sigma)
        return symbols, symbols

    _, seeds, constant = _objective(_blocks(g, config, weights), symbols_of, scales)
    d_y = dict(zip((f"d_{name}" for name in y), gradients(g, seeds, y, constant), strict=True))
    return g.built(**d_y, **sigmas)


def moves(config: LiteConfig, weights: Weights, scales: int = 0) -> BuiltGraph:
    """Symbols and what changing them would do, see `dcae.runtime.search.Moves`.

    Inputs are those of :func:`objective_gradient`, but for `y0`, ... and `sharpness`: `values0`, ...,
    which are symbols if the number `relative` is 0 and latents if it is 1. Outputs are `value` and `symbols0`, ...,
    `mean0`, ..., `d_symbols0`, ..., `up0`, ... and `down0`, ..., (1, C_k, H/16, W/16).
    """
    g = Graph()
    symbols: list[str] = []
    found: dict[str, str] = {}
    own: set[str] = set()

    def symbols_of(k: int, prior: _Prior) -> tuple[str, str]:
        mean = g.op("Mul", prior.mean, g.input("relative", 0))
        symbols.append(g.op("Round", g.op("Sub", g.nhwc(g.input(f"values{k}", 4)), mean)))
        coded = g.op("Identity", symbols[k])
        own.add(coded)
        bits, up, down = (
            g.op("Mul", _log_probability(g, g.op("Add", coded, g.constant(change)), prior.sigma), g.constant(_BITS))
            for change in (0, 1, -1)
        )
        for name, value in {"up": g.op("Sub", up, bits), "down": g.op("Sub", down, bits), "mean": prior.mean}.items():
            found[f"{name}{k}"] = g.nchw(value)
        return symbols[k], coded

    value, seeds, constant = _objective(_blocks(g, config, weights), symbols_of, scales)
    for k, gradient in enumerate(gradients(g, seeds, symbols, constant | own)):
        found |= {f"d_symbols{k}": g.nchw(gradient), f"symbols{k}": g.nchw(symbols[k])}
    return g.built(value=value, **found)


def _objective(
    blocks: Blocks, symbols_of: Callable[[int, _Prior], tuple[str, str]], scales: int
) -> tuple[str, dict[str, str], set[str]]:
    """J, what its gradient begins with, and what counts as a constant when gradients are taken.

    Args:
        symbols_of: number of a slice and its prior -> its symbols as the decoder has them, and as they are coded.
    """
    g, config = blocks.graph, blocks.config
    seeds: dict[str, str] = {}
    constant: set[str] = set()
    base = ""

    def quantised(k: int, prior: _Prior, y_hats: list[str]) -> str:
        nonlocal base
        if k == _searched(config):  # a closed loop's: coded as they come, not searched
            base = synthesised(blocks, g.op("Concat", *y_hats, axis=-1))
            symbols = coded = _skip_symbols(blocks, base, prior)
            constant.add(symbols)
        else:
            symbols, coded = symbols_of(k, prior)
        seeds[_log_probability(g, coded, prior.sigma, constant)] = g.constant(_BITS)
        return g.op("Add", symbols, prior.mean)

    y_hats = walk_slices(_FloatEntropyModel(blocks), len(config.slices), g.input("state", 4), None, quantised)
    if base:  # x̂ follows x̂0 without gradients of its own
        x_hat = with_skip(blocks, base, g.nchw(y_hats[-1]))
        x_hat = with_means(g, config, x_hat, g.op("Round", means_of(g, config, g.input("x", 4), x_hat)))
    else:
        base = x_hat = synthesised(blocks, g.op("Concat", *y_hats, axis=-1))
    error, gradient = _error(g, x_hat, scales)
    terms = [g.op("Mul", bits, factor) for bits, factor in seeds.items()]
    value = g.op("Sum", error, *(g.op("ReduceSum", term, keepdims=0) for term in terms))
    seeds[base] = gradient
    return value, seeds, constant


def _error(g: Graph, x_hat: str, scales: int) -> tuple[str, str]:
    """Bits that the errors of x̂ are worth, and their gradient."""
    x, worth = g.input("x", 4), g.input("worth", 0)
    if not scales:
        wrong = g.op("Sub", x_hat, x)
        error = g.op("Mul", g.op("Mul", wrong, g.input("pixels", 4)), worth)
        return g.op("ReduceSum", g.op("Mul", error, wrong), keepdims=0), g.op("Mul", error, g.constant(2))
    seen = x_hat
    for axis, side in ((2, "height"), (3, "width")):
        x, seen = (g.slice(value, 0, g.input(side, 1, "int64"), axis) for value in (x, seen))
    similar, gradient = ms_ssim(g, x, seen, scales)
    (gradient,) = gradients(g, {seen: g.op("Neg", g.op("Mul", gradient, worth))}, [x_hat])
    return g.op("Mul", g.op("Sub", g.constant(1), similar), worth), gradient


def _searched(config: LiteConfig) -> int:
    """Slices that are searched: not a closed loop's."""
    return len(config.slices) - (config.skip_channels > 0)


def _skip_symbols(blocks: Blocks, base: str, prior: _Prior) -> str:
    """Symbols of the skip latents, zero where they are not worth their bits."""
    g, zero = blocks.graph, blocks.graph.constant(0)
    left = g.op("Sub", g.nhwc(left_latents(blocks, g.input("x", 4), base)), prior.mean)
    symbols, costs = g.op("Round", left), []
    for value in (symbols, g.op("Mul", left, zero)):
        error = g.op("Sub", left, value)
        error = g.op("Mul", g.op("Mul", error, error), g.input("skip_worth", 4))
        bits = g.op("Mul", _log_probability(g, value, prior.sigma), g.constant(_BITS))
        costs.append(g.op("Add", error, bits))
    return g.op("Where", g.op("Less", costs[1], costs[0]), zero, symbols)


def _soft_rounded(g: Graph, x: str) -> str:
    sharpness, half = g.input("sharpness", 0), g.constant(0.5)
    centre = g.op("Add", g.op("Floor", x), half)
    rounded = g.op("Tanh", g.op("Mul", g.op("Sub", x, centre), sharpness))
    most = g.op("Mul", g.op("Tanh", g.op("Mul", sharpness, half)), g.constant(2))
    return g.op("Add", centre, g.op("Div", rounded, most))


def _log_probability(g: Graph, symbols: str, sigma: str, constant: set[str] | None = None) -> str:
    """Natural logarithm of the probability of symbols, fractions too, under Gaussians of mean 0.

    Args:
        constant: is given what counts as a constant when gradients are taken.
    """
    width = g.op("Mul", g.clip(sigma, SCALE_MIN, math.inf), g.constant(2**0.5))
    distance, half = g.op("Abs", symbols), g.constant(0.5)
    far, near = (g.op("Div", g.op(kind, distance, half), width) for kind in ("Add", "Sub"))
    probability = g.op("Mul", g.op("Sub", g.op("Erf", far), g.op("Erf", near)), half)
    # Beyond the middle of the Gaussian nothing of that difference is left. Its gradient is exact, its value is not.
    tail = g.op("Mul", g.op("Sub", _erfc(g, g.op("Relu", near)), _erfc(g, far)), half)
    better = g.op("Where", g.op("Greater", near, half), g.op("Sub", tail, probability), g.constant(0))
    if constant is not None:
        constant.add(better)
    return g.op("Log", g.clip(g.op("Add", probability, better), LEAST_PROBABILITY, math.inf))


def _erfc(g: Graph, z: str) -> str:
    """The complementary error function of z >= 0, which ONNX lacks, to some millionths of its value where that is
    above 1e-15: t·exp(polynomial(t) - z²) of t = 2 / (2 + z)."""
    t = g.op("Div", g.constant(2), g.op("Add", z, g.constant(2)))
    sum_, *others = (g.constant(c) for c in reversed(erfc_polynomial()))
    for coefficient in others:
        sum_ = g.op("Add", g.op("Mul", sum_, t), coefficient)
    return g.op("Mul", t, g.op("Exp", g.op("Sub", sum_, g.op("Mul", z, z))))


@cache
def erfc_polynomial() -> list[float]:
    """Coefficients of log(erfc(z) / t) + z² in powers of t, for z from 0 to 6."""

    def exponent(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([math.log(math.erfc(z) / ti) + z * z for ti, z in zip(t, 2 / t - 2, strict=True)])

    found = np.polynomial.Chebyshev.interpolate(exponent, 9, domain=[0.25, 1])
    coefficients: list[float] = found.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef.tolist()
    return coefficients


class _Prior:
    """Prediction of a slice; channels are innermost."""

    def __init__(self, mean: str, sigma: str, state: str, hidden: str) -> None:
        self.mean, self.sigma = mean, sigma
        self.support = state, hidden


class _FloatEntropyModel:
    """The steps from one slice to the next as parts of a graph, on maps (1, rows, columns, channels)."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.graph, self.config = blocks, blocks.graph, blocks.config
        ends = np.cumsum(self.config.slices).tolist()
        self._ranges = [(end - count, end) for count, end in zip(self.config.slices, ends, strict=True)]

    def slice_prior(self, k: int, context: str, q: None) -> _Prior:
        g, name, channels = self.graph, f"slice_networks.{k}", self.config.slices[k]
        state = self.blocks.conv_layer(self._attention(context, f"{name}.attention"), f"{name}.layer", norm=False)
        rows = slice(channels), slice(channels, 2 * channels), slice(2 * channels, None)
        mean, scale, hidden = (self.blocks.linear(state, f"{name}.head", part) for part in rows)
        mean = self._on_grid(g.op("Mul", mean, self._gain("mean_gain", k)))
        scale = g.op("Add", g.op("Div", scale, g.constant(SCALE_STEP)), self._gain("scale_offset", k))
        scale = g.op("Mul", g.clip(scale, -math.inf, SCALE_LEVELS - 1), g.constant(SCALE_STEP))
        return _Prior(mean, g.op("Mul", g.op("Exp", scale), g.constant(SCALE_MIN)), state, hidden)

    def latent_residual(self, k: int, support: tuple[str, str], y_hat: str, q: None) -> str:
        g, name = self.graph, f"slice_networks.{k}"
        hidden = g.op("Add", self.blocks.linear(self._unit_variance(k, y_hat), f"{name}.residual_in"), support[1])
        residual = g.clip(self.blocks.linear(g.op("Relu", hidden), f"{name}.residual_out"), -1, 1)
        return self._on_grid(g.op("Add", y_hat, g.op("Mul", residual, g.constant(0.5))))

    def extend_context(self, k: int, context: str, support: tuple[str, str], y_hat: str, q: None) -> str:
        extension = self.blocks.linear(self._unit_variance(k, y_hat), f"slice_networks.{k}.extend")
        return self.graph.op("Add", support[0], extension)

    def _attention(self, x: str, name: str) -> str:
        """Dictionary attention."""
        g, dictionary, depth = self.graph, self.blocks.weights["dictionary"], self.config.head_channels
        entries, width = dictionary.shape
        heads = width // depth
        query = g.clip(self.blocks.linear(x, f"{name}.query"), -QUERY_BOUND, QUERY_BOUND)
        query = g.transpose(g.reshape(query, -1, heads, depth), 1, 0, 2)
        keys = (dictionary @ self.blocks.weights[f"{name}.key.weight"].T).reshape(entries, heads, depth)
        keys = keys.transpose(1, 2, 0) * np.float32(depth**-0.5)
        values = dictionary.reshape(entries, heads, depth).transpose(1, 0, 2)
        found = g.op("MatMul", g.op("Softmax", g.op("MatMul", query, g.weight(keys)), axis=-1), g.weight(values))
        rows, columns = (self.blocks.bands.length(x, axis) for axis in (1, 2))
        found = g.reshape(g.transpose(found, 1, 0, 2), 1, rows, columns, width)
        return g.op("Add", x, self.blocks.linear(found, f"{name}.out"))

    def _unit_variance(self, k: int, y_hat: str) -> str:
        return self.graph.op("Mul", y_hat, self._gain("context_gain", k))

    def _gain(self, name: str, k: int) -> str:
        return self.graph.slice(self.graph.input(name, 1), *self._ranges[k], 0)

    def _on_grid(self, x: str) -> str:
        g = self.graph
        return g.op("Mul", g.op("Round", g.op("Mul", x, g.constant(GRID))), g.constant(1 / GRID))


def _blocks(g: Graph, config: LiteConfig, weights: Weights) -> Blocks:
    return Blocks(g, config, weights, GraphWhole(g))


def _spread(g: Graph, x: str) -> str:
    """The channels of a position to 2x2 positions."""
    return g.nhwc(g.op("DepthToSpace", g.nchw(x), blocksize=2, mode="DCR"))
