"""The first engine: a loaded model run by torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcae.entropy.exact import Support
from dcae.entropy.portable import PortableEntropyModel
from dcae.errors import OptionError
from dcae.models.modelfile import CodingModel
from dcae.networks import steps
from dcae.networks.bands import WHOLE, Band
from dcae.networks.registry import preset_of
from dcae.runtime.process import ProcessCheck
from dcae.runtime.protocol import Array, Floats, SlicePrior, Step, Trial
from dcae.runtime.torch_search import LatentSearch, searched


def ones(count: int) -> tuple[Tensor, Tensor]:
    """(count,) ones in float32 and float64."""
    return torch.ones(count, dtype=torch.float32, device="cpu"), torch.ones(count, dtype=torch.float64, device="cpu")


_PROCESS = ProcessCheck(ones, ", or call torch.set_num_threads(1) in it")


class TorchEngine:
    """An :class:`dcae.runtime.protocol.Engine` over the networks themselves.

    Args:
        model: loaded on `device`.
        device: torch device.

    Raises:
        OptionError: a device that is not there, or cannot do what the entropy model needs.
    """

    def __init__(self, model: CodingModel, device: str = "cpu") -> None:
        if device.startswith("mps"):
            raise OptionError("device mps has no float64, which the entropy model needs; use the cpu")
        self.model = model
        self.device = device
        self.header = model.header
        portable = preset_of(model.header.config).portable
        self.numerics = (model.prior.numerics, *(["float64"] if portable else []))
        self.latent_grid = model.network.latent_grid
        self.closed_loop, self.corrects_means = model.network.closed_loop, model.network.corrects_means
        self.tables_y, self.tables_z = model.tables_y, model.tables_z
        self.z_median, self.z_coding = _array(model.z_median), model.z_coding
        self._entropy_models = {model.prior.numerics: TorchEntropyModel(model.prior, device)}

    def entropy_model(self, numerics: str) -> TorchEntropyModel:
        if numerics not in self._entropy_models:
            assert numerics in self.numerics, numerics
            self._entropy_models[numerics] = TorchEntropyModel(PortableEntropyModel(self.model.network), self.device)
        return self._entropy_models[numerics]

    @contextmanager
    def coding(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
            _PROCESS.check(torch.get_num_threads())
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
        # Gradients are known outside of inference mode alone, and only of tensors that were made there.
        with torch.inference_mode(False), torch.enable_grad():
            x_, y_, z_, weights_ = (torch.tensor(array, device=self.device) for array in (x, y, z_hat, weights))
            problem = LatentSearch(self.model.network, x_, z_, quality, weights_, similar)
            return _array(searched(problem, y_, steps))

    def analysis(self, x: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.analysis, quality, x, band=band)

    def hyper_analysis(self, y: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.hyper_analysis, quality, y, band=band)

    def synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.synthesis, quality, y_hat, band=band)

    def base_synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.base_synthesis, quality, y_hat, band=band)

    def skip_latents(self, x: Array, base: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.skip_latents, quality, x, base, band=band)

    def skip_worth(self, quality: float) -> Array:
        return self._run(self.model.network.skip_worth, quality)

    def add_skip(self, base: Array, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        return self._run(self.model.network.add_skip, quality, base, y_hat, band=band)

    def block_means(self, x: Array, x_hat: Array, quality: float) -> Array:
        return self._run(self.model.network.block_means, quality, x, x_hat)

    def add_means(self, x_hat: Array, means: Array, quality: float) -> Array:
        return self._run(self.model.network.add_means, quality, x_hat, means)

    def _run(self, hook: Callable[..., Tensor], quality: float, *arrays: Array, band: Band = WHOLE) -> Array:
        # A tensor, since a number would become one of torch's default type and device.
        q = self.model.network.conditioning(torch.tensor([quality], dtype=torch.float32, device="cpu"))
        bands = () if band.whole else (band,)  # which not every network takes
        return _array(hook(*(_tensor(array, self.device) for array in arrays), q, *bands).float())


class TorchEntropyModel:
    """An :class:`dcae.runtime.protocol.EntropyModel` over one on tensors.

    Contexts and supports stay on the device, but for exact arithmetic, where they are arrays as elsewhere.
    """

    def __init__(self, model: steps.EntropyModel, device: str) -> None:
        self.numerics = model.numerics
        self._model = model
        self._device = device
        self._arrays = model.numerics == "integer"

    def arithmetic(self) -> AbstractContextManager[None]:
        return self._model.arithmetic()

    def conditioning(self, quality: float, /) -> Any:
        return self._model.conditioning(quality)

    def hyper_synthesis(self, z_hat: Array, q: Any, /) -> Any:
        return self._out(self._model.hyper_synthesis(_tensor(z_hat, self._device), q))

    def slice_prior(self, k: int, context: Any, q: Any, /) -> SlicePrior:
        mean, scale, support = self._model.slice_prior(k, self._in(context), q)
        rows = _array(self._model.scale_index(scale).to(torch.uint8))
        return SlicePrior(_array(mean), rows, tuple(map(_array, support)) if self._arrays else support)

    def means_rows(self, q: Any, /) -> NDArray[np.uint8]:
        return _array(self._model.scale_index(self._model.means_scale(q)).to(torch.uint8))

    def latent_residual(self, k: int, support: Any, y_hat: Floats, q: Any, /) -> Floats:
        return _array(self._model.latent_residual(k, self._support(support), _tensor(y_hat, self._device), q))

    def extend_context(self, k: int, context: Any, support: Any, y_hat: Floats, q: Any, /) -> Any:
        y_hats = _tensor(y_hat, self._device)
        return self._out(self._model.extend_context(k, self._in(context), self._support(support), y_hats, q))

    def _in(self, context: Any) -> Any:
        return _tensor(context, self._device) if self._arrays else context

    def _out(self, context: Any) -> Any:
        return _array(context) if self._arrays else context

    def _support(self, support: Any) -> Any:
        return Support(*map(self._in, support)) if self._arrays else support


def _tensor(array: NDArray[Any], device: str) -> Tensor:
    return torch.from_numpy(array).to(device)


def _array(tensor: Tensor) -> NDArray[Any]:
    """The same numbers; on the CPU the same memory."""
    return tensor.cpu().numpy()
