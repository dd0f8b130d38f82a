"""Graphs of the entropy model of `lite` in exact arithmetic, the same integers as `dcae/entropy/exact.py` step by step.

That file's comments say what is computed; why it is exact on every machine holds here too: all values are integers that
float32 (gains: float64) holds, in whatever order they are added up. Names are those of modules. Within a graph the
state is (1, rows, columns, channels); the gains of a quality are inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.entropy.exact_bounds import (
    GATE,
    LIMIT,
    LOGIT,
    LOGITS,
    QUERY,
    SCALE_ROWS,
    STATE,
    STATE_LIMIT,
    WEIGHT_ONE,
    ExactArrays,
    Weights,
    map_names,
    site_names,
)
from dcae.networks.bounds import GATE_BOUND, QUERY_BOUND
from dcae.networks.graph import BuiltGraph, Graph
from dcae.networks.scales import SCALE_LEVELS

GRID = 64
"""Means and ŷ are multiples of 1 / GRID."""


@dataclass
class Source:
    """What the graphs are made of: a model file's weights and its tensors for exact arithmetic."""

    config: Any
    weights: Weights
    exact: ExactArrays

    def __post_init__(self) -> None:
        fractions = zip(site_names(self.config), self.exact.fractions.tolist(), strict=True)
        self.fractions: dict[str, int] = dict(fractions)
        assert set(map_names(self.config)) <= self.fractions.keys()


def hyper_synthesis(source: Source) -> BuiltGraph:
    """`z_hat` (1, N, h, w), `inverse_z` (N,), `scale` and `shift` (E,), the last three float64 -> state of slice 0."""
    g = Graph()
    p = _Parts(g, source)
    z = g.op("Mul", g.cast(g.nhwc(g.input("z_hat", 4)), "float64"), g.input("inverse_z", 1, "float64"))
    z = p.limited(p.times_power(z, source.fractions["h_s.embed"], "float64"), LIMIT, kind="float64")
    x = p.conv_layer(p.linear(g.cast(z, "float32"), "h_s.embed", STATE), "h_s.layer1")
    x = _spread(g, p.linear(p.enter(x, "h_s.up1"), "h_s.up1", STATE))
    x = p.conv_layer(x, "h_s.layer2")
    x = _spread(g, p.linear(p.enter(x, "h_s.up2"), "h_s.up2", STATE))
    shift = g.op("Mul", g.input("shift", 1, "float64"), g.constant(2.0**STATE, "float64"))
    x = g.op("Add", g.op("Mul", g.cast(x, "float64"), g.input("scale", 1, "float64")), shift)
    return g.built(state=g.cast(p.limited(x, STATE_LIMIT, kind="float64"), "float32"))


def attention_logits(source: Source, k: int) -> BuiltGraph:
    """`state` -> how far every logit of the dictionary cross-attention is below the largest, as an entry of the table
    of exponentials (heads, positions, entries) int64."""
    g = Graph()
    return g.built(below=_Parts(g, source).logits(g.input("state", 4), k))


def slice_prior(source: Source, k: int) -> BuiltGraph:
    """`state`, `exponentials` of the logits (heads, positions, entries), `mean_gain` and `scale_offset` (C_k,) float64
    -> means, table rows, the new state, and what the latent residual's hidden layer takes from it.

    Exponentials are looked up between the two graphs: ONNX Runtime takes some five times as long for that as NumPy.
    """
    g = Graph()
    p = _Parts(g, source)
    name, channels = f"slice_networks.{k}", source.config.slices[k]
    hidden = source.config.residual_width
    state = p.conv_layer(p.attention(g.input("state", 4), g.input("exponentials", 3), k), f"{name}.layer")
    out = np.repeat([0, source.fractions[f"{name}.residual_out"]], [2 * channels, hidden])
    head = p.product(p.enter(state, f"{name}.head"), f"{name}.head", out)
    sizes = g.constant([channels, channels, hidden], "int64")
    mean, scale, hidden_part = g.several("Split", 3, [head, sizes], axis=-1)
    mean = g.op("Mul", g.cast(mean, "float64"), g.input("mean_gain", 1, "float64"))
    mean = p.limited(g.op("Mul", mean, g.constant(GRID, "float64")), 2.0**21, kind="float64")
    mean = g.cast(g.op("Mul", mean, g.constant(1 / GRID, "float64")), "float32")
    row = g.op("Mul", g.cast(scale, "float64"), g.constant(SCALE_ROWS, "float64"))
    row = g.op("Round", g.op("Add", row, g.input("scale_offset", 1, "float64")))
    row = g.cast(g.clip(row, 0, SCALE_LEVELS - 1, "float64"), "uint8")
    return g.built(mean=g.nchw(mean), rows=g.nchw(row), new=state, hidden=g.op("Round", hidden_part))


