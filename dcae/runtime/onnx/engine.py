"""The second engine: a loaded model run by ONNX Runtime, on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.entropy.exact_bounds import ExactArrays, Gains, check, gains_at
from dcae.errors import ModelFileError, OptionError
from dcae.models.stored import StoredModel, read_model
from dcae.networks.bands import WHOLE, Band
from dcae.networks.graph import BuiltGraph
from dcae.networks.registry import preset_of
from dcae.networks.scales import SCALE_LEVELS
from dcae.runtime.onnx import exact
from dcae.runtime.onnx.runner import Runner, number_of_threads
from dcae.runtime.onnx.search import GraphSearch
from dcae.runtime.process import ProcessCheck
from dcae.runtime.protocol import Array, Floats, SlicePrior, Step, Trial
from dcae.runtime.search import searched

_NOTHING = np.zeros((1, 0, 0, 0), np.float32)
"""What is kept of the bands above the first one."""
_PROCESS = ProcessCheck(lambda count: (np.ones(count, np.float32), np.ones(count, np.float64)))


class OnnxEngine:
    """An :class:`dcae.runtime.protocol.Engine` over graphs that are made here when they are first needed.

    Args:
        path: a model file, of a preset that has graphs.

    Raises:
        ModelFileError: a damaged model file, or one whose arithmetic would not be exact.
        OptionError: a preset without graphs.
    """

    device = "cpu"
    numerics: tuple[str, ...] = ("integer",)
    latent_grid = exact.GRID

    def __init__(self, path: Path) -> None:
        stored = read_model(path)
        self.header = stored.header
        self.config: Any = stored.header.config
        preset = preset_of(self.config)
        if not preset.graphs:
            raise OptionError(f"models of {preset.name} are not run by ONNX Runtime; use the engine torch")
        self.graphs: Any = resolve_name(preset.graphs)
        self._search: Any = resolve_name(preset.search)
        self.tables_y, self.tables_z = stored.tables_y, stored.tables_z
        self.z_median, self.symbol_coding = stored.z_median, stored.symbol_coding
        try:
            self.weights = _weights(stored, self.graphs.weight_shapes(self.config))
            self.source = _source(stored, self.weights)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from error
        self.closed_loop = "left_over.mean_step" in self.weights
        self.corrects_means = not self.closed_loop
        self._runners: dict[str, Runner] = {}
        self._entropy_model = OnnxEntropyModel(self.source)

    def entropy_model(self, numerics: str) -> OnnxEntropyModel:
        assert numerics in self.numerics, numerics
        return self._entropy_model

    @contextmanager
    def coding(self) -> Iterator[None]:
        # The threads of a graph inherit the mode in which they are started, which is in here.
        _PROCESS.check(number_of_threads())
        yield

    def search_latents(
        self,
        x: Array,
        y: Array,
        z_hat: Array,
        quality: float,
        weights: Array,
        steps: Sequence[Step | Trial],
        similar: bool = False,
    ) -> Array:
        def run(name: str, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return self._outputs(name, quality, inputs)

        c = self.config
        worth = c.mse_lambda_of(quality) * 255**2 / 3  # as of `torch_search`
        problem = GraphSearch(run, c.slices[: len(c.slices) - self.closed_loop], x, z_hat, worth, weights, similar)
        return searched(problem, y, steps)

    def analysis(self, x: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run("analysis", quality, band, x=x)

    def hyper_analysis(self, y: Array, quality: float, band: Band = WHOLE) -> Array:
        gain = self._gain("context_gain", quality)[: self.config.transform_channels]
        return self._run("hyper_analysis", quality, band, y=y, context_gain=gain)

    def synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        if not self.closed_loop:
            return self.base_synthesis(y_hat, quality, band)
        base, skip = np.split(y_hat, [self.config.transform_channels], 1)
        return self.add_skip(self.base_synthesis(base, quality, band), skip, quality, band)

    def base_synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run("base_synthesis", quality, band, y_hat=y_hat)

    def skip_latents(self, x: Array, base: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run("skip_latents", quality, band, x=x, base=base)

    def skip_worth(self, quality: float) -> Array:
        # As `skip_worth` of the network has it.
        weight = self.config.mse_lambda_of(quality) * 255**2 / 3
        energies = np.square(self.weights["left_over.up.patch.weight"]).sum(0).reshape(-1, 1, 1)
        return np.asarray(weight * self._number("skip_inverse", quality) ** 2 * energies, np.float32)[None]

    def add_skip(self, base: Array, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run("add_skip", quality, band, base=base, y_hat=y_hat)

    def block_means(self, x: Array, x_hat: Array, quality: float) -> Array:
        return self._run("block_means", quality, WHOLE, x=x, x_hat=x_hat)

    def add_means(self, x_hat: Array, means: Array, quality: float) -> Array:
        return self._run("add_means", quality, WHOLE, x_hat=x_hat, means=means)

    def _run(self, name: str, quality: float, band: Band, **inputs: Array) -> Array:
        """The first output of a graph of the transforms."""
        given: dict[str, NDArray[Any]] = {
            **inputs, "first": np.array([band.first], np.int64), "last": np.array([band.last], np.int64)
        }  # fmt: skip
        for other in self._runner(name).inputs:
            if other.startswith("kept."):
                given[other] = _NOTHING if band.first else band.kept.pop(other)
        found = self._outputs(name, quality, given)
        if not band.last:
            band.kept.update((name, values) for name, values in found.items() if name.startswith("kept."))
        return next(iter(found.values()))

    def _runner(self, name: str) -> Runner:
        if name not in self._runners:
            kind, _, scales = name.partition(" ")
            searches = not hasattr(self.graphs, kind)
            make: Callable[..., BuiltGraph] = getattr(self._search if searches else self.graphs, kind)
            graph = make(self.config, self.weights, *([int(scales)] if scales else []))
            self._runners[name] = Runner(graph, optimise=True, plan=not searches)
        return self._runners[name]

    def _outputs(self, name: str, quality: float, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of a graph, whose other inputs depend on the quality alone."""
        runner = self._runner(name)
        inputs = {other: given[other] if other in given else self._number(other, quality) for other in runner.inputs}
        return dict(zip(runner.outputs, runner(**inputs), strict=True))

    def _number(self, name: str, quality: float) -> Array:
        """What a graph takes by a name that depends on the quality alone."""
        base = self.config.transform_channels
        if name in ("skip_gain", "skip_inverse"):
            gain = self._gain("gain_y" if name == "skip_gain" else "inverse_y", quality)
            return gain[base:].reshape(-1, 1, 1)
        if name == "skip_worth":
            return self.skip_worth(quality).transpose(0, 2, 3, 1)
        if name == "step":
            return self._interpolated(self.weights["left_over.mean_step"], quality)
        if name in self.weights:  # modulations, and the offset of scales
            return self._interpolated(self.weights[name], quality)
        gain = self._gain(name, quality)
        return gain[:base] if name in ("gain_y", "inverse_y") else gain

    def _interpolated(self, table: Array, quality: float) -> Array:
        """A table over the anchors (anchors, ...) at a quality between them."""
        ladder = np.arange(len(table), dtype=np.float32)
        weights = np.maximum(1 - np.abs(np.float32(quality - 1) - ladder), np.float32(0))
        found: Array = np.asarray(weights @ table, np.float32)
        return found

    def _gain(self, name: str, quality: float) -> Array:
        """Gains per channel."""
        with np.errstate(over="ignore"):  # damaged weights, whose pictures nobody promises
            return self._interpolated(np.exp(self.weights[f"{name}.log_gain"]), quality)


