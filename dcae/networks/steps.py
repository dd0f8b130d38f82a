"""The steps of an entropy model on tensors, which networks have and exact arithmetic stands in for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class SlicePrior(NamedTuple):
    """Prediction of one slice before it is decoded."""

    mean: Tensor
    """(B, C_k, H/16, W/16) of the Gaussians, in quantisation steps."""
    scale: Tensor
    """(B, C_k, H/16, W/16) in a unit of the preset's own; `DCAE.scale_index` and `DCAE.sigma` read it."""
    support: Any
    """Features of the preset's own, for `latent_residual` and `extend_context` of the same slice."""


class EntropyModel(Protocol):
    """Steps from ẑ to the last ŷ, which decide every probability: the hooks of the same names of
    :class:`dcae.networks.base.DCAE`."""

    numerics: str
    """Name of its arithmetic in files: "float32", "integer" or "float64"."""

    def conditioning(self, quality: float, /) -> Any: ...
    def hyper_synthesis(self, z_hat: Tensor, q: Any, /) -> Any: ...
    def slice_prior(self, k: int, context: Any, q: Any, /) -> SlicePrior: ...
    def scale_index(self, scale: Tensor, /) -> Tensor: ...
    def means_scale(self, q: Any, /) -> Tensor: ...
    def latent_residual(self, k: int, support: Any, y_hat: Tensor, q: Any, /) -> Tensor: ...
    def extend_context(self, k: int, context: Any, support: Any, y_hat: Tensor, q: Any, /) -> Any: ...
    def arithmetic(self) -> AbstractContextManager[None]: ...
