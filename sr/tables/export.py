"""Export of table networks: units' outputs at all nodes become tables, and tables become units to be tuned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dcae.networks.registry import any_config
from dcae.sr.tables.config import INPUTS, Slot, TableConfig, UnitConfig
from dcae.sr.tables.layout import (
    WEIGHT_BITS,
    coarse_nodes,
    grid,
    inputs_of,
    is_split,
    near_diagonal,
    table_set,
    tensor_layouts,
)  # fmt: skip
from dcae.sr.tables.network import TableNetwork, key, untrained_network
from dcae.sr.tables.tablefile import TableHeader, write_tables
from dcae.sr.tables.units import NetworkUnit, Sampler, TableUnit
from dcae.sr.tables.weights import sampler_weights, share_weights

_AT_ONCE = 1 << 14
"""Entries that go through a network at once."""


@torch.no_grad()
def exported(network: TableNetwork) -> dict[str, NDArray[Any]]:
    """Tensors of a network as a table file holds them (:func:`dcae.sr.tables.layout.tensor_layouts`).

    A unit that is a network is asked at every node, the last of which stands for 255; one that is a table is rounded.
    """
    config = network.config
    found: dict[str, NDArray[Any]] = {}
    near = near_diagonal(config) if config.diagonal else None
    for slot in config.slots():
        unit, name = network.units[key(slot)], f"tables.{slot.name}"
        if isinstance(unit, TableUnit):
            for part in unit.entries:
                stored = name if part == "full" else f"{name}.{part}"
                found[stored] = unit.table(part).cpu().numpy().astype(np.int8)
        else:
            full = _asked(unit, config, slot)
            if near is not None and is_split(config, slot):
                found |= {f"{name}.diagonal": full[near], f"{name}.coarse": full[coarse_nodes(config)]}
            else:
                found[name] = full
        if key(slot) in network.samplers:
            sampler = network.samplers[key(slot)]
            assert isinstance(sampler, Sampler)
            found[f"samplers.{slot.name}"] = sampler_weights(sampler.raw.detach().cpu().numpy())
        if key(slot) in network.shares:
            found[f"residuals.{slot.name}"] = share_weights(network.shares[key(slot)].detach().cpu().numpy())
    return found


def _asked(unit: nn.Module, config: TableConfig, slot: Slot) -> NDArray[np.int8]:
    """The table of a unit that is a network."""
    assert isinstance(unit, NetworkUnit)
    device = unit.first.weight.device
    entries = torch.from_numpy(grid(config.interval, inputs_of(config, slot))).float()
    return np.concatenate([unit(part.T.to(device)).T.cpu().numpy() for part in entries.split(_AT_ONCE)]).astype(np.int8)


def export_tables(
    config: dict[str, Any], weights: dict[str, Tensor], path: Path, record: dict[str, Any], force: bool
) -> TableHeader:
    """Write the tables of a checkpoint; arguments as :class:`dcae.train.families.Family` says.

    Raises:
        RuntimeError: weights that do not fit.
        ModelFileError: a file that cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    network = network_from(config)
    network.load_state_dict(weights)
    if config["tuned_from"]:
        record = record | {"tuned_from": config["tuned_from"]}
    return write_tables(path, network.config, exported(network), record, force)


def network_from(content: dict[str, Any]) -> TableNetwork:
    """A network for the weights of a checkpoint.

    Args:
        content: what :func:`content_of` made.

    Raises:
        OptionError: a configuration that does not fit.
    """
    config = any_config(content["tables"])
    assert isinstance(config, TableConfig)
    return blank_network(config) if content["tuned_from"] else untrained_network(config, UnitConfig(**content["unit"]))


def content_of(config: TableConfig, unit: UnitConfig, tuned_from: str) -> dict[str, Any]:
    """What a checkpoint keeps of a network beside its weights.

    Args:
        unit: of networks.
        tuned_from: id of the file whose tables are tuned; empty for networks.
    """
    return {"tables": config.to_dict(), "unit": asdict(unit), "tuned_from": tuned_from}


def blank_network(config: TableConfig) -> TableNetwork:
    """A network of tables that are empty."""
    return tables_as_network(config, empty_tables(config))


def empty_tables(config: TableConfig) -> dict[str, NDArray[Any]]:
    """Tensors of a network in which all numbers are zero, but samplers see their windows evenly."""
    found = {name: np.zeros(layout.shape, layout.dtype) for name, layout in tensor_layouts(config).items()}
    for name in found:
        if name.startswith("samplers."):
            found[name] = sampler_weights(np.zeros((INPUTS, 1, config.sampler, config.sampler), np.float32))
    return found


def tables_as_network(config: TableConfig, tensors: dict[str, NDArray[Any]]) -> TableNetwork:
    """A network whose units are tables, to be tuned; it enlarges as the tables do.

    Samplers and shares are parameters as well.
    """
    near = torch.from_numpy(near_diagonal(config) if config.diagonal else np.zeros(0, np.int64))

    def unit(slot: Slot) -> TableUnit:
        tables = table_set(tensors, slot)._asdict()
        parts = {name: torch.from_numpy(values) for name, values in tables.items() if values is not None}
        return TableUnit(config, slot, parts, near)

    network = TableNetwork(config, unit)
    with torch.no_grad():
        for slot in config.slots():
            if (name := f"samplers.{slot.name}") in tensors:
                sampler = network.samplers[key(slot)]
                assert isinstance(sampler, Sampler)
                # Softmax leads back to what is stored.
                weights = torch.from_numpy(tensors[name].astype(np.float64) / 2**WEIGHT_BITS).clamp(min=1e-12)
                sampler.raw.copy_(weights.log()[:, None])
            if (name := f"residuals.{slot.name}") in tensors:
                network.shares[key(slot)].copy_(torch.from_numpy(tensors[name].astype(np.float64) / 2**WEIGHT_BITS))
    return network
