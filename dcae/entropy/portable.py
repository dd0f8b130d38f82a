"""The entropy model of presets without exact arithmetic, evaluated in float64: `dcae encode --portable`."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from dcae.networks.base import DCAE
from dcae.networks.steps import SlicePrior

_TRANSFORMS = ("g_a", "g_s", "h_a")
"""Parts that decide no probability; they are not copied."""


class PortableEntropyModel:
    """A network's hooks from ẑ to the last ŷ in float64, where machines disagree less often by orders of magnitude.

    No proof of agreement: the check value of a file still finds what is left.
    """

    numerics = "float64"

    def __init__(self, network: DCAE) -> None:
        parts = {id(getattr(network, name)): nn.Identity() for name in _TRANSFORMS}
        with torch.inference_mode(False):  # tensors made in inference mode would keep their type
            self._network: DCAE = copy.deepcopy(network, dict(parts)).double()
            self._network.prepare_for_coding()

    def conditioning(self, quality: float) -> Any:
        return self._network.conditioning(quality)

    def hyper_synthesis(self, z_hat: Tensor, q: Any) -> Any:
        return self._network.hyper_synthesis(z_hat.double(), q)

    def slice_prior(self, k: int, context: Any, q: Any) -> SlicePrior:
        return self._network.slice_prior(k, context, q)

    def scale_index(self, scale: Tensor) -> Tensor:
        return self._network.scale_index(scale)

    def means_scale(self, q: Any) -> Tensor:
        return self._network.means_scale(q)

    def latent_residual(self, k: int, support: Any, y_hat: Tensor, q: Any) -> Tensor:
        return self._network.latent_residual(k, support, y_hat, q)

    def extend_context(self, k: int, context: Any, support: Any, y_hat: Tensor, q: Any) -> Any:
        return self._network.extend_context(k, context, support, y_hat, q)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Without autocast, which would take float64 down to bfloat16."""
        return torch.autocast(next(self._network.parameters()).device.type, enabled=False)
