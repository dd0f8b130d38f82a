"""From a trained network to a model file: freeze the probability tables, round the weights to float16."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcae.entropy.exact_export import make_exact
from dcae.entropy.tables import Tables, gaussian_tables
from dcae.errors import ModelFileError
from dcae.models import modelfile
from dcae.models.modelfile import CodingModel, ModelHeader, write_model
from dcae.networks.base import DCAE
from dcae.networks.lite.wiring import LiteDCAE

_REACH = 1000
"""Symbols of z looked at on each side of the median."""
_TAIL = 2.0**-22
_LARGE = 1 << 14
"""Smaller tensors (gains, biases, norms) stay float32: they weigh little, and a gain rounded to float16 would be a
visible error of brightness at high rates."""


def export_model(
    network: DCAE, path: Path, record: dict[str, Any], half: bool = True, force: bool = True
) -> ModelHeader:
    """Write `network` (with its entropy models) as a model file.

    Args:
        record: how it was trained, JSON-serialisable.
        half: store large weights as float16; coding uses the rounded weights in float32 on every machine.
        force: overwrite a file of that name.
    """
    _check_finite(network.state_dict())
    medians = _medians(network)
    tables_z = hyper_tables(network, medians)
    network, exact = _exact(network, tables_z, medians)
    weights = {
        name: value.half() if half and value.is_floating_point() and value.numel() >= _LARGE else value
        for name, value in network.state_dict().items()
        if value.numel() and not name.startswith("gaussian_conditional.")
    }
    _check_finite(weights)
    return write_model(path, network.config, weights, gaussian_tables(), tables_z, medians, record, exact, force)


def _check_finite(weights: dict[str, torch.Tensor]) -> None:
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise ModelFileError(f"weights that are not finite, or too large for float16: {', '.join(bad[:3])}")


def _exact(network: DCAE, tables_z: Tables, medians: torch.Tensor) -> tuple[DCAE, dict[str, torch.Tensor]]:
    """A copy, and what exact arithmetic needs; nothing for presets that have none."""
    network = copy.deepcopy(network)
    if not isinstance(network, LiteDCAE):
        return network, {}
    return network, make_exact(network, tables_z, medians)._asdict()


def coding_model(network: DCAE) -> CodingModel:
    """`network` (with its entropy models) ready to code as it is, without a model file; its id is all zeros."""
    medians = _medians(network)
    header = ModelHeader(Path(), "00" * 32, network.config, {})
    tables = gaussian_tables(), hyper_tables(network, medians)
    device = next(network.parameters()).device
    network, exact = _exact(network, tables[1], medians)
    return modelfile.coding_model(header, network, exact, tables, medians.reshape(1, -1, 1, 1), device)


def _medians(network: DCAE) -> torch.Tensor:
    """(N,) what ẑ is rounded relative to, on a grid of 1/64."""
    medians = network.entropy_bottleneck._get_medians().detach().float().reshape(-1).cpu()
    return torch.round(medians * 64) / 64


def hyper_tables(network: DCAE, medians: torch.Tensor) -> Tables:
    """One row per channel of z: the factorised prior in unit bins around `medians` (N,) + integers."""
    prior = network.entropy_bottleneck
    symbols = torch.arange(-_REACH, _REACH + 1, dtype=torch.float32, device=prior.quantiles.device)
    with torch.no_grad():
        values = symbols + medians.to(symbols.device)[:, None, None]
        pmf = prior._likelihood(values.float())[0][:, 0].double().cpu().numpy()
    pmfs, offsets = [], []
    for row in pmf:
        row = np.maximum(row, 0) / row.sum()
        low = max(int(np.searchsorted(np.cumsum(row), _TAIL)) - 1, 0)
        high = min(len(row) - int(np.searchsorted(np.cumsum(row[::-1]), _TAIL)), len(row) - 1)
        low, high = min(low, _REACH - 1), max(high, _REACH + 1)
        inner = row[low : high + 1].copy()
        inner[0] += row[:low].sum()
        inner[-1] += row[high + 1 :].sum()
        pmfs.append(inner)
        offsets.append(low - _REACH)
    return Tables.from_pmfs(pmfs, offsets)
