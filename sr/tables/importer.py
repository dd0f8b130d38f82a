"""Import of published tables: folders of .npy files whose names say which table of which network they hold."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.sr.tables.config import MAX_SAMPLER, PATTERNS, Slot, TableConfig, published_config
from dcae.sr.tables.layout import has_residual, is_split, near_diagonal, tensor_layouts
from dcae.sr.tables.weights import sampler_weights, share_weights

_NAME = re.compile(
    r"(?P<network>.+)_x(?P<scale>\d)_(?P<interval>\d)bit_int8"
    r"(?:_s(?P<stage>\d)(?:c(?P<channel>\d))?_(?P<unit>[a-z]|\d|channel))?"
    r"(?:_(?P<part>compress1|compress2|sampler|residual))?\.npy"
)
_PARTS = {"compress1": ".diagonal", "compress2": ".coarse"}
MAX_BYTES = 1 << 24
"""Largest number of bytes of a published file that is read; the largest has 1.4 million."""


class _File(NamedTuple):
    """What the name of a file says."""

    path: Path
    network: str
    """Everything before the first number."""
    scale: int
    interval: int
    stage: int | None
    """None in networks of one stage, else counted from 0 or 1."""
    channel: int | None
    unit: str
    """Letter of a pattern, number, "channel", or nothing."""
    part: str
    """As in the name, or nothing."""


def import_tables(source: Path) -> tuple[TableConfig, dict[str, NDArray[Any]], list[str]]:
    """A published network: SR-LUT, MuLUT, SPF-LUT, or these with DFC or AutoLUT.

    Args:
        source: folder of the files of one network, or one of its files where there are several.

    Returns:
        configuration, tensors, and the names of the files that were read.

    Raises:
        ModelFileError: no such files, files of several networks, incomplete or odd ones.
    """
    files = _files(source)
    try:
        config = _configuration(files)
    except ValueError as error:
        raise ModelFileError(f"{source}: not a network of published tables ({error})") from error
    first = min(file.stage or 0 for file in files)
    units = _unit_names(files)
    found = {}
    by_place = {(file.stage, file.channel or 0, file.unit, file.part): file for file in files}
    used = []

    def read(slot: Slot, part: str) -> NDArray[Any]:
        mixing = config.stages[slot.stage - 1] == "mix"
        stage = None if len(config.stages) == 1 else slot.stage - 1 + first
        place = (stage, slot.channel, "channel" if mixing else units[slot.unit], part)
        if place not in by_place:
            raise ModelFileError(f"{source}: no file for stage {slot.stage}, channel {slot.channel}, {place[2]} {part}")
        used.append(by_place[place].path.name)
        return _array(by_place[place].path)

    try:
        for slot in config.slots():
            name = f"tables.{slot.name}"
            for part, ending in _PARTS.items() if is_split(config, slot) else [("", "")]:
                table = read(slot, part)
                found[name + ending] = table.reshape(len(table), -1)
            if config.sampler and config.stages[slot.stage - 1] != "mix":
                found[f"samplers.{slot.name}"] = sampler_weights(read(slot, "sampler"))
            if has_residual(config, slot):
                found[f"residuals.{slot.name}"] = share_weights(read(slot, "residual"))
    except ValueError as error:
        raise ModelFileError(f"{source}: a table, sampler or share of an odd shape ({error})") from error
    for name, layout in tensor_layouts(config).items():
        if (str(found[name].dtype), found[name].shape) != layout:
            raise ModelFileError(f"{source}: {name} has shape {found[name].shape}, expected {layout.shape}")
    _check_index(source, config)
    return config, found, used


def _files(source: Path) -> list[_File]:
    """Files of one network.

    Raises:
        ModelFileError: there are none, or those of several.
    """
    folder = source if source.is_dir() else source.parent
    if not folder.is_dir() or not (source.is_dir() or source.is_file()):
        raise ModelFileError(f"{source}: no such file or folder")
    found = []
    for path in sorted(folder.glob("*.npy")):
        if match := _NAME.fullmatch(path.name):
            stage, channel = (int(match[k]) if match[k] else None for k in ("stage", "channel"))
            name, scale, interval = match["network"], int(match["scale"]), int(match["interval"])
            found.append(_File(path, name, scale, interval, stage, channel, match["unit"] or "", match["part"] or ""))
    if source.is_file():
        if not (match := _NAME.fullmatch(source.name)):
            raise ModelFileError(f"{source}: not named as published tables are: ..._x4_4bit_int8....npy")
        wanted = (match["network"], int(match["scale"]), int(match["interval"]))
        found = [file for file in found if file[1:4] == wanted]
    if len(networks := {file[1:4] for file in found}) != 1:
        names = ", ".join(sorted(f"{name}_x{scale}_{interval}bit" for name, scale, interval in networks))
        raise ModelFileError(f"{source}: tables of {names or 'no network'}; name one file of the one that is meant")
    return found


def _unit_names(files: list[_File]) -> list[str]:
    """Names of the units in the published order: s, d, y, ... or numbers."""
    names = {file.unit for file in files} - {"channel"}
    return sorted(names, key=lambda name: list(PATTERNS).index(name) if name in PATTERNS else int(name or 0))


def _configuration(files: list[_File]) -> TableConfig:
    """The configuration that the files are of.

    Raises:
        ValueError: none.
    """
    one, units = files[0], _unit_names(files)
    if not units:
        raise ValueError("no table of a spatial stage")
    settings: dict[str, Any] = {"interval": one.interval}
    if not units[0]:
        variant = one.network.rpartition("_")[2].lower()
        return published_config(f"srlut-{variant}", one.scale, **settings)
    method = "spflut" if any(file.channel is not None for file in files) else "mulut"
    letters = [unit if unit in PATTERNS else "s" for unit in units]
    settings["units"] = tuple(letters)
    if samplers := [file for file in files if file.part == "sampler"]:
        side = _array(samplers[0].path).shape[-1]
        settings |= {"sampler": side if 2 <= side <= MAX_SAMPLER else -1, "rounding": "each"}
    if any(file.part == "residual" for file in files):
        settings |= {"residual": True, "rounding": "each"}
    if method == "mulut":
        stages = len({file.stage for file in files})
        settings["stages"] = ("pass",) * (stages - 1) + ("up",)
    if near := [file for file in files if file.part == "compress1"]:
        far = next((file for file in files if file.part == "compress2"), None)
        if far is None:
            raise ValueError("a diagonal part without a coarse one")
        settings |= _split(len(_array(near[0].path)), len(_array(far.path)))
    return published_config(method, one.scale, **settings)


def _split(near: int, far: int) -> dict[str, int]:
    """Settings of tables with so many entries near the diagonal and elsewhere."""
    for coarse in range(5, 9):
        if (2 ** (8 - coarse) + 1) ** 4 == far:
            for diagonal in range(1, 9):
                if len(near_diagonal(TableConfig(diagonal=diagonal, coarse=coarse))) == near:
                    return {"diagonal": diagonal, "coarse": coarse}
    raise ValueError(f"{near} and {far} entries are no parts of a table")


def _check_index(source: Path, config: TableConfig) -> None:
    """Refuse files whose entries near the diagonal stand in another order, where an index file says so.

    Raises:
        ModelFileError: they do.
    """
    folder = source if source.is_dir() else source.parent
    for path in sorted(folder.glob("ref2index_*.npy")) if config.diagonal else ():
        index = _array(path)
        count, wide = 2 ** (8 - config.interval) + 1, 2 * config.diagonal + 1
        near = near_diagonal(config)
        a, b, c, d = np.unravel_index(near, (count,) * 4)
        if index.shape != (count, wide, wide, wide) or (index[a, b - a, c - a, d - a] != np.arange(len(near))).any():
            raise ModelFileError(f"{path}: another way to compress tables than the four-dimensional one (xyzt)")


def _array(path: Path) -> NDArray[Any]:
    """The contents of a .npy file.

    Raises:
        ModelFileError: damaged, too large, or not of numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.nbytes > MAX_BYTES or mapped.dtype.kind not in "if" or not 1 <= mapped.ndim <= 5:
            raise ValueError(f"{mapped.dtype} {mapped.shape}")
        found = np.array(mapped)
    except Exception as error:  # a damaged header can make NumPy raise almost anything
        raise ModelFileError(
            f"{path}: not a published table ({(str(error).splitlines() or ['damaged'])[0]})"
        ) from error
    if not np.isfinite(found).all():
        raise ModelFileError(f"{path}: not a published table (numbers that are not finite)")
    return found
