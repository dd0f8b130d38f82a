"""Building of ONNX graphs.

A graph follows from the configuration alone: weights, and all that depends on them or on the quality, are external
initialisers or inputs. It takes one picture of any size. Nobody's graph is ever run but those that are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.networks import onnx_file


class BuiltGraph(NamedTuple):
    """A graph ready to be loaded."""

    serialised: bytes
    """The graph, the same for all models of a configuration."""
    weights: dict[str, NDArray[Any]]
    """External initialisers of the graph, by name. Handed over in one piece they lie one after the other, in this
    order, little endian and in C order."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs."""


@dataclass
class Node:
    """An operator of a graph under construction."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class Graph:
    """A graph under construction. Values are named by strings, which the methods return."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        """In an order in which they can be evaluated."""
        self._inputs: dict[str, bytes] = {}
        self._declared: list[bytes] = []
        self._bytes = 0
        self.constants: dict[str, NDArray[Any]] = {}
        """Initialisers that are part of the graph, by name."""
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.weights: dict[str, NDArray[Any]] = {}
        """External initialisers by name, not part of the graph."""

    def input(self, name: str, rank: int, kind: str = "float32") -> str:
        """An input of `rank` dimensions of any size; asked for again it is the same."""
        if name not in self._inputs:
            self._inputs[name] = onnx_file.value(name, rank, kind)
        return name

    def weight(self, array: NDArray[Any]) -> str:
        """A number or array of the model's: an external initialiser."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        name = f"w{len(self.weights)}"
        self._declared.append(onnx_file.external_tensor(name, array, self._bytes))
        self._bytes += array.nbytes
        self.weights[name] = array
        return name

    def constant(self, values: Any, kind: str = "float32") -> str:
        """A number or array that is the same in every model of a configuration; asked for again it is the same."""
        array = np.asarray(values, kind)
        key = kind, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = name = f"c{len(self.constants)}"
            self.constants[name] = array
        return self._known[key]

    def several(self, kind: str, outputs: int, inputs: Sequence[str], **attributes: Any) -> list[str]:
        """The outputs of an operator."""
        names = [f"n{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(Node(kind, list(inputs), list(names), attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The output of an operator that has one; an input named "" is left out."""
        return self.several(kind, 1, inputs, **attributes)[0]

    # -- operators that need constants ------------------------------------------------------------------------

    def reshape(self, x: str, *shape: int | str) -> str:
        """x in another shape, whose sizes are numbers (0 keeps one, -1 is what is left) or (1,) int64 values."""
        if all(isinstance(size, int) for size in shape):
            return self.op("Reshape", x, self.constant(shape, "int64"))
        sizes = [size if isinstance(size, str) else self.constant([size], "int64") for size in shape]
        return self.op("Reshape", x, self.op("Concat", *sizes, axis=0))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=order)

    def nchw(self, x: str) -> str:
        return self.transpose(x, 0, 3, 1, 2)

    def nhwc(self, x: str) -> str:
        return self.transpose(x, 0, 2, 3, 1)

    def clip(self, x: str, low: float, high: float, kind: str = "float32") -> str:
        return self.op("Clip", x, self.constant(low, kind), self.constant(high, kind))

    def cast(self, x: str, kind: str) -> str:
        return self.op("Cast", x, to=onnx_file.KINDS[kind])

    def slice(self, x: str, begin: int | str, end: int | str, axis: int) -> str:
        """x[begin:end] along an axis; the bounds are numbers or (1,) int64 values."""
        bounds = [b if isinstance(b, str) else self.constant([b], "int64") for b in (begin, end)]
        return self.op("Slice", x, *bounds, self.constant([axis], "int64"))

    # -- the end ----------------------------------------------------------------------------------------------

    def built(self, **outputs: str) -> BuiltGraph:
        """The graph with these values as outputs, in their order."""
        names = {name: f"out.{name}" for name in outputs}
        nodes = [*self.nodes, *(Node("Identity", [value], [names[name]], {}) for name, value in outputs.items())]
        operators = [onnx_file.node(n.kind, n.inputs, n.outputs, n.attributes) for n in nodes]
        constants = [onnx_file.tensor(name, array) for name, array in self.constants.items()]
        serialised = onnx_file.model(
            operators, [*constants, *self._declared], self._inputs.values(), [*names.values()]
        )  # fmt: skip
        return BuiltGraph(serialised, self.weights, tuple(self._inputs))
