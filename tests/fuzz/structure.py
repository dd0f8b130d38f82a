"""Structure-aware pieces of the fuzz targets: bytes as decisions, and files made whole again after a mutation.

A checksum stops a fuzzer at the door. What is mutated here gets lengths, CRCs and ids that fit, so that the code behind
them is reached.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
START = b"\x89DCAE\r\n\x1a\n\x01"
START_2 = START[:-1] + b"\x02"
_TRAINING_ONLY = ("network.entropy_bottleneck.", "network.gaussian_conditional.")
_NUMPY = {"F16": "float16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16", "I32": "int32"}
_NUMPY |= {"I64": "int64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool"}
KINDS = (*_NUMPY, "BF16", "F8_E4M3", "C64", "F4")
"""Types of safetensors; the last few are not NumPy's."""


class Choices:
    """Decisions read off bytes; zeros when they run out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken + bytes(count - len(taken))

    def rest(self) -> bytes:
        taken, self._at = self._data[self._at :], len(self._data)
        return taken

    @property
    def left(self) -> int:
        return max(len(self._data) - self._at, 0)

    def below(self, limit: int) -> int:
        """0 ... limit - 1, about uniform."""
        return int.from_bytes(self.bytes(1 if limit <= 256 else 4), "little") % limit

    def number(self) -> int:
        """Of any magnitude below 2**64, small ones as likely as large ones."""
        return int.from_bytes(self.bytes(self.below(9)), "little")

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def odds(self, one_in: int) -> bool:
        """True rarely; never when the bytes have run out."""
        return self.below(one_in) == one_in - 1

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.below(1 << 16))


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(letter: bytes, payload: bytes) -> bytes:
    body = letter + varint(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def fix_crcs(data: bytes) -> bytes:
    """A damaged container whose sections, as far as they can be told apart, have right CRCs."""
    start = START_2 if data[len(START) - 1 : len(START)] == b"\x02" else START
    out, at = bytearray(start + data[len(START) :]), len(START)
    while at < len(out):
        begin, length, shift = at, 0, 0
        at += 1
        while at < len(out) and shift < 35:
            length |= (out[at] & 0x7F) << shift
            shift += 7
            at += 1
            if out[at - 1] < 128:
                break
        at += length
        if at + 4 > len(out):
            break
        out[at : at + 4] = zlib.crc32(bytes(out[begin:at])).to_bytes(4, "little")
        at += 4
    return bytes(out)


def mutated(data: bytes, choices: Choices) -> bytes:
    """Bytes changed, cut, repeated, removed or inserted at a few places."""
    out = bytearray(data)
    for _ in range(1 + choices.below(4)):
        at, count = choices.below(len(out) + 1), 1 + choices.below(8)
        kind = choices.below(8)
        if kind < 3:
            out[at : at + count] = choices.bytes(len(out[at : at + count]))
        elif kind == 3 and at < len(out):
            out[at] ^= 1 << choices.below(8)
        elif kind == 4:
            del out[at : at + count * count]
        elif kind == 5:
            out[at:at] = choices.bytes(count)
        elif kind == 6:
            out[at:at] = out[at : at + count * count]
        elif kind == 7 and choices.odds(4):
            del out[at:]
    return bytes(out)


class ModelParts:
    """A safetensors file taken apart: tensors as [type, shape, bytes], and the JSON of the header `dcae`."""

    def __init__(self, data: bytes) -> None:
        begin = 8 + int.from_bytes(data[:8], "little")
        entries = json.loads(data[8:begin])
        self.header: Any = json.loads(entries.pop("__metadata__")["dcae"])
        self.tensors: dict[str, list[Any]] = {}
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            self.tensors[name] = [entry["dtype"], entry["shape"], data[begin + first : begin + last]]

    def set_id(self) -> None:
        """The id that docs/format.md gives the contents, whatever they are."""
        digest = hashlib.sha256(json.dumps(self.header.get("config"), sort_keys=True).encode())
        for name, (kind, shape, data) in sorted(self.tensors.items()):
            if not name.startswith(_TRAINING_ONLY):
                digest.update(json.dumps([name, _NUMPY.get(kind, kind), shape]).encode())
                digest.update(data)
        self.header["id"] = digest.hexdigest()

    def write(self, text: str | None = None) -> bytes:
        """The file; `text` stands for the header's JSON, whatever it is."""
        entries: dict[str, Any] = {"__metadata__": {"dcae": json.dumps(self.header) if text is None else text}}
        at = 0
        # Large items first, as safetensors wants them, for alignment.
        for name, (kind, shape, data) in sorted(self.tensors.items(), key=lambda item: -_item_bytes(item[1][0])):
            entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        ordered = sorted(self.tensors.values(), key=lambda value: -_item_bytes(value[0]))
        return struct.pack("<Q", len(header)) + header + b"".join(value[2] for value in ordered)


def _item_bytes(kind: str) -> int:
    return np.dtype(_NUMPY.get(kind, "float16")).itemsize


def array_of(kind: str, data: bytes) -> np.ndarray | None:
    """A writable copy of a tensor's numbers, if NumPy has the type."""
    if kind not in _NUMPY or len(data) % _item_bytes(kind):
        return None
    return np.frombuffer(data, _NUMPY[kind]).copy()
