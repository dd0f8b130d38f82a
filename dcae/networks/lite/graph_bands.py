"""What the graphs of transforms do with the rows of a band, as `dcae/networks/band_tensors.py` does.

A graph takes `first` and `last` (1,) int64, 1 for a band that has nothing above or below it, and under `kept.NAME` the
rows that it returned under that name for the band above; with `first` these are empty.
"""

from __future__ import annotations

from dcae.networks.graph import Graph


class GraphBands:
    """Adds the handling of bands to a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.kept: dict[str, str] = {}
        """Outputs by name, for the band below."""

    @property
    def first(self) -> str:
        return self.graph.input("first", 1, "int64")

    @property
    def last(self) -> str:
        return self.graph.input("last", 1, "int64")

    def joined(self, x: str, name: str, axis: int) -> str:
        """x below the rows that were kept under a name."""
        return self.graph.op("Concat", self.graph.input(f"kept.{name}", 4), x, axis=axis)

    def keep(self, x: str, name: str, begin: int | str, axis: int) -> None:
        """Keep the rows of x from `begin` on."""
        self.kept[f"kept.{name}"] = self.graph.slice(x, begin, 2**62, axis)

    def taken(self, x: str, name: str, count: str, axis: int) -> str:
        """The next `count` rows of those that were kept and x; what is left is kept."""
        x = self.joined(x, name, axis)
        self.keep(x, name, count, axis)
        return self.graph.slice(x, 0, count, axis)

    def multiple(self, x: str, name: str, size: int, above: str | None = None) -> str:
        """As many rows (axis 1) as make whole groups of `size`, the first being `above` rows longer; all rows of the
        last band."""
        g = self.graph
        x = self.joined(x, name, 1)
        above = above or g.constant([0], "int64")
        length, sizes = self.length(x, 1), g.constant([size], "int64")
        whole = g.op("Mul", g.op("Div", g.op("Add", length, above), sizes), sizes)
        count = g.op("Where", g.cast(self.last, "bool"), length, g.op("Sub", whole, above))
        self.keep(x, name, count, 1)
        return g.slice(x, 0, count, 1)

    def paired(self, a: str, b: str, name: str, axis: int) -> tuple[str, str]:
        """As many of the next rows as there are of both a and b."""
        a, b = self.joined(a, f"{name}.0", axis), self.joined(b, f"{name}.1", axis)
        count = self.graph.op("Min", self.length(a, axis), self.length(b, axis))
        self.keep(a, f"{name}.0", count, axis)
        self.keep(b, f"{name}.1", count, axis)
        return self.graph.slice(a, 0, count, axis), self.graph.slice(b, 0, count, axis)

    def padded(self, x: str, rows: int, columns: int, axis: int, mode: str) -> str:
        """x with columns (the axis after that of rows) added to both sides, and rows where the picture ends."""
        g = self.graph
        ends = [g.op("Mul", end, g.constant([rows], "int64")) for end in (self.first, self.last)]
        before, side = g.constant([0] * axis, "int64"), g.constant([columns] + [0] * (2 - axis), "int64")
        pads = g.op("Concat", before, ends[0], side, before, ends[1], side, axis=0)
        return g.op("Pad", x, pads, mode=mode)

    def length(self, x: str, axis: int) -> str:
        """(1,) length of an axis."""
        return self.graph.slice(self.graph.op("Shape", x), axis, axis + 1, 0)


class GraphWhole(GraphBands):
    """The same for pictures that are taken whole, without anything that bands need, in operators that have gradients
    (see `dcae/networks/graph_gradients.py`)."""

    @property
    def first(self) -> str:
        return self.graph.constant([1], "int64")

    last = first

    def joined(self, x: str, name: str, axis: int) -> str:
        return x

    def keep(self, x: str, name: str, begin: int | str, axis: int) -> None:
        pass

    def taken(self, x: str, name: str, count: str, axis: int) -> str:
        return x

    def multiple(self, x: str, name: str, size: int, above: str | None = None) -> str:
        return x

    def paired(self, a: str, b: str, name: str, axis: int) -> tuple[str, str]:
        return a, b

    def padded(self, x: str, rows: int, columns: int, axis: int, mode: str) -> str:
        g = self.graph
        if mode == "constant":
            side = [0] * axis + [rows, columns] + [0] * (2 - axis)
            return g.op("Pad", x, g.constant(side * 2, "int64"))
        for place, count in ((axis, rows), (axis + 1, columns)):
            end = g.op("Sub", self.length(x, place), g.constant([1], "int64"))
            borders = g.slice(x, 0, 1, place), g.slice(x, end, 2**62, place)
            x = g.op("Concat", *[borders[0]] * count, x, *[borders[1]] * count, axis=place)
        return x
