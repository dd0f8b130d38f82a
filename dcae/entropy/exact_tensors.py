"""Tensors that a model file holds for exact arithmetic; `exact_bounds.py` has the same as arrays, and the bounds.

See `dcae/entropy/exact.py` for the arithmetic, `dcae/entropy/exact_export.py` for how the numbers are chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dcae.entropy import exact_bounds
from dcae.entropy.exact_bounds import ExactArrays, map_names, site_names
from dcae.networks.exact_ready import Depthwise, ExactReady


class ExactTensors(NamedTuple):
    """Tensors of a model file for exact arithmetic; fields as in :class:`dcae.entropy.exact_bounds.ExactArrays`."""

    fractions: Tensor
    shifts: Tensor
    keys: Tensor
    key_shifts: Tensor
    value_shift: Tensor
    exponentials: Tensor
    gains: Tensor
    gain_shifts: Tensor


def maps(network: ExactReady) -> dict[str, nn.Linear | Depthwise]:
    """The linear maps with stored weights, by name, in the order in which they work."""
    found = dict(network.named_modules())
    return {name: found[name] for name in map_names(network.config)}


def sites(network: ExactReady) -> list[str]:
    """Places where integers get a fraction of their own: the inputs of all maps, and the values that gates multiply."""
    return site_names(network.config)


def power(exponents: int | Tensor) -> Tensor:
    """Exact powers of two, float64; `torch.exp2` may be off by a unit."""
    return torch.as_tensor(np.ldexp(1.0, torch.as_tensor(exponents).cpu().numpy()))


def check(network: ExactReady, exact: ExactTensors) -> None:
    """Refuse what could make a sum inexact, see :func:`dcae.entropy.exact_bounds.check`.

    Raises:
        ModelFileError: see there.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    exact_bounds.check(weights, network.config, exact_arrays(exact))


def exact_arrays(exact: ExactTensors) -> ExactArrays:
    """The same as arrays."""
    return ExactArrays(*(tensor.cpu().numpy() for tensor in exact))
