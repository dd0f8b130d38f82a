"""Gradients of graphs, kind of operator by kind of operator, against torch's; the exactness of what ONNX lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dcae.networks.graph import Graph
from dcae.networks.graph_gradients import _RULES, gradients
from dcae.networks.lite.graph_bands import GraphWhole
from dcae.networks.lite.graph_search import _erfc
from dcae.runtime.onnx.runner import Runner

torch = pytest.importorskip("torch")
F = torch.nn.functional

_RANDOM = np.random.default_rng(0)
_MAP = _RANDOM.normal(size=(1, 6, 5, 8)).astype(np.float32)
"""(1, rows, columns, channels), or with any other meaning."""
_GAIN, _OFFSET = _RANDOM.uniform(0.5, 2, (2, 8)).astype(np.float32)
_MATRIX = _RANDOM.normal(size=(8, 3)).astype(np.float32)
_DEPTHWISE = _RANDOM.normal(size=(6, 1, 3, 3)).astype(np.float32)
_KERNEL = _RANDOM.normal(size=(4, 6, 2, 2)).astype(np.float32)
_CONDITION = _MAP > 0.3

Make = Callable[[Graph, str], str]


def _attention(g: Graph, x: str) -> str:
    """Of x by itself: both factors of a product depend on it."""
    logits = g.op("MatMul", g.transpose(x, 0, 1, 2, 3), g.transpose(x, 0, 1, 3, 2))
    return g.op("MatMul", g.op("Softmax", logits, axis=-1), g.transpose(x, 0, 1, 2, 3))


def _torch_attention(x: Any) -> Any:
    return torch.softmax(x @ x.transpose(2, 3), -1) @ x


CASES: dict[str, tuple[Make, Callable[[Any], Any]]] = {
    "Abs": (lambda g, x: g.op("Abs", x), lambda x: x.abs()),
    "Add": (lambda g, x: g.op("Add", g.op("Add", x, g.weight(_GAIN)), x), lambda x: 2 * x + torch.tensor(_GAIN)),
    "Clip": (lambda g, x: g.clip(x, -0.4, 0.7), lambda x: x.clamp(-0.4, 0.7)),
    "Concat": (lambda g, x: g.op("Concat", x, g.weight(_MAP), g.op("Mul", x, x), axis=2),
               lambda x: torch.cat([x, torch.tensor(_MAP), x * x], 2)),
    "Conv": (lambda g, x: g.op("Conv", x, g.weight(_DEPTHWISE), group=6, pads=[1, 0, 1, 2]),
             lambda x: F.conv2d(F.pad(x, (0, 2, 1, 1)), torch.tensor(_DEPTHWISE), groups=6)),
    "Conv of one group": (lambda g, x: g.op("Conv", x, g.weight(_KERNEL)),
                          lambda x: F.conv2d(x, torch.tensor(_KERNEL))),
    "DepthToSpace": (lambda g, x: g.op("DepthToSpace", g.nchw(x), blocksize=2, mode="DCR"),
                     lambda x: x.reshape(1, 6, 5, 2, 2, 2).permute(0, 5, 1, 3, 2, 4).reshape(1, 2, 12, 10)),
    "Div": (lambda g, x: g.op("Div", g.op("Div", x, g.weight(_GAIN)), g.op("Exp", x)),
            lambda x: x / torch.tensor(_GAIN) / x.exp()),
    "Erf": (lambda g, x: g.op("Erf", x), lambda x: torch.erf(x)),
    "Exp": (lambda g, x: g.op("Exp", x), lambda x: x.exp()),
    "LayerNormalization": (
        lambda g, x: g.op("LayerNormalization", x, g.weight(_GAIN), g.weight(_OFFSET), axis=-1, epsilon=1e-5),
        lambda x: F.layer_norm(x, (8,), torch.tensor(_GAIN), torch.tensor(_OFFSET))),
    "Log": (lambda g, x: g.op("Log", g.op("Exp", g.op("Exp", x))), lambda x: x.exp()),
    "MatMul": (lambda g, x: g.op("MatMul", x, g.weight(_MATRIX)), lambda x: x @ torch.tensor(_MATRIX)),
    "MatMul of two values": (_attention, _torch_attention),
    "Mul": (lambda g, x: g.op("Mul", g.op("Mul", x, x), g.weight(_GAIN)), lambda x: x * x * torch.tensor(_GAIN)),
    "Pad": (lambda g, x: g.op("Pad", x, g.constant([0, 2, 1, 0, 0, 0, 3, 0], "int64")),
            lambda x: F.pad(x, (0, 0, 1, 3, 2, 0))),
    "Pad with the border": (lambda g, x: GraphWhole(g).padded(x, 1, 1, 2, "edge"),
                            lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate")),
    "Relu": (lambda g, x: g.op("Relu", x), lambda x: x.relu()),
    "Reshape": (lambda g, x: g.reshape(x, -1, 2, 4), lambda x: x.reshape(-1, 2, 4)),
    "Round": (lambda g, x: g.op("Round", g.op("Exp", x)), lambda x: x.exp() + (x.exp().round() - x.exp()).detach()),
    "Slice": (lambda g, x: g.op("Add", g.slice(x, -3, 2**62, 1), g.slice(x, 1, 4, 1)), lambda x: x[:, -3:] + x[:, 1:4]),
    "Softmax": (lambda g, x: g.op("Softmax", x, axis=-1), lambda x: x.softmax(-1)),
    "SpaceToDepth": (lambda g, x: g.op("SpaceToDepth", g.transpose(x, 0, 2, 1, 3), blocksize=2),
                     lambda x: x.permute(0, 2, 1, 3)[:, :, :6].reshape(1, 5, 3, 2, 4, 2).permute(0, 3, 5, 1, 2, 4)
                     .reshape(1, 20, 3, 4)),
    "Sub": (lambda g, x: g.op("Sub", g.weight(_GAIN), g.op("Sub", g.op("Exp", x), x)),
            lambda x: torch.tensor(_GAIN) - (x.exp() - x)),
    "Tanh": (lambda g, x: g.op("Tanh", x), lambda x: x.tanh()),
    "Transpose": (lambda g, x: g.transpose(x, 2, 0, 3, 1), lambda x: x.permute(2, 0, 3, 1)),
    "Where": (lambda g, x: g.op("Where", g.op("Greater", x, g.constant(0.3)), g.op("Exp", x), x),
              lambda x: torch.where(torch.tensor(_CONDITION), x.exp(), x)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    make, of_torch = CASES[name]
    g = Graph()
    value = make(g, g.input("x", 4))
    y = of_torch(x := torch.tensor(_MAP, requires_grad=True))
    seed = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    built = g.built(y=value, d=gradients(g, {value: g.input("seed", y.ndim)}, ["x"])[0])
    found = Runner(built)(x=_MAP, seed=seed)
    np.testing.assert_allclose(found[0], y.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], torch.autograd.grad(y, x, torch.tensor(seed))[0], rtol=1e-4, atol=1e-5)


def test_every_rule_has_a_case() -> None:
    assert {name.split(" ")[0] for name in CASES} == set(_RULES)


def test_what_is_constant_gets_no_gradient() -> None:
    g = Graph()
    x = g.input("x", 4)
    square, whole = g.op("Mul", x, x), g.op("Floor", x)
    value = g.op("Add", g.op("Mul", square, x), g.op("Mul", whole, x))
    found = Runner(g.built(d=gradients(g, {value: g.constant(1)}, [x], {square})[0]))(x=_MAP)
    np.testing.assert_allclose(found[0], _MAP**2 + np.floor(_MAP), rtol=1e-6)


def test_complementary_error_function() -> None:
    """Where the difference of two values of the error function has nothing left."""
    g = Graph()
    z: NDArray[np.float32] = np.linspace(0, 5.5, 1001, dtype=np.float32)
    found = Runner(g.built(erfc=_erfc(g, g.input("z", 1))))(z=z)[0]
    np.testing.assert_allclose(found, [math.erfc(value) for value in z.tolist()], rtol=1e-5)
