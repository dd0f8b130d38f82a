"""Writing of ONNX files: the few messages of onnx.proto that our graphs are made of.

The package `onnx` would do it as well, but takes longer to import than a graph takes to make, and 20 MB. The tests read
what is written here with that package. Fields are numbered as in onnx.proto; a message is the sequence of its fields in
rising order, as protobuf writes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8
"""Version of the file format, that of ONNX 1.12, which brought the opset."""
KINDS = {"float32": 1, "uint8": 2, "int64": 7, "bool": 9, "float64": 11}
"""Types of numbers: NumPy's name -> TensorProto.DataType."""
_KIND_OF = {np.dtype(name): number for name, number in KINDS.items()}
"""The same by type, whose name NumPy takes long to tell."""
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
"""AttributeProto.AttributeType."""
_EXTERNAL = 1
"""TensorProto.DataLocation of values that are handed over when a graph is loaded."""


def model(nodes: Iterable[bytes], initialisers: Iterable[bytes], inputs: Iterable[bytes], outputs: list[str]) -> bytes:
    """A file with one graph; the types of its outputs follow from the nodes."""
    infos = [_message((1, name)) for name in outputs]
    graph = _message(*_each(1, nodes), (2, "dcae"), *_each(5, initialisers), *_each(11, inputs), *_each(12, infos))
    return _message((1, IR_VERSION), (7, graph), (8, _message((1, ""), (2, OPSET))))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]) -> bytes:
    """An operator; its attributes are numbers, strings, and sequences of integers."""
    fields = [_attribute(name, value) for name, value in sorted(attributes.items())]
    return _message(*_each(1, inputs), *_each(2, outputs), (4, kind), *_each(5, fields))


def tensor(name: str, array: NDArray[Any]) -> bytes:
    """An initialiser with its values."""
    values = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return _message(*_each(1, array.shape), (2, _KIND_OF[array.dtype]), (8, name), (9, values))


def external_tensor(name: str, array: NDArray[Any], offset: int) -> bytes:
    """An initialiser of the array's shape and type without its values.

    Args:
        offset: place of its first byte among those of all initialisers that are handed over, for who hands them over in
            one piece.
    """
    place = {"location": "model", "offset": str(offset), "length": str(array.nbytes)}
    entries = [_message((1, key), (2, text)) for key, text in place.items()]
    return _message(*_each(1, array.shape), (2, _KIND_OF[array.dtype]), (8, name), *_each(13, entries), (14, _EXTERNAL))


def value(name: str, rank: int, kind: str) -> bytes:
    """An input of `rank` dimensions of any size."""
    shape = _message(*[(1, b"")] * rank)
    return _message((1, name), (2, _message((1, _message((1, KINDS[kind]), (2, shape))))))


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, float):
        return _message((1, name), (2, value), (20, _FLOAT))
    if isinstance(value, int):
        return _message((1, name), (3, value), (20, _INT))
    if isinstance(value, str):
        return _message((1, name), (4, value), (20, _STRING))
    return _message((1, name), *_each(8, value), (20, _INTS))


def _each(number: int, values: Iterable[Any]) -> list[tuple[int, Any]]:
    """A repeated field."""
    return [(number, value) for value in values]


def _message(*fields: tuple[int, int | float | str | bytes]) -> bytes:
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, str | bytes):
            data = value.encode() if isinstance(value, str) else value
            parts += _varint(number << 3 | 2), _varint(len(data)), data
        elif isinstance(value, float):
            parts += _varint(number << 3 | 5), struct.pack("<f", value)
        else:
            parts += _varint(number << 3), _varint(int(value) % 2**64)  # negative ones as two's complement
    return b"".join(parts)


@lru_cache(1 << 12)  # most are tags and short lengths
def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
