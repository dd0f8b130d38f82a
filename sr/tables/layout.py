"""Layout of tables: their nodes, their entries near the diagonal (DFC), and the tensors a network is stored as."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.sr.tables.config import INPUTS, Slot, TableConfig

WEIGHT_BITS = 24
"""Weights of samplers and of earlier maps are multiples of 2 to the power of minus this."""


class TensorLayout(NamedTuple):
    """Type and shape of a stored tensor."""

    dtype: str
    """NumPy's name."""
    shape: tuple[int, ...]


class TableSet(NamedTuple):
    """A unit's tables, whatever its kind; entries stand in the order of their inputs, the first varying slowest."""

    full: NDArray[np.int8] | None
    """(entries, outputs), where nothing is left out."""
    diagonal: NDArray[np.int8] | None
    """(entries near the diagonal, outputs)."""
    coarse: NDArray[np.int8] | None
    """(entries at the coarse interval, outputs)."""


def node_count(interval: int) -> int:
    """Number of nodes of an input."""
    return 2 ** (8 - interval) + 1


def nodes(interval: int) -> NDArray[np.int64]:
    """Grey levels of the nodes of an input; the last, 255, is interpolated as if it stood at 256."""
    return np.minimum(np.arange(node_count(interval)) << interval, 255)


def grid(interval: int, inputs: int) -> NDArray[np.int64]:
    """(entries, inputs) grey levels of every entry of a table at full sampling."""
    return np.stack(np.meshgrid(*[nodes(interval)] * inputs, indexing="ij"), -1).reshape(-1, inputs)


def near_diagonal(config: TableConfig) -> NDArray[np.intp]:
    """Entries of a table at full sampling that are kept there: all inputs within `diagonal` steps of the first."""
    count = node_count(config.interval)
    steps = np.stack(np.meshgrid(*[np.arange(count)] * INPUTS, indexing="ij"), -1).reshape(-1, INPUTS)
    return np.flatnonzero((abs(steps[:, 1:] - steps[:, :1]) <= config.diagonal).all(1))


def coarse_nodes(config: TableConfig) -> NDArray[np.intp]:
    """Entries of a table at full sampling that are those of one at the coarse interval."""
    count, step = node_count(config.interval), 2 ** (config.coarse - config.interval)
    index = np.arange(count**INPUTS).reshape((count,) * INPUTS)
    return index[(slice(None, None, step),) * INPUTS].ravel()


def is_split(config: TableConfig, slot: Slot) -> bool:
    """Whether a unit's table is stored in two parts; that of the mixing stage never is."""
    return bool(config.diagonal) and config.stages[slot.stage - 1] != "mix"


def inputs_of(config: TableConfig, slot: Slot) -> int:
    """Number of inputs of a unit's tables."""
    return config.kept if config.stages[slot.stage - 1] == "mix" else config.inputs


def has_residual(config: TableConfig, slot: Slot) -> bool:
    """Whether a unit mixes an earlier map into its inputs."""
    return config.residual and slot.stage > 1 and config.stages[slot.stage - 1] != "mix"


def tensor_layouts(config: TableConfig) -> dict[str, TensorLayout]:
    """Name -> type and shape of every tensor of a network.

    `tables.SLOT` (or `.diagonal` and `.coarse`) int8; `samplers.SLOT` int32 (4, k, k) and `residuals.SLOT` int32 (4,),
    both in units of 2 to the power of -:data:`WEIGHT_BITS`.
    """
    found = {}
    near = len(near_diagonal(config)) if config.diagonal else 0
    for slot in config.slots():
        outputs, inputs = config.outputs(slot.stage), inputs_of(config, slot)
        if is_split(config, slot):
            found[f"tables.{slot.name}.diagonal"] = TensorLayout("int8", (near, outputs))
            found[f"tables.{slot.name}.coarse"] = TensorLayout(
                "int8", (node_count(config.coarse) ** inputs, outputs)
            )  # fmt: skip
        else:
            found[f"tables.{slot.name}"] = TensorLayout("int8", (node_count(config.interval) ** inputs, outputs))
        if config.stages[slot.stage - 1] == "mix":
            continue
        if config.sampler:
            found[f"samplers.{slot.name}"] = TensorLayout("int32", (INPUTS, config.sampler, config.sampler))
        if has_residual(config, slot):
            found[f"residuals.{slot.name}"] = TensorLayout("int32", (INPUTS,))
    return found


def table_bytes(config: TableConfig) -> int:
    """Number of bytes of a network's tensors."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in tensor_layouts(config).values())


def table_set(tensors: dict[str, NDArray[Any]], slot: Slot) -> TableSet:
    """The tables of a unit among the tensors of a network."""
    name = f"tables.{slot.name}"
    return TableSet(tensors.get(name), tensors.get(f"{name}.diagonal"), tensors.get(f"{name}.coarse"))
