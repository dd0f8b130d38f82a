"""Fuzz targets of the model file: nonsense in an intact one, and any bytes as one."""

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
from helpers import synthetic_picture
from numpy.typing import NDArray

from dcae.codec.codec import Codec
from dcae.errors import DCAEError
from dcae.extras import installed
from dcae.models.header import read_header

GOLDEN = Path(__file__).parents[1] / "golden"
MAX_PIXELS = 192 * 192
ENGINES = ("onnx", "torch") if installed("torch") else ("onnx",)

_ODD: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 16, 33, 64, 255, 4096, 65536, 10**9, 2**31, 2**63, 10**30, -(10**9), 0.5, 16.0, 1e308, -0.0,
    float("nan"), float("inf"), True, None, "", "C", "CS" * 40, "paper", "\ud800\x1b[2J", [], [1], [0], [8, 24],
    [10**9, 10**9],
    [1] * 32, [1] * 5000, ["C", "S"], ["S", "S"], ["C" * 10**6, "C"], [[]], {}, {"a": [1]}, [0.1, 0.2], [1e-9, 1e9],
)  # fmt: skip
_FLOATS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3e4, -6e4, 1e30, 3e38, 0.5, 2047.0, 1 / 3)


@functools.cache
def _tiny() -> bytes:
    return (GOLDEN / "tiny.safetensors").read_bytes()


def _odd(choices: Choices) -> Any:
    # A copy: what one input changes must not be there for the next.
    return copy.deepcopy(choices.pick(_ODD))


def _nested(depth: int) -> Any:
    value: Any = {}
    for k in range(depth):
        value = [value] if k % 2 else {"a": value}
    return value


def _mutate_config(parts: ModelParts, choices: Choices) -> None:
    config = parts.header["config"]
    if not isinstance(config, dict):
        return
    name = choices.pick(sorted(config) or ["preset"])
    kind = choices.below(6)
    if kind == 0:
        config.pop(name, None)
    elif kind == 1:
        config[choices.pick(("more", "\x1b[2J\ud800", name.upper()))] = _odd(choices)
    elif kind == 2 and isinstance(config.get(name), list) and config[name]:
        config[name][choices.below(len(config[name]))] = _odd(choices)
    elif kind == 3 and isinstance(config.get(name), int):
        config[name] += choices.below(5) - 2
    else:
        config[name] = _odd(choices)


def _mutate_header(parts: ModelParts, choices: Choices) -> None:
    kind = choices.below(4)
    if kind == 0:
        parts.header[choices.pick(("format", "id", "record", "config"))] = _odd(choices)
    elif kind == 1:
        parts.header.pop(choices.pick(("format", "id", "record", "config")), None)
        parts.header.setdefault("config", {})
    elif kind == 2:
        parts.header["record"] = {"a": _nested(choices.pick((3, 31, 33, 300, 900)))}
    else:
        parts.header["id"] = choices.pick(("ab " * 32, "AB" * 32, "00" * 31, "0" * 63 + "g", "00" * 33))


def _mutate_tensor(parts: ModelParts, choices: Choices) -> None:
    # The entropy model's integers and the tables deserve as much attention as all the weights.
    names = sorted(parts.tensors)
    special = [name for name in names if not name.startswith("network.")]
    name = choices.pick((special or names) if choices.odds(2) else names) if names else "more"
    kind, shape, data = parts.tensors.get(name, ["F32", [0], b""])
    what = choices.below(11)
    array = array_of(kind, data)
    if what == 0:
        parts.tensors.pop(name, None)
    elif what == 1:
        parts.tensors[choices.pick(("more", "exact.more", "tables.y.lengths", name + "."))] = [kind, shape, data]
    elif what == 2:
        parts.tensors[name][0] = choices.pick(KINDS)
    elif what == 3 and array is not None:  # the same numbers as another type
        other = choices.pick(("F16", "F32", "F64", "I8", "I32", "I64", "U8", "BOOL"))
        wanted = array_of(other, b"")
        assert wanted is not None
        with np.errstate(all="ignore"):
            parts.tensors[name] = [other, shape, array.astype(wanted.dtype).tobytes()]
    elif what == 4:
        parts.tensors[name][1] = _odd_shape(shape, len(data), choices)
    elif what == 10:  # holds nothing, and is too large all the same
        sizes = [0, choices.pick((1, 2**31, 2**40, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1))]
        parts.tensors[name] = [kind, sizes[:: choices.pick((1, -1))] + [1] * choices.pick((0, 1, 31, 100)), b""]
    elif what == 5:  # of any length, and a shape that fits
        length = choices.pick((0, 1, 3, 64, 1000))
        if array is not None:
            parts.tensors[name] = [kind, [length], np.resize(array, length).tobytes()]
    elif array is not None and array.size:
        parts.tensors[name] = [kind, shape, _other_numbers(array, what, choices).tobytes()]