def latent_residual(source: Source, k: int) -> BuiltGraph:
    """`hidden`, `y_hat` (1, C_k, h, w) and `context_gain` (C_k,) float64 -> the refined ŷ_k."""
    g = Graph()
    p = _Parts(g, source)
    name = f"slice_networks.{k}"
    hidden = p.linear(p.context(f"{name}.residual_in"), f"{name}.residual_in", source.fractions[f"{name}.residual_out"])
    hidden = g.clip(g.op("Add", hidden, g.input("hidden", 4)), 0, LIMIT)
    residual = g.clip(p.linear(hidden, f"{name}.residual_out", 5), -32, 32)  # in 1/32: half of it is in 1/64
    residual = g.op("Mul", residual, g.constant(1 / GRID))
    return g.built(refined=g.op("Add", g.input("y_hat", 4), g.nchw(residual)))


def extend_context(source: Source, k: int) -> BuiltGraph:
    """`state`, `y_hat` (1, C_k, h, w) and `context_gain` (C_k,) float64 -> the state for slice k + 1."""
    g = Graph()
    p = _Parts(g, source)
    y = p.linear(p.context(f"slice_networks.{k}.extend"), f"slice_networks.{k}.extend", STATE)
    return g.built(new=p.added(g.input("state", 4), y))


