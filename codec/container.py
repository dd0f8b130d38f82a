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
VERSION = 2
"""Newest version. Files are written as version 1 where that has all that they need: older decoders read them."""
NUMERICS = ("float32", "integer", "float64")
"""Arithmetics of the entropy model; the header stores the position in this list."""
COLOURS = ("RGB", "L")
"""Pillow modes of decoded pictures; the header stores the position in this list."""

DEPTHS = (8, 16)
"""Bits of a sample of decoded pictures; version 1 has 8."""
OPTIONAL = {b"e": "exif", b"i": "icc", b"x": "xmp"}
"""Optional sections, all of them compressed, and the fields of :class:`Container` that hold their contents."""
MAX_OPTIONAL = 1 << 22
"""Bytes of an optional section after it was expanded."""

MAX_SIDE = (1 << 24) - 1
MAX_VARINT_BYTES = 5


class Field(NamedTuple):
    """One header field: `kind` is "varint", "u8", "u32" or "bytes8"; low and high bound its value, both included.
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
    Field("check", "u32", 0, 0xFFFFFFFF, "CRC-32 of the decoded symbols, or of a lossless picture's samples"),
    Field("depth", "u8", 0, len(DEPTHS) - 1, "position in DEPTHS", since=2),
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
    depth: int = 0


@dataclass(frozen=True)
class Container:
    """A parsed file: header, the payloads of the symbol sections or of the lossless one, and what goes along."""

    header: Header
    z: bytes = b""
    y: bytes = b""
    lossless: bytes = b""
    """A picture file, in place of z and y."""
    alpha: bytes = b""
    """A picture file with the plane of alpha; empty where the picture is opaque."""
    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""

    @property
    def version(self) -> int:
        """The oldest version of the format that has all of this."""
        further = self.lossless or self.alpha or self.exif or self.xmp or self.icc or self.header.depth
        return 2 if further else 1


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


def _fields(version: int) -> list[Field]:
    return [field for field in FIELDS if field.since <= version]


def _pack_header(header: Header, version: int) -> bytes:
    out = b""
    for field in _fields(version):
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


def _unpack_header(payload: memoryview, version: int) -> Header:
    reader = _Reader(payload, "the header")
    values: dict[str, int | bytes] = {}
    for field in _fields(version):
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
        ValueError: a header field outside its declared range, or an optional section longer than `MAX_OPTIONAL`.
    """
    version = container.version
    sections = [_section(b"H", _pack_header(container.header, version))]
    for letter, name in OPTIONAL.items():
        if contents := getattr(container, name):
            if len(contents) > MAX_OPTIONAL:
                raise ValueError(f"{name} of {len(contents)} bytes, a section holds {MAX_OPTIONAL}")
            sections.append(_section(letter, _put_varint(len(contents)) + zlib.compress(contents, 9)))
    if container.alpha:
        sections.append(_section(b"A", container.alpha))
    if container.lossless:
        sections.append(_section(b"P", container.lossless))
    else:
        sections += [_section(b"Z", container.z), _section(b"Y", container.y)]
    return b"".join([SIGNATURE, bytes([version]), *sections])


def _expanded(payload: memoryview, letter: bytes) -> bytes:
    """Contents of an optional section: their length, and a zlib stream that expands to just that."""
    what = f"section {letter.decode()!r}"
    reader = _Reader(payload, what)
    length = reader.varint()
    if not 0 < length <= MAX_OPTIONAL:
        raise FileFormatError(f"{what} declares {length} bytes, the limit is {MAX_OPTIONAL}; the file is damaged")
    stream = zlib.decompressobj()
    try:
        contents = stream.decompress(reader.data[reader.at :], length + 1)
    except zlib.error as error:
        raise FileFormatError(f"{what} cannot be expanded ({error}); the file is damaged") from error
    if len(contents) != length or not stream.eof or stream.unused_data:
        raise FileFormatError(f"{what} does not expand to the {length} bytes that it declares; the file is damaged")
    return contents


def _sections(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(letter, payload) of every section, CRC checked, the version first with an empty letter; ends after Y or P, which
    must be the last."""
    reader = _Reader(data, "the file")
    if reader.take(min(len(SIGNATURE), len(data))) != SIGNATURE:
        raise FileFormatError(_why_no_signature(data))
    version = reader.take(1)
    if not 1 <= version[0] <= VERSION:
        raise FileFormatError(
            f"format version {version[0]}, this dcae reads 1 to {VERSION}; update dcae (or it is damaged)"
        )
    yield b"", version
    letter = b""
    while letter not in ((b"Y",) if version[0] == 1 else (b"Y", b"P")):
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
        FileFormatError: anything but a whole, undamaged file of a version that is known. Unknown sections with a
            lower-case letter are skipped, with an upper-case letter refused.
    """
    known: dict[bytes, memoryview] = {}
    version = 0
    for letter, payload in _sections(data):
        if not letter:
            version = payload[0]
        elif letter in (b"H", b"Z", b"Y") or (version >= 2 and letter in (b"A", b"P", *OPTIONAL)):
            if letter in known or (letter != b"H" and b"H" not in known):
                raise FileFormatError(f"section {letter.decode()} is repeated or before the header; it is damaged")
            if letter in (b"A", b"P") and not payload:
                raise FileFormatError(f"section {letter.decode()} is empty; the file is damaged")
            known[letter] = payload
        elif not b"a" <= letter <= b"z":
            raise FileFormatError(f"unknown critical section {letter.decode('latin-1')!r}; it needs a newer dcae")
    if b"H" not in known or (b"Z" in known) == (b"P" in known):
        raise FileFormatError("the header or the section of z is missing, or one too many; the file is damaged")
    further = {name: _expanded(known[letter], letter) for letter, name in OPTIONAL.items() if letter in known}
    header = _unpack_header(known[b"H"], version)
    streams = {b"Z": "z", b"Y": "y", b"A": "alpha", b"P": "lossless"}
    return Container(header, **{name: bytes(known[k]) for k, name in streams.items() if k in known}, **further)


def is_lossless(data: bytes) -> bool:
    """Whether a file that was just written holds its picture without loss."""
    return bool(read_container(data).lossless)


def read_file_header(data: bytes) -> Header:
    """The header of a `.dcae` file, after verifying all of it (see :func:`read_container`)."""
    return read_container(data).header


def peek_header(data: bytes) -> Header:
    """The header of a `.dcae` file of which `data` is the beginning; nothing behind it is looked at.

    Raises:
        FileFormatError: no whole, undamaged header.
    """
    version = 0
    for letter, payload in _sections(data):
        if not letter:
            version = payload[0]
        elif letter == b"H":
            return _unpack_header(payload, version)
    raise FileFormatError("the header is missing; the file is damaged")
