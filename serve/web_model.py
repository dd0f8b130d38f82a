"""Models for browsers: what decoding needs of a model file, small, as one file that `web/model.js` reads.

It is a safetensors file, compressed by gzip. Its metadata has one key, `dcae-web`, whose value is a JSON object:

| key | |
|---|---|
| `format` | 1 |
| `id` | of the model file, in full; `.dcae` files have its first 8 bytes |
| `config` | what the decoder asks of the configuration, under the names there, and `anchors`, the number of λ |
| `division` | how large pictures are divided, see `_division` |
| `graphs` | name -> `graph`, the tensor with the ONNX file, and `weights`, the arrays that it takes in their order |
| `tables` | name -> array |

An *array* says how numbers are stored: `data`, the tensor; `shape`; `type`, what they are once they are loaded;
`stored`, the type in the file; and where the stored ones are integers over powers of two, `exponents` (a tensor of
int8) and `grid` [a, b, c]: entry (i, j, k) of the numbers as (a, b, c) is an integer times 2^exponents[i·c + k].

Nothing is lost: every number comes out as the engines of the package use it. Numbers of several bytes lie as planes,
all lowest bytes first, since the highest ones are alike and compress well. What several graphs share is there once.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from dcae.entropy.z_coding import NAMES
from dcae.errors import OptionError
from dcae.networks.graph import BuiltGraph
from dcae.runtime.onnx import exact
from dcae.runtime.onnx.engine import OnnxEngine
from dcae.runtime.tiles import Divider

FORMAT = 2
_FIELDS = ("stride", "latent_channels", "hyper_channels", "slices", "skip_channels", "context_width", "residual_width")


def web_model(path: Path) -> bytes:
    """The model for browsers that a model file makes; the same bytes for the same file, zlib and NumPy.

    Raises:
        ModelFileError: a damaged model file.
        OptionError: a model of a preset that ONNX Runtime does not run.
    """
    engine = OnnxEngine(path)
    store = _Store()
    graphs = {
        name: {"graph": store.bytes(graph.serialised), "weights": [*map(store.exactly, graph.weights.values())]}
        for name, graph in _graphs(engine).items()
    }
    header = {
        "format": FORMAT,
        "id": engine.header.id,
        "config": {name: getattr(engine.config, name) for name in _FIELDS} | {"anchors": len(engine.config.lambdas)},
        "division": _division(Divider(engine.config)),
        "graphs": graphs,
        "tables": {name: store.plainly(array) for name, array in _tables(engine).items()},
    }
    data = save(store.tensors, metadata={"dcae-web": json.dumps(header, sort_keys=True)})
    return gzip.compress(data, 9, mtime=0)


def _graphs(engine: OnnxEngine) -> dict[str, BuiltGraph]:
    """The graphs of decoding; those of slice k are named as their functions and k."""
    source, last = engine.source, len(engine.config.slices) - 1
    graphs = {"hyper_synthesis": exact.hyper_synthesis(source)}
    for k in range(last + 1):
        graphs[f"attention_logits.{k}"] = exact.attention_logits(source, k)
        graphs[f"slice_prior.{k}"] = exact.slice_prior(source, k)
        graphs[f"latent_residual.{k}"] = exact.latent_residual(source, k)
        if k < last:
            graphs[f"extend_context.{k}"] = exact.extend_context(source, k)
    graphs["base_synthesis"] = engine.graphs.base_synthesis(engine.config, engine.weights)
    if engine.closed_loop:
        graphs["add_skip"] = engine.graphs.add_skip(engine.config, engine.weights)
    return graphs


def _tables(engine: OnnxEngine) -> dict[str, NDArray[Any]]:
    """What decoding needs beside the graphs: probabilities, gains, and those inputs of the synthesis that depend on the
    quality alone, (anchors, ...), by the names of the inputs."""
    tables: dict[str, NDArray[Any]] = {"z_median": engine.z_median.reshape(-1)}
    tables |= {f"z_{name}": getattr(engine.z_coding, name) for name in NAMES}
    for which, rows in (("y", engine.tables_y), ("z", engine.tables_z)):
        tables |= {f"{which}.{part}": getattr(rows, part) for part in ("frequencies", "lengths", "offsets")}
    source = engine.source.exact
    tables |= {"gains": source.gains, "gain_shifts": source.gain_shifts, "exponentials": source.exponentials}
    synthesis = engine.graphs.base_synthesis(engine.config, engine.weights)
    tables |= {name: engine.weights[name] for name in synthesis.inputs if name in engine.weights}
    with np.errstate(over="ignore"):  # damaged weights, whose pictures nobody promises
        gains = np.exp(engine.weights["inverse_y.log_gain"])
    tables["inverse_y"], skip = np.split(gains, [engine.config.transform_channels], 1)
    if engine.closed_loop:
        tables |= {"inverse_skip": skip, "mean_step": engine.weights["left_over.mean_step"]}
    return tables


def _division(divider: Divider) -> dict[str, int]:
    """How pictures are divided, in samples of H/16 (`z_margin`: H/64).

    `unit`: rows and columns of bands and strips are multiples of it. `rows`: least rows of a band of the synthesis.
    `columns`, `positions`, `tile`: as in `dcae/runtime/tiles.py`. `margin`, `z_margin`, `prior_margin`: samples to each
    side of a strip of the synthesis, a tile of the hyper synthesis and one of a slice's prior, which these depend on.
    """
    if divider.whole:
        raise OptionError("models whose pictures are only taken whole are not decoded in browsers")
    wide = 64 * divider.columns
    strip = [*divider.strips("base_synthesis", wide)][8]
    _, rows, _ = next(divider.bands("base_synthesis", wide, wide))
    margins = {}
    for step, scale in (("hyper_synthesis", 4), ("slice_prior", 1)):
        tiles = divider.tiles(step, wide // 32, wide // 32)
        inner = next(tile for tile in tiles if tile.rows.start and tile.columns.start)
        wanted, needed = inner.rows, inner.from_rows
        margins[step] = max(wanted.start // scale - needed.start, needed.stop - wanted.stop // scale)
    return {
        "unit": divider.unit, "rows": rows, "columns": divider.columns, "positions": divider.positions,
        "tile": divider.tile, "margin": max(strip.begin - strip.low, strip.high - strip.end),
        "z_margin": margins["hyper_synthesis"], "prior_margin": margins["slice_prior"],
    }  # fmt: skip


class _Store:
    """Collects tensors, equal ones once."""

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[np.uint8]] = {}
        self._names: dict[bytes, str] = {}

    def bytes(self, data: bytes) -> str:
        """Name of the tensor of these bytes."""
        if data not in self._names:
            self._names[data] = f"t{len(self.tensors)}"
            self.tensors[self._names[data]] = np.frombuffer(data, np.uint8)
        return self._names[data]

    def plainly(self, array: NDArray[Any]) -> dict[str, Any]:
        """An array as it is."""
        return self._described(array, array)

    def exactly(self, array: NDArray[Any]) -> dict[str, Any]:
        """An array of weights in the form that compresses best, and loses nothing."""
        forms = [_Form(array), *_half(array), *_integers(array)]
        best = min(forms, key=lambda form: len(zlib.compress(_planes(form.stored) + form.exponents.tobytes(), 1)))
        about = self._described(array, best.stored)
        return about | {"exponents": self.bytes(best.exponents.tobytes()), "grid": best.grid} if best.grid else about

    def _described(self, array: NDArray[Any], stored: NDArray[Any]) -> dict[str, Any]:
        data = self.bytes(_planes(stored))
        return {"data": data, "shape": [*array.shape], "type": array.dtype.name, "stored": stored.dtype.name}


class _Form(NamedTuple):
    """One way to store an array: as it is, or with a grid as integers (see the module's docstring)."""

    stored: NDArray[Any]
    exponents: NDArray[np.int8] = np.zeros(0, np.int8)
    grid: tuple[int, ...] = ()


def _planes(array: NDArray[Any]) -> bytes:
    """The lowest bytes of all numbers, then the next ones."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes()


def _half(array: NDArray[Any]) -> Iterator[_Form]:
    """The array in float16, if it is the same."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if np.array_equal(half.astype(array.dtype), array):
        yield _Form(half)


def _integers(array: NDArray[Any]) -> Iterator[_Form]:
    """The array as small integers, with a power of two for each entry of the first axis, the last, or both."""
    if not array.size or not np.isfinite(array).all():
        return
    first, last = (array.shape[0], array.shape[-1]) if array.ndim else (1, 1)
    grids = [(1, array.size // last, last), (first, array.size // first, 1)]
    if array.ndim > 2:
        grids.append((first, array.size // first // last, last))
    for grid in grids:
        values = array.astype(np.float64).reshape(grid)
        exponents = _exponents(values)
        integers = np.ldexp(values, -exponents)
        kind = next((kind for kind in (np.int8, np.int16) if np.abs(integers).max() <= np.iinfo(kind).max), None)
        if kind and np.abs(exponents).max() <= np.iinfo(np.int8).max:
            yield _Form(integers.astype(kind), exponents.astype(np.int8), grid)


def _exponents(values: NDArray[np.float64]) -> NDArray[np.int_]:
    """The largest powers of two, for every (i, k) of (a, b, c), that all values are multiples of: (a, 1, c)."""
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    zeros = np.log2(np.where(whole == 0, 1, whole & -whole)).astype(int)
    found = np.where(whole == 0, 1 << 20, exponent - 53 + zeros).min(1, keepdims=True)
    return np.where(found == 1 << 20, 0, found)
