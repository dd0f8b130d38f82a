"""Golden outputs of the published table programs, and the synthetic tables that they were made with.

tests/golden/lut.npz holds every fifth row of the outputs for synthetic tables; ../shared, where it is there, all rows,
and outputs for the published tables. The reference beside the golden file says how the tables are drawn.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.sr.tables.config import Slot, TableConfig, published_config
from dcae.sr.tables.layout import coarse_nodes, grid, has_residual, inputs_of, is_split, near_diagonal
from dcae.sr.tables.weights import sampler_weights, share_weights

SMALL = Path(__file__).with_name("golden") / "lut.npz"
ROWS = slice(None, None, 5)
"""Rows that the small file holds of every output."""


def drawn(tag: str, count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1)."""
    key = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:16], "little")
    return (np.random.Philox(key=key).random_raw(count) >> np.uint64(11)) * 2.0**-53


def drawn_table(tag: str, interval: int, inputs: int, outputs: int, kind: str) -> NDArray[np.int8]:
    """(entries, outputs): the mean of the inputs as the stage `kind` wants it, and noise."""
    levels = grid(interval, inputs).astype(np.float64)
    u = drawn(f"lut-table|{tag}", len(levels) * outputs).reshape(-1, outputs)
    if kind == "up":
        values = np.rint(levels.mean(1, keepdims=True) / 4) + np.rint(24 * u - 12)
    else:
        own = levels if kind == "mix" else levels.mean(1, keepdims=True)
        values = np.rint(own - 127) + np.rint(40 * u - 20)
    return np.clip(values, -127, 127).astype(np.int8)


def golden_case(key: str) -> tuple[TableConfig, dict[str, NDArray[Any]]]:
    """Configuration and tensors of `synthetic/...`."""
    family, *rest = key.split("/")[1].split("_")
    if family == "srlut":
        variant, scale, interval = rest[0], int(rest[1][1:]), int(rest[2].removeprefix("interval"))
        config = published_config(f"srlut-{variant.lower()}", scale, interval=interval)
        return config, _tensors(config, f"srlut|{variant}|x{scale}|i{interval}", lambda slot: "")
    if family == "mulut":
        modes, scale = rest[0], int(rest[1][1:])
        config = published_config("mulut", scale, units=tuple(modes))
        return config, _tensors(config, f"mulut|x{scale}|{modes}|", lambda slot: f"s{slot.stage}_{modes[slot.unit]}")
    kind, modes, scale = rest[0], rest[1], int(rest[2][1:])
    side = int(rest[3][1:]) if family == "autolut" else 0
    config = published_config("spflut-dfc", scale, units=tuple(modes), sampler=side, residual=side > 0)
    return config, _tensors(
        config, f"{family}_{kind}|x{scale}|{modes}|k{side}|",
        lambda slot: "s5_channel" if slot.stage == 5 else f"s{slot.stage}c{slot.channel}_{modes[slot.unit]}",
    )  # fmt: skip


def _tensors(config: TableConfig, start: str, name: Any) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for slot in config.slots():
        tag, kind = start + name(slot), config.stages[slot.stage - 1]
        full = drawn_table(tag, config.interval, inputs_of(config, slot), config.outputs(slot.stage), kind)
        found |= table_tensors(config, slot, full)
        if config.sampler and kind != "mix":
            raw = 2 * (2 * drawn(f"lut-sampler|{tag}", 4 * config.sampler**2) - 1)
            shape = (4, 1, config.sampler, config.sampler)
            found[f"samplers.{slot.name}"] = sampler_weights(raw.astype(np.float32).reshape(shape))
        if has_residual(config, slot):
            found[f"residuals.{slot.name}"] = share_weights((0.5 * drawn(f"lut-residual|{tag}", 4)).astype(np.float32))
    return found


def table_tensors(config: TableConfig, slot: Slot, full: NDArray[np.int8]) -> dict[str, NDArray[np.int8]]:
    """The tensors of a unit whose table at full sampling is given."""
    name = f"tables.{slot.name}"
    if not is_split(config, slot):
        return {name: full}
    return {f"{name}.diagonal": full[near_diagonal(config)], f"{name}.coarse": full[coarse_nodes(config)]}
