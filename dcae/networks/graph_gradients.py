"""Gradients of graphs: reverse-mode differentiation, which adds to a graph the operators that compute them.

ONNX Runtime's plain package knows no gradients, and our graphs are made of few kinds of operators: each has its rule
here, from the gradient of its output to that of one of its inputs, in operators that ONNX Runtime has anyway.

What the rules may take for granted: where an operator broadcasts, the input that a gradient is wanted of has the shape
of the output (gains, biases and other numbers of the model get no gradients); what is sliced has four dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from dcae.networks.graph import Graph, Node


def gradients(graph: Graph, seeds: Mapping[str, str], of: Sequence[str], stop: Container[str] = ()) -> list[str]:
    """Gradients of a sum, with respect to values of a graph.

    Args:
        seeds: value -> gradient of the sum with respect to it, of its shape, or a number for all of it.
        of: what gradients are wanted of.
        stop: values that count as constants.
    """
    depending, found = set(of), dict(seeds)
    nodes = list(graph.nodes)
    for node in nodes:
        if node.kind not in _CONSTANT and node.outputs[0] not in stop and depending.intersection(node.inputs):
            depending.add(node.outputs[0])
    for node in reversed(nodes):
        if node.outputs[0] not in depending or node.outputs[0] in of or node.outputs[0] not in found:
            continue
        gradient = found.pop(node.outputs[0])
        for k, name in enumerate(node.inputs):
            if name in depending:
                part = _RULES[node.kind](graph, node, gradient, k)
                found[name] = graph.op("Add", found[name], part) if name in found else part
    return [found[name] for name in of]


_CONSTANT = {"Floor", "Shape", "Greater", "Less"}
"""Kinds of operators whose output has no gradient."""


def _mul(g: Graph, node: Node, d: str, k: int) -> str:
    return g.op("Mul", d, node.inputs[1 - k])


def _div(g: Graph, node: Node, d: str, k: int) -> str:
    if k == 0:
        return g.op("Div", d, node.inputs[1])
    return g.op("Neg", g.op("Div", g.op("Mul", d, node.outputs[0]), node.inputs[1]))


def _mat_mul(g: Graph, node: Node, d: str, k: int) -> str:
    left, right = node.inputs
    if right in g.weights:
        return g.op("MatMul", d, g.weight(g.weights[right].swapaxes(-1, -2)))
    order = _producer(g, right).attributes["perm"]  # two values are multiplied in attention alone, once transposed
    swapped = (*range(len(order) - 2), len(order) - 1, len(order) - 2)
    if k == 0:
        return g.op("MatMul", d, g.transpose(right, *swapped))
    return g.op("MatMul", g.transpose(left, *swapped), d)


def _conv(g: Graph, node: Node, d: str, k: int) -> str:
    """Of stride 1, depthwise or of one group: the convolution with the flipped kernel."""
    kernel, group = g.weights[node.inputs[1]], node.attributes.get("group", 1)
    assert group in (1, len(kernel)) and "strides" not in node.attributes
    flipped = kernel[..., ::-1, ::-1] if group > 1 else kernel[..., ::-1, ::-1].swapaxes(0, 1)
    pads = [
        side - 1 - pad for side, pad in zip(kernel.shape[2:] * 2, node.attributes.get("pads", [0] * 4), strict=True)
    ]
    return g.op("Conv", d, g.weight(flipped), group=group, pads=pads)


def _clip(g: Graph, node: Node, d: str, k: int) -> str:
    # From the output, which others keep as well; what lies on a bound counts as outside.
    y, (low, high) = node.outputs[0], node.inputs[1:]
    return _where(g, g.op("And", g.op("Greater", y, low), g.op("Less", y, high)), d)


def _relu(g: Graph, node: Node, d: str, k: int) -> str:
    return _where(g, g.op("Greater", node.outputs[0], g.constant(0)), d)


def _where(g: Graph, condition: str, d: str) -> str:
    return g.op("Where", condition, d, g.constant(0))


def _choice(g: Graph, node: Node, d: str, k: int) -> str:
    return g.op("Where", node.inputs[0], *((d, g.constant(0)) if k == 1 else (g.constant(0), d)))


def _erf(g: Graph, node: Node, d: str, k: int) -> str:
    x = node.inputs[0]
    density = g.op("Exp", g.op("Neg", g.op("Mul", x, x)))
    return g.op("Mul", d, g.op("Mul", density, g.constant(2 / math.sqrt(math.pi))))


def _tanh(g: Graph, node: Node, d: str, k: int) -> str:
    y = node.outputs[0]
    return g.op("Mul", d, g.op("Sub", g.constant(1), g.op("Mul", y, y)))


def _softmax(g: Graph, node: Node, d: str, k: int) -> str:
    """Along the last axis."""
    y = node.outputs[0]
    weighted = g.op("Mul", d, y)
    return g.op("Sub", weighted, g.op("Mul", y, g.op("ReduceSum", weighted, g.constant([-1], "int64"))))


def _norm(g: Graph, node: Node, d: str, k: int) -> str:
    """Layer norm along the last axis, whose mean and inverse deviation become outputs of the operator."""
    x, weight, _ = node.inputs
    mean, inverse = node.outputs[1:] = [f"{node.outputs[0]}.mean", f"{node.outputs[0]}.inverse"]
    normed = g.op("Mul", g.op("Sub", x, mean), inverse)
    d = g.op("Mul", d, weight)
    along = g.op("Mul", normed, g.op("ReduceMean", g.op("Mul", d, normed), axes=[-1]))
    return g.op("Mul", g.op("Sub", g.op("Sub", d, g.op("ReduceMean", d, axes=[-1])), along), inverse)


def _slice(g: Graph, node: Node, d: str, k: int) -> str:
    """Of four dimensions, along one axis; places that count from the end are constants."""
    x, begin, _, axis_name = node.inputs
    axis = int(g.constants[axis_name][0])
    if begin in g.constants and g.constants[begin] < 0:
        begin = g.op("Add", _length(g, x, axis), begin)
    after = g.op("Sub", g.op("Sub", _length(g, x, axis), begin), _length(g, d, axis))
    there = g.constant(np.arange(4) == axis, "int64")
    return g.op("Pad", d, g.op("Concat", g.op("Mul", there, begin), g.op("Mul", there, after), axis=0))


def _pad(g: Graph, node: Node, d: str, k: int) -> str:
    """With zeros."""
    assert node.attributes.get("mode", "constant") == "constant"
    begin, _ = g.several("Split", 2, [node.inputs[1]], axis=0)
    return g.op("Slice", d, begin, g.op("Add", begin, g.op("Shape", node.inputs[0])))


def _concat(g: Graph, node: Node, d: str, k: int) -> str:
    axis, begin = node.attributes["axis"], g.constant([0], "int64")
    for name in node.inputs[:k]:
        begin = g.op("Add", begin, _length(g, name, axis))
    return g.slice(d, begin, g.op("Add", begin, _length(g, node.inputs[k], axis)), axis)


def _length(g: Graph, x: str, axis: int) -> str:
    """(1,) length of an axis."""
    shape = g.op("Shape", x)
    return g.op("Gather", shape, g.constant([axis], "int64"))


def _producer(g: Graph, name: str) -> Node:
    return next(node for node in g.nodes if name in node.outputs)


_RULES: dict[str, Callable[[Graph, Node, str, int], str]] = {
    "Abs": lambda g, node, d, k: g.op("Mul", d, g.op("Sign", node.inputs[0])),
    "Add": lambda g, node, d, k: d,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DepthToSpace": lambda g, node, d, k: g.op("SpaceToDepth", d, blocksize=node.attributes["blocksize"]),  # of DCR
    "Div": _div,
    "Erf": _erf,
    "Exp": lambda g, node, d, k: g.op("Mul", d, node.outputs[0]),
    "LayerNormalization": _norm,
    "Log": lambda g, node, d, k: g.op("Div", d, node.inputs[0]),
    "MatMul": _mat_mul,
    "Mul": _mul,
    "Pad": _pad,
    "Relu": _relu,
    "Reshape": lambda g, node, d, k: g.op("Reshape", d, g.op("Shape", node.inputs[0])),
    "Round": lambda g, node, d, k: d,  # straight through, as in training
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": lambda g, node, d, k: g.op("DepthToSpace", d, blocksize=node.attributes["blocksize"], mode="DCR"),
    "Sub": lambda g, node, d, k: d if k == 0 else g.op("Neg", d),
    "Tanh": _tanh,
    "Transpose": lambda g, node, d, k: g.transpose(d, *np.argsort(node.attributes["perm"]).tolist()),
    "Where": _choice,
}