class _Parts:
    """Adds pieces to a graph; values are integers in float32 unless said otherwise."""

    def __init__(self, graph: Graph, source: Source) -> None:
        self.graph, self.fractions = graph, source.fractions
        self.source, self.config, self.exact = source, source.config, source.exact

    def limited(self, x: str, most: float, least: float | None = None, kind: str = "float32") -> str:
        """x, rounded and clamped to ±`most`, or to `least` and `most`."""
        g = self.graph
        return g.clip(g.op("Round", x), -most if least is None else least, most, kind)

    def times_power(self, x: str, exponent: int, kind: str = "float32") -> str:
        """x * 2**exponent, which follows from the model."""
        return self.graph.op("Mul", x, self.graph.weight(np.array(2.0**exponent, kind)))

    def enter(self, state: str, name: str) -> str:
        """Input of a map from the state."""
        return self.limited(self.times_power(state, self.fractions[name] - STATE), LIMIT)

    def context(self, name: str) -> str:
        """Input of a map from ŷ_k, in the entropy model's units."""
        g = self.graph
        y = g.cast(g.nhwc(g.input("y_hat", 4)), "float64")
        y = g.op("Mul", y, g.input("context_gain", 1, "float64"))
        return g.cast(
            self.limited(self.times_power(y, self.fractions[name], "float64"), LIMIT, kind="float64"), "float32"
        )

    def product(self, x: str, name: str, out: int | NDArray[Any]) -> str:
        """Result of a map with `out` fractional bits (for all rows, or for each), not yet rounded."""
        g = self.graph
        weight, bias = self.source.weights[f"{name}.weight"], self.source.weights.get(f"{name}.bias")
        out = np.broadcast_to(out, len(weight))
        # Rounded weights and biases are integers over powers of two; so are their multiples.
        x = g.op("MatMul", x, g.weight((weight * _power(out - self.fractions[name])[:, None]).T))
        return x if bias is None else g.op("Add", x, g.weight(bias * _power(out)))

    def linear(self, x: str, name: str, out: int) -> str:
        return self.graph.op("Round", self.product(x, name, out))

    def added(self, state: str, x: str) -> str:
        return self.graph.clip(self.graph.op("Add", state, x), -STATE_LIMIT, STATE_LIMIT)

    def conv_layer(self, state: str, name: str) -> str:
        """In an integer convolution any order of summation is as good; ONNX Runtime has no fast algorithm for
        depthwise ones, which might not stay within integers."""
        g, kernel = self.graph, self.source.weights[f"{name}.depthwise.weight"]
        x = self.product(self.enter(state, f"{name}.fc1"), f"{name}.fc1", self.fractions[f"{name}.depthwise"])
        x = g.nchw(self.limited(x, LIMIT, 0))
        out = self.fractions[f"{name}.fc2"]
        weight = g.weight(kernel * _power(out - self.fractions[f"{name}.depthwise"]))
        bias = g.weight(self.source.weights[f"{name}.depthwise.bias"] * _power(out))
        x = g.nhwc(g.op("Conv", x, weight, bias, group=len(kernel), pads=[1] * 4))
        state = self.added(state, self.linear(self.limited(x, LIMIT), f"{name}.fc2", STATE))
        return self._gated_unit(state, f"{name}.unit")

    def _gated_unit(self, state: str, name: str) -> str:
        g = self.graph
        hidden, value_bits = self.source.weights[f"{name}.fc2.weight"].shape[1], self.fractions[f"{name}.fc1.value"]
        x = self.product(self.enter(state, f"{name}.fc1"), f"{name}.fc1", np.repeat([GATE, value_bits], hidden))
        gate, value = g.several("Split", 2, [g.op("Round", x), g.constant([hidden] * 2, "int64")], axis=-1)
        gate, value = g.clip(gate, 0, GATE_BOUND * 2**GATE), g.clip(value, -2 * LIMIT, 2 * LIMIT)
        x = self.times_power(g.op("Mul", gate, value), self.fractions[f"{name}.fc2"] - GATE - value_bits)
        return self.added(state, self.linear(self.limited(x, LIMIT), f"{name}.fc2", STATE))

    def logits(self, state: str, k: int) -> str:
        """First half of the dictionary cross-attention, see `attention_logits`."""
        g, name = self.graph, f"slice_networks.{k}.attention"
        entries, width = self.source.weights["dictionary"].shape
        depth = self.config.head_channels
        heads = width // depth
        query = self.product(self.enter(state, f"{name}.query"), f"{name}.query", QUERY)
        query = self.limited(query, QUERY_BOUND * 2**QUERY)
        query = g.transpose(g.reshape(query, -1, heads, depth), 1, 0, 2)
        keys = self.exact.keys[k].astype(np.float32).reshape(entries, heads, depth).transpose(1, 2, 0)
        keys = keys * _power(LOGIT - QUERY - self.exact.key_shifts[k].astype(int))[:, None]
        logits = g.op("Round", g.op("MatMul", query, g.weight(keys)))
        below = g.op("Sub", g.op("ReduceMax", logits, axes=[-1]), logits)
        return g.cast(g.op("Min", below, g.constant(LOGITS - 1)), "int64")

    def attention(self, state: str, x: str, k: int) -> str:
        """Second half; the softmax divides integers x from a table by their sum."""
        g, name = self.graph, f"slice_networks.{k}.attention"
        entries, width = self.source.weights["dictionary"].shape
        depth = self.config.head_channels
        heads = width // depth
        total = g.op("ReduceSum", x, g.constant([-1], "int64"))
        x = g.op("Round", g.op("Mul", x, g.op("Div", g.constant(WEIGHT_ONE), total)))
        values = self.source.weights["dictionary"].reshape(entries, heads, depth).transpose(1, 0, 2)
        values = values * np.float32(2.0 ** self.fractions[f"{name}.out"] / WEIGHT_ONE)
        x = self.limited(g.op("MatMul", x, g.weight(values)), LIMIT)
        shape = g.op("Shape", state)
        rows = g.slice(shape, 1, 2, 0)
        x = g.reshape(g.transpose(x, 1, 0, 2), 1, rows, g.slice(shape, 2, 3, 0), width)
        return self.added(state, self.linear(x, f"{name}.out", STATE))


def _power(exponents: NDArray[Any] | int) -> NDArray[np.float32]:
    """Exact powers of two."""
    return np.asarray(np.ldexp(1.0, exponents), np.float32)


def _spread(g: Graph, x: str) -> str:
    """The channels of a position to 2x2 positions."""
    return g.nhwc(g.op("DepthToSpace", g.nchw(x), blocksize=2, mode="DCR"))