class OnnxEntropyModel:
    """An :class:`dcae.runtime.protocol.EntropyModel` over graphs in exact arithmetic; contexts are arrays."""

    numerics = "integer"

    def __init__(self, source: exact.Source) -> None:
        self._source = source
        self._exponentials = source.exact.exponentials.astype(np.float32)
        self._runners: dict[tuple[str, int], Runner] = {}
        ends = np.cumsum(source.config.slices)
        self._columns = [slice(int(end) - n, int(end)) for n, end in zip(source.config.slices, ends, strict=True)]

    def arithmetic(self) -> AbstractContextManager[None]:
        return nullcontext()

    def conditioning(self, quality: float, /) -> Gains:
        return gains_at(self._source.config, self._source.exact, quality)

    def hyper_synthesis(self, z_hat: Array, q: Gains, /) -> Array:
        if ("hyper", 0) not in self._runners:
            self._runners["hyper", 0] = Runner(exact.hyper_synthesis(self._source))
        inputs = {"inverse_z": q.inverse_z, "scale": q.scale, "shift": q.shift}
        return self._runners["hyper", 0](z_hat=z_hat, **inputs)[0]

    def slice_prior(self, k: int, context: Array, q: Gains, /) -> SlicePrior:
        gains = {"mean_gain": q.mean_gain[self._columns[k]], "scale_offset": q.scale_offset[self._columns[k]]}
        (below,) = self._runner(exact.attention_logits, k)(state=context)
        exponentials = self._exponentials.take(below, mode="clip")  # faster than to refuse what cannot be
        mean, rows, state, hidden = self._runner(exact.slice_prior, k)(
            state=context, exponentials=exponentials, **gains
        )
        return SlicePrior(mean, rows, (state, hidden))

    def means_rows(self, q: Gains, /) -> NDArray[np.uint8]:
        assert q.means_scale is not None
        return np.rint(q.means_scale).clip(0, SCALE_LEVELS - 1).astype(np.uint8).reshape(1, 3, 1, 1)

    def latent_residual(self, k: int, support: Any, y_hat: Floats, q: Gains, /) -> Floats:
        gain = q.context_gain[self._columns[k]]
        return self._runner(exact.latent_residual, k)(hidden=support[1], y_hat=y_hat, context_gain=gain)[0]

    def extend_context(self, k: int, context: Array, support: Any, y_hat: Floats, q: Gains, /) -> Array:
        gain = q.context_gain[self._columns[k]]
        return self._runner(exact.extend_context, k)(state=support[0], y_hat=y_hat, context_gain=gain)[0]

    def _runner(self, make: Callable[[exact.Source, int], BuiltGraph], k: int) -> Runner:
        if (make.__name__, k) not in self._runners:
            self._runners[make.__name__, k] = Runner(make(self._source, k))
        return self._runners[make.__name__, k]


