"""The `.dcae` container: signature, version, sections with length and CRC-32. Specified in `docs/format.md`.

What the header and other sections hold is declared in `fields.py`. Nothing here imports torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dcae.codec.fields import ENLARGEMENT, FIELDS, Enlargement, Field, Header, Reader, packed, put_varint, unpacked
from dcae.errors import FileFormatError

SIGNATURE = b"\x89DCAE\r\n\x1a\n"
"""First bytes of every file, made like PNG's: the high bit, both line endings and Ctrl-Z show what a transfer in text
mode has done to the file."""
VERSION = 2
"""Newest version. Files are written as version 1 where that has all that they need: older decoders read them."""
OPTIONAL = {b"e": "exif", b"i": "icc", b"x": "xmp"}
"""Optional sections, all of them compressed, and the fields of :class:`Container` that hold their contents."""
_STORED = b"P", b"V"
"""Sections that hold the picture in another format, in place of Z and Y."""
MAX_OPTIONAL = 1 << 22
"""Bytes of an optional section after it was expanded."""


@dataclass(frozen=True)
class Container:
    """A parsed file: header, the payloads of the symbol sections or of the picture in their place, and what goes
    along."""

    header: Header
    z: bytes = b""
    y: bytes = b""
    lossless: bytes = b""
    """A picture file, in place of z and y."""
    avif: bytes = b""
    """Likewise, of a picture with loss."""
    alpha: bytes = b""
    """A picture file with the plane of alpha; empty where the picture is opaque."""
    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    enlargement: Enlargement | None = None
    """How the coded picture becomes the one that is shown, which is larger; None where they are the same."""

    @property
    def stored(self) -> str:
        """How a picture is stored that no model is needed for: "without loss" or "as AVIF"; else ""."""
        return "without loss" if self.lossless else "as AVIF" if self.avif else ""

    @property
    def version(self) -> int:
        """The oldest version of the format that has all of this."""
        further = self.stored or self.alpha or self.exif or self.xmp or self.icc or self.header.depth
        return 2 if further or self.enlargement else 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture that is shown, in pixels."""
        shown = self.enlargement or self.header
        return shown.width, shown.height


def _fields(version: int) -> list[Field]:
    return [field for field in FIELDS if field.since <= version]


def _section(letter: bytes, payload: bytes) -> bytes:
    body = letter + put_varint(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def write_container(container: Container) -> bytes:
    """The bytes of a `.dcae` file.

    Raises:
        ValueError: a field outside its declared range, an optional section longer than `MAX_OPTIONAL`, or an
            enlargement that does not fit what is coded.
    """
    version = container.version
    sections = [_section(b"H", packed(container.header, _fields(version), "header"))]
    _check_together(container, ValueError)
    if container.enlargement:
        sections.append(_section(b"S", packed(container.enlargement, ENLARGEMENT, "enlargement")))
    for letter, name in OPTIONAL.items():
        if contents := getattr(container, name):
            if len(contents) > MAX_OPTIONAL:
                raise ValueError(f"{name} of {len(contents)} bytes, a section holds {MAX_OPTIONAL}")
            sections.append(_section(letter, put_varint(len(contents)) + zlib.compress(contents, 9)))
    if container.alpha:
        sections.append(_section(b"A", container.alpha))
    if container.stored:
        sections.append(_section(b"P", container.lossless) if container.lossless else _section(b"V", container.avif))
    else:
        sections += [_section(b"Z", container.z), _section(b"Y", container.y)]
    return b"".join([SIGNATURE, bytes([version]), *sections])


def _check_together(container: Container, error: type[Exception]) -> None:
    """Refuse an enlargement that is not that of the coded picture, and AVIF of another depth than 8 bits.

    Raises:
        error: there is one.
    """
    header, found = container.header, container.enlargement
    if container.avif and header.depth:
        raise error("section V has 8 bits a sample, and the header says 16; the file is damaged")
    if found is None:
        return
    if container.stored:
        raise error(f"section S would enlarge a picture that is stored {container.stored}; the file is damaged")
    if not found.fits(header):
        raise error(
            f"section S makes {found.width}x{found.height} pixels of {header.width}x{header.height} by scale "
            f"{found.scale}, which does not fit; the file is damaged"
        )


def _expanded(payload: memoryview, letter: bytes) -> bytes:
    """Contents of an optional section: their length, and a zlib stream that expands to just that."""
    what = f"section {letter.decode()!r}"
    reader = Reader(payload, what)
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
    """(letter, payload) of every section, CRC checked, the version first with an empty letter; ends after Y, P or V,
    which must be the last."""
    reader = Reader(data, "the file")
    if reader.take(min(len(SIGNATURE), len(data))) != SIGNATURE:
        raise FileFormatError(_why_no_signature(data))
    version = reader.take(1)
    if not 1 <= version[0] <= VERSION:
        raise FileFormatError(
            f"format version {version[0]}, this dcae reads 1 to {VERSION}; the file is damaged or needs a newer dcae"
        )
    yield b"", version
    letter = b""
    while letter not in ((b"Y",) if version[0] == 1 else (b"Y", *_STORED)):
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
        elif letter in (b"H", b"Z", b"Y") or (version >= 2 and letter in (b"A", b"S", *_STORED, *OPTIONAL)):
            if letter in known or (letter != b"H" and b"H" not in known):
                raise FileFormatError(f"section {letter.decode()} is repeated or before the header; it is damaged")
            if letter in (b"A", *_STORED) and not payload:
                raise FileFormatError(f"section {letter.decode()} is empty; the file is damaged")
            known[letter] = payload
        elif not b"a" <= letter <= b"z":
            raise FileFormatError(f"unknown critical section {letter.decode('latin-1')!r}; it needs a newer dcae")
    if b"H" not in known or sum(letter in known for letter in (b"Z", *_STORED)) != 1:
        raise FileFormatError("the header or the section of z is missing, or one too many; the file is damaged")
    further = {name: _expanded(known[letter], letter) for letter, name in OPTIONAL.items() if letter in known}
    header = Header(**unpacked(known[b"H"], _fields(version), "header"))
    enlargement = None
    if b"S" in known:
        enlargement = Enlargement(**unpacked(known[b"S"], ENLARGEMENT, "enlargement"))
    streams = {b"Z": "z", b"Y": "y", b"A": "alpha", b"P": "lossless", b"V": "avif"}
    payloads = {name: bytes(known[k]) for k, name in streams.items() if k in known}
    container = Container(header, **payloads, **further, enlargement=enlargement)
    _check_together(container, FileFormatError)
    return container


def stored_as(data: bytes) -> str:
    """How a file that was just written holds its picture, as :attr:`Container.stored` says."""
    return read_container(data).stored


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
            return Header(**unpacked(payload, _fields(version), "header"))
    raise FileFormatError("the header is missing; the file is damaged")
