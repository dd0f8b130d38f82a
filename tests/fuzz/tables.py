"""Fuzz targets of files of tables: nonsense in an intact one, and published tables of any bytes."""

from __future__ import annotations

import copy
import functools
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.structure import KINDS, Choices, ModelParts, array_of, mutated

from dcae.errors import DCAEError
from dcae.sr.find import find_upscaler
from dcae.sr.tables.config import TableConfig
from dcae.sr.tables.importer import import_tables
from dcae.sr.tables.layout import tensor_layouts
from dcae.sr.tables.tablefile import read_tables, write_tables

_ODD: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 2**31, 10**30, 0.5, 2.0, float("nan"), True, False, None, "", "s", "up",
    "each", "reflect", "srlut", "\ud800\x1b[2J", [], ["up"], ["pass", "up"], ["split", "keep", "mix", "up"],
    ["keep", "up"],    ["s"], ["v"], ["f"], ["s", "d"], ["s"] * 5, ["up"] * 5000, [["s"]], [1], {}, {"a": [1]},
)  # fmt: skip
_SHAPES = (
    "(81, 1)", "(81, 4)", "(81, 1, 2, 2)", "(16, 4)", "(4, 1, 2, 2)", "()", "(2**40, 1)", "(0,)", "(99999999999, 9)",
    "(-1,)", "(1807, 2)", "(6561, 2)",
)  # fmt: skip
_FIELDS = (
    "scale", "stages", "units", "interval", "padding", "rounding", "order", "sampler", "residual", "diagonal", "coarse",
    "preset", "more",
)  # fmt: skip
_CONFIGS = (
    TableConfig(stages=("up",), units=("v",), interval=6),
    TableConfig(units=("s",), interval=7, sampler=2, residual=True),
    TableConfig(stages=("split", "keep", "mix", "up"), units=("s",), interval=6, diagonal=1, coarse=7, rounding="each"),
    TableConfig(stages=("up",), units=("s",), interval=7, order="srlut", padding="reflect"),
)


def blank_tensors(config: TableConfig) -> dict[str, Any]:
    """Tensors that are valid: tables of numbers by their place, samplers that see one pixel."""
    found = {}
    for name, (dtype, shape) in tensor_layouts(config).items():
        values = np.zeros(shape, dtype)
        if name.startswith("tables."):
            values.flat = np.arange(values.size) * 37 % 255 - 127
        elif name.startswith("samplers."):
            values[:, 0, 0] = 1 << 24
        found[name] = values
    return found


@functools.cache
def _files() -> tuple[bytes, ...]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for config in _CONFIGS:
            path = Path(folder) / "tables.safetensors"
            write_tables(path, config, blank_tensors(config), {})
            found.append(path.read_bytes())
    return tuple(found)


def tables(data: bytes) -> None:
    """A file of tables with nonsense in it and an id that fits. If it loads, it enlarges a picture."""
    choices = Choices(data)
    parts = ModelParts(choices.pick(_files()))
    for _ in range(1 + choices.below(3)):
        if choices.below(2) and isinstance(parts.header["config"], dict):
            parts.header["config"][choices.pick(_FIELDS)] = copy.deepcopy(choices.pick(_ODD))
        elif choices.odds(8):
            parts.header[choices.pick(("format", "id", "record", "config"))] = copy.deepcopy(choices.pick(_ODD))
        else:
            _change_tensor(parts, choices)
    if choices.below(2):  # tensors that fit whatever the configuration now says, and nonsense in them
        _fit(parts, choices)
    if isinstance(parts.header.get("id"), str):
        parts.set_id()
    file = parts.write()
    if choices.odds(16):
        file = mutated(file, choices)
    _use(file)


def _change_tensor(parts: ModelParts, choices: Choices) -> None:
    name = choices.pick(sorted(parts.tensors) or ["more"])
    kind, shape, data = parts.tensors.get(name, ["I8", [0], b""])
    what = choices.below(6)
    array = array_of(kind, data)
    if what == 0:
        parts.tensors.pop(name, None)
    elif what == 1:
        parts.tensors[choices.pick(("more", name + ".coarse", ""))] = [kind, shape, data]
    elif what == 2:
        parts.tensors[name] = [choices.pick(KINDS), shape, data]
    elif what == 3:
        sizes = choices.pick(([0, 2**62], [len(data)], [*shape, 1], shape[::-1], [1] * 40, [2**64], []))
        parts.tensors[name] = [kind, sizes, data]
    elif array is not None and array.size and array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        array[choices.below(array.size)] = choices.pick((0, 1, -1, bounds.min, bounds.max, bounds.max // 2))
        parts.tensors[name] = [kind, shape, array.tobytes()]


def _fit(parts: ModelParts, choices: Choices) -> None:
    """Tensors of the configuration as it is, if it is one and its tables are small."""
    with suppress(DCAEError, TypeError, ValueError):
        fields = dict(parts.header["config"])
        fields.pop("preset", None)
        config = TableConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
        layouts = tensor_layouts(config)
        if sum(int(np.prod(layout.shape)) for layout in layouts.values()) < 1 << 20:
            kinds = {"int8": "I8", "int32": "I32"}
            made = blank_tensors(config)
            parts.tensors = {
                name: [kinds[layout.dtype], list(layout.shape), made[name].tobytes()]
                for name, layout in layouts.items()
            }
            if choices.below(2):
                _change_tensor(parts, choices)


def _use(data: bytes) -> None:
    handle, name = tempfile.mkstemp(".safetensors", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        with suppress(DCAEError):
            header, _ = read_tables(Path(name))
            upscaler = find_upscaler(name, header.config.scale)
            picture = np.random.default_rng(0).random((5, 7, 1), np.float32)
            large = upscaler(picture)
            assert large.shape == (5 * upscaler.scale, 7 * upscaler.scale, 1)
            assert large.min() >= 0 and large.max() <= 1
    finally:
        os.unlink(name)


def published_tables(data: bytes) -> None:
    """Files named as published tables, of any bytes behind a header that may fit."""
    choices = Choices(data)
    names = (
        "LUT_x2_7bit_int8_s1_s", "LUT_x2_7bit_int8_s2_s", "Model_S_x2_8bit_int8", "LUT_x2_7bit_int8_s0_0_sampler",
        "LUT_x2_7bit_int8_s0_0", "LUT_x2_4bit_int8_s1c0_s_compress1", "LUT_x2_4bit_int8_s1c0_s_compress2",
        "LUT_x2_7bit_int8_s1c0_s", "LUT_x2_7bit_int8_s5_channel", "ref2index_xyzt2i5", "LUT_x9_9bit_int8_s9c9_9",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        for _ in range(1 + choices.below(3)):
            shape = choices.pick(_SHAPES)
            kind = choices.pick(("|i1", "<i4", "<f4", "|O", "<f8", "|b1", "nonsense"))
            header = f"{{'descr': '{kind}', 'fortran_order': {choices.pick((False, True))}, 'shape': {shape}, }}"
            body = b"\x93NUMPY\x01\x00" + (128 - 10).to_bytes(2, "little") + header.ljust(117).encode()[:117] + b"\n"
            body += choices.bytes(choices.pick((0, 4, 16, 64, 81, 324)))
            if choices.odds(4):
                body = mutated(body, choices)
            (Path(folder) / f"{choices.pick(names)}.npy").write_bytes(body)
        with suppress(DCAEError):
            config, tensors, _ = import_tables(Path(folder))
            with suppress(DCAEError):
                write_tables(Path(folder) / "x.safetensors", config, tensors, {})