def _weights(stored: StoredModel, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """The weights in float32, of the shapes that the configuration asks for.

    Raises:
        ModelFileError: others.
    """
    if odd := stored.weights.keys() ^ shapes.keys():
        raise ModelFileError(
            f"does not fit its configuration ({len(odd)} tensors too many or too few, among them {min(odd)!r:.100})"
        )
    for name, shape in shapes.items():
        if stored.weights[name].shape != shape:
            found = stored.weights[name].shape
            raise ModelFileError(f"does not fit its configuration ({name} has shape {found} instead of {shape})")
    return {name: value.astype(np.float32) for name, value in stored.weights.items()}


def _source(stored: StoredModel, weights: dict[str, Array]) -> exact.Source:
    """What exact arithmetic is made of, checked.

    Raises:
        ModelFileError: incomplete, or not exact.
    """
    if set(stored.exact) != set(ExactArrays._fields):
        raise ModelFileError("made before `lite` had exact arithmetic, or incomplete; export it again")
    arrays = ExactArrays(**stored.exact)
    check(weights, stored.header.config, arrays)
    median = stored.z_median * exact.GRID
    if not bool((median == np.rint(median)).all()):
        raise ModelFileError("medians of z that are not on their grid")
    return exact.Source(stored.header.config, weights, arrays)