def _odd_shape(shape: list[int], size: int, choices: Choices) -> Any:
    ones = [1] * choices.pick((7, 30, 31, 32, 64, 5000))
    return choices.pick(
        (
            [], [0], [size], [1, *shape], shape[::-1], [*shape, 0], [2**62, 4, 0], [10**9] * 3, [-1], [*ones, *shape],
            [0] * 33, [2**64], [2**32, 2**32],
        )
    )  # fmt: skip


def _other_numbers(array: NDArray[Any], what: int, choices: Choices) -> NDArray[Any]:
    """All of them one value (what 6), all multiplied (7), or one changed."""
    if array.dtype.kind == "f":
        value: Any = choices.pick(_FLOATS)
    elif array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        value = choices.pick((0, 1, -1, 7, bounds.min, bounds.max, bounds.max // 2, 1 << 20, 1 << 24))
        value = int(min(max(value, int(bounds.min)), int(bounds.max)))
    else:
        value = choices.below(2)
    with np.errstate(all="ignore"):
        value = array.dtype.type(value)
        if what == 6:
            array[:] = value
        elif what == 7:
            array = (array.astype(np.float64) * choices.pick((-1, 2, 0.5, 1000))).astype(array.dtype)
        else:
            array[choices.below(array.size)] = value
    return array


def model(data: bytes) -> None:
    """A model file with nonsense in it and an id that fits. If it loads, it codes a picture, and decodes it alike."""
    choices = Choices(data)
    parts = ModelParts(_tiny())
    for _ in range(1 + choices.below(3)):
        choices.pick((_mutate_config, _mutate_tensor, _mutate_tensor, _mutate_header))(parts, choices)
    if not choices.odds(16) and isinstance(parts.header.get("id"), str) and len(parts.header["id"]) == 64:
        parts.set_id()
    text = choices.pick(("", "[" * 100_000, '{"format": ' + "9" * 5000 + "}")) if choices.odds(64) else None
    file = parts.write(text)
    if choices.odds(16):
        file = mutated(file[: 1 << 14], choices) + file[1 << 14 :]
    _use_model(file)


def model_bytes(data: bytes) -> None:
    """Any bytes as a model file."""
    _use_model(data)


def small_models() -> list[bytes]:
    """Files with the header of a model and few of its tensors, short enough for a fuzzer."""
    found = []
    for count in (0, 2):
        parts = ModelParts(_tiny())
        parts.tensors = dict(sorted(parts.tensors.items(), key=lambda item: len(item[1][2]))[:count])
        parts.set_id()
        found.append(parts.write())
    return found


def _use_model(data: bytes) -> None:
    handle, name = tempfile.mkstemp(".safetensors", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        header = None
        with suppress(DCAEError):
            header = read_header(Path(name))
            assert len(header.short_id) == 8
        codecs = []
        for engine in ENGINES:
            with suppress(DCAEError):
                codecs.append(Codec(Path(name), max_pixels=MAX_PIXELS, engine=engine))
        if not codecs:
            return
        assert len(codecs) == len(ENGINES), f"only {codecs[0].engine} takes it"
        file_ = codecs[0].encode(synthetic_picture(20, 70), codecs[0].config.default_quality)
        for codec in codecs:
            assert codec.header == header
            assert codec.decode(file_).size == (20, 70)
    finally:
        os.unlink(name)
