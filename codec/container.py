"""The `.dcae` container: signature, version, sections with length and CRC-32. Specified in `docs/format.md`.

`FIELDS` is the one declaration of the header; writing and reading both walk it. Nothing here imports torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dcae.errors import FileFormatError
from dcae.networks.config import QUALITY_STEPS

SIGNATURE = b"\x89DCAE\r\n\x1a\n"
"""First bytes of every file, made like PNG's: the high bit, both line endings and Ctrl-Z show what a transfer in text
mode has done to the file."""
VERSION = 1
NUMERICS = ("float32", "integer", "float64")
"""Arithmetics of the entropy model; the header stores the position in this list."""
COLOURS = ("RGB", "L")
"""Pillow modes of decoded pictures; the header stores the position in this list."""

MAX_SIDE = (1 << 24) - 1
MAX_VARINT_BYTES = 5


class Field(NamedTuple):
    """One header field: `kind` is "varint", "u8", "u32" or "bytes8"; low and high bound its value, both included."""

    name: str
    kind: str
    low: int = 0
    high: int = 0
    what: str = ""


FIELDS = (
    Field("width", "varint", 1, MAX_SIDE, "pixels"),
    Field("height", "varint", 1, MAX_SIDE, "pixels"),
    Field("colour", "u8", 0, len(COLOURS) - 1, "position in COLOURS"),
    Field("numerics", "u8", 0, len(NUMERICS) - 1, "position in NUMERICS"),
    Field("quality", "varint", QUALITY_STEPS, 64 * QUALITY_STEPS, "in 1/256"),
    Field("model", "bytes8", what="first 8 bytes of the model id"),
    Field("check", "u32", 0, 0xFFFFFFFF, "CRC-32 of the decoded symbols"),
)


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


@dataclass(frozen=True)
class Container:
    """A parsed file: header and the payloads of the symbol sections."""

    header: Header
    z: bytes
    y: bytes


def _put_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads exactly what is asked from bytes, or raises."""

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self.data = memoryview(data)  # a slice of it is no copy
        self.what = what
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise FileFormatError(f"{self.what} ends too early; it is truncated or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
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
        return self.at == len(self.data)


def _pack_header(header: Header) -> bytes:
    out = b""
    for field in FIELDS:
        value = getattr(header, field.name)
        if field.kind == "bytes8":
            if len(value) != 8:
                raise ValueError(f"header field {field.name} must be 8 bytes")
            out += value
            continue
        if not field.low <= value <= field.high:
            raise ValueError(f"header field {field.name} = {value} is outside {field.low}..{field.high}")
        if field.kind == "varint":
            out += _put_varint(value)
        else:
            out += value.to_bytes(int(field.kind[1:]) // 8, "little")
    return out


def _unpack_header(payload: memoryview) -> Header:
    reader = _Reader(payload, "the header")
    values: dict[str, int | bytes] = {}
    for field in FIELDS:
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
                f"header field {field.name} is {value}, this version knows {field.low}..{field.high}; "
                "the file is damaged or needs a newer dcae"
            )
        values[field.name] = value
    if not reader.done:
        raise FileFormatError("the header is longer than its fields; the file is damaged")
    return Header(**values)  # type: ignore[arg-type]


def _section(letter: bytes, payload: bytes) -> bytes:
    body = letter + _put_varint(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def write_container(container: Container) -> bytes:
    """The bytes of a `.dcae` file.

    Raises:
        ValueError: a header field outside its declared range.
    """
    return b"".join(
        [
            SIGNATURE,
            bytes([VERSION]),
            _section(b"H", _pack_header(container.header)),
            _section(b"Z", container.z),
            _section(b"Y", container.y),
        ]
    )


def _sections(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(letter, payload) of every section, CRC checked; ends after Y, which must be the last."""
    reader = _Reader(data, "the file")
    if reader.take(min(len(SIGNATURE), len(data))) != SIGNATURE:
        raise FileFormatError(_why_no_signature(data))
    version = reader.take(1)[0]
    if version != VERSION:
        raise FileFormatError(f"format version {version}, this dcae reads {VERSION}; update dcae (or it is damaged)")
    letter = b""
    while letter != b"Y":
        start = reader.at
        letter = bytes(reader.take(1))
        payload = reader.take(reader.varint())
        body = reader.data[start : reader.at]
        if int.from_bytes(reader.take(4), "little") != zlib.crc32(body):
            raise FileFormatError(f"section {letter.decode('latin-1')!r} fails its CRC-32; the file is damaged")
        yield letter, payload
    if not reader.done:
        raise FileFormatError(f"{len(data) - reader.at} bytes after the last section; the file is damaged")


def _why_no_signature(data: bytes) -> str:
    if SIGNATURE.startswith(data):
        return f"the file ends after {len(data)} bytes; it is truncated"
    if b"DCAE" in data[1:7]:  # its first byte may have become up to three, taken for text and written as UTF-8
        return "the signature is damaged, as by a transfer in text mode; transfer the file again in binary mode"
    return "not a .dcae file (or its first bytes are damaged)"


def read_container(data: bytes) -> Container:
    """Parse and verify a `.dcae` file.

    Raises:
        FileFormatError: anything but a whole, undamaged file of this version. Unknown sections with a lower-case
            letter are skipped, with an upper-case letter refused.
    """
    known: dict[bytes, memoryview] = {}
    for letter, payload in _sections(data):
        if letter in (b"H", b"Z", b"Y"):
            if letter in known or (letter != b"H" and b"H" not in known):
                raise FileFormatError(f"section {letter.decode()} is repeated or before the header; it is damaged")
            known[letter] = payload
        elif not b"a" <= letter <= b"z":
            raise FileFormatError(f"unknown critical section {letter.decode('latin-1')!r}; it needs a newer dcae")
    if b"Z" not in known or b"H" not in known:
        raise FileFormatError("the header or the section of z is missing; the file is damaged")
    return Container(_unpack_header(known[b"H"]), bytes(known[b"Z"]), bytes(known[b"Y"]))


def read_file_header(data: bytes) -> Header:
    """The header of a `.dcae` file, after verifying all of it (see :func:`read_container`)."""
    return read_container(data).header


def peek_header(data: bytes) -> Header:
    """The header of a `.dcae` file of which `data` is the beginning; nothing behind it is looked at.

    Raises:
        FileFormatError: no whole, undamaged header.
    """
    for letter, payload in _sections(data):
        if letter == b"H":
            return _unpack_header(payload)
    raise FileFormatError("the header is missing; the file is damaged")
