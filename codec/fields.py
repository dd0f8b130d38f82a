"""Fields of which the sections of the `.dcae` container are made, and bytes of them and back: see `docs/format.md`.

`FIELDS` and `ENLARGEMENT` are the one declaration of the header and of the section of enlargement; writing and reading
both walk them. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dcae.errors import FileFormatError
from dcae.networks.config import QUALITY_STEPS

NUMERICS = ("float32", "integer", "float64")
"""Arithmetics of the entropy model; the header stores the position in this list."""
COLOURS = ("RGB", "L")
"""Pillow modes of decoded pictures; the header stores the position in this list."""
DEPTHS = (8, 16)
"""Bits of a sample of decoded pictures; version 1 has 8."""
MAX_SIDE = (1 << 24) - 1
MAX_VARINT_BYTES = 5
MAX_SCALE = 4
"""Largest factor of an enlargement."""


class Field(NamedTuple):
    """One field of a section: `kind` is "varint", "u8", "u32" or "bytes8"; low and high bound its value, both included.
    Versions before `since` do not have it."""

    name: str
    kind: str
    low: int = 0
    high: int = 0
    what: str = ""
    since: int = 1


FIELDS = (
    Field("width", "varint", 1, MAX_SIDE, "pixels"),
    Field("height", "varint", 1, MAX_SIDE, "pixels"),
    Field("colour", "u8", 0, len(COLOURS) - 1, "position in COLOURS"),
    Field("numerics", "u8", 0, len(NUMERICS) - 1, "position in NUMERICS"),
    Field("quality", "varint", QUALITY_STEPS, 64 * QUALITY_STEPS, "in 1/256"),
    Field("model", "bytes8", what="first 8 bytes of the model id"),
    Field(
        "check", "u32", 0, 0xFFFFFFFF, "CRC-32 of the decoded symbols, or of a lossless picture's samples; 0 with AVIF"
    ),
    Field("depth", "u8", 0, len(DEPTHS) - 1, "position in DEPTHS", since=2),
)
"""The header."""
ENLARGEMENT = (
    Field("scale", "u8", 2, MAX_SCALE, "factor on both sides"),
    Field("width", "varint", 1, MAX_SIDE, "pixels"),
    Field("height", "varint", 1, MAX_SIDE, "pixels"),
    Field("model", "bytes8", what="first 8 bytes of the id of the model that enlarges"),
)
"""Section S."""


@dataclass(frozen=True)
class Header:
    """The fields of section H, as declared in `FIELDS`."""

    width: int
    height: int
    colour: int
    numerics: int
    quality: int
    model: bytes
    check: int
    depth: int = 0


@dataclass(frozen=True)
class Enlargement:
    """The fields of section S, as declared in `ENLARGEMENT`."""

    scale: int
    width: int
    height: int
    model: bytes

    def fits(self, header: Header) -> bool:
        """Whether the coded picture is the one that this enlarges: as many times smaller, rounded up."""
        return (-(-self.width // self.scale), -(-self.height // self.scale)) == (header.width, header.height)


def put_varint(value: int) -> bytes:
    """A number in groups of seven bits, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Reads exactly what is asked from bytes, or raises."""

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self.data = memoryview(data)  # a slice of it is no copy
        self.what = what
        self.at = 0

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        if count > len(self.data) - self.at:
            raise FileFormatError(f"{self.what} ends too early; it is truncated or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """The next number."""
        value = 0
        for position in range(MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if byte == 0 and position:
                    break
                return value
        raise FileFormatError(f"{self.what} has a malformed number; it is damaged")

    @property
    def done(self) -> bool:
        """Whether all was read."""
        return self.at == len(self.data)


def packed(values: object, fields: Iterable[Field], what: str) -> bytes:
    """The bytes of fields.

    Args:
        values: has them as attributes.
        what: what they are of, for messages.

    Raises:
        ValueError: a value outside its declared range.
    """
    out = b""
    for field in fields:
        value = getattr(values, field.name)
        if field.kind == "bytes8":
            if len(value) != 8:
                raise ValueError(f"{what} field {field.name} must be 8 bytes")
            out += value
            continue
        if not field.low <= value <= field.high:
            raise ValueError(f"{what} field {field.name} = {value} is outside {field.low}..{field.high}")
        if field.kind == "varint":
            out += put_varint(value)
        else:
            out += value.to_bytes(int(field.kind[1:]) // 8, "little")
    return out


def unpacked(payload: memoryview, fields: Sequence[Field], what: str) -> dict[str, Any]:
    """Values of fields by name; arguments as of :func:`packed`.

    Raises:
        FileFormatError: a value outside its declared range, or a payload that is not of their length.
    """
    reader = Reader(payload, f"the {what}")
    values: dict[str, int | bytes] = {}
    for field in fields:
        if field.kind == "bytes8":
            values[field.name] = bytes(reader.take(8))
            continue
        value = (
            reader.varint()
            if field.kind == "varint"
            else int.from_bytes(reader.take(int(field.kind[1:]) // 8), "little")
        )
        if not field.low <= value <= field.high:
            raise FileFormatError(
                f"{what} field {field.name} is {value}, this version knows {field.low}..{field.high}; "
                "the file is damaged or needs a newer dcae"
            )
        values[field.name] = value
    if not reader.done:
        raise FileFormatError(f"the {what} is longer than its fields; the file is damaged")
    return values
