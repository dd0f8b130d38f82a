"""AV1 streams of still pictures, and the AVIF files around them.

An AVIF file is 275 bytes of boxes around the stream, all of which follow from its sequence header. So the stream alone
is kept, and the file is made again for decoders, which read nothing else. They decode what the stream declares, which
may be a quarter of a billion pixels where the file's box `ispe` has a few; here both are the same. AVIF 1.1 (ISO/IEC
23008-12), AV1 bitstream specification, section 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_DELIMITER, _SEQUENCE, _FRAMES = 2, 1, {3, 4, 6}
"""Kinds of open bitstream units (OBU)."""
_COLOURS = bytes((0, 1, 0, 13, 0, 6, 0x80))
"""Of Rec. 709, with the curve of sRGB, as YCbCr of Rec. 601 in full range."""


class Still(NamedTuple):
    """The sequence header of a still picture of 8 bits a sample."""

    width: int
    height: int
    profile: int
    level: int
    gray: bool


def still_of(stream: bytes) -> Still:
    """What an AV1 stream declares.

    Raises:
        ValueError: it is not one of one still picture of 8 bits a sample.
    """
    units = list(_units(stream))
    kinds = [kind for kind, _ in units]
    if kinds[:1] != [_SEQUENCE] or not kinds[1:] or not _FRAMES.issuperset(kinds[1:]):
        raise ValueError("not one still picture of AV1")
    start, end = units[0][1]
    return _sequence(stream[start:end])


def avif_of(stream: bytes) -> bytes:
    """The AVIF file of a stream.

    Raises:
        ValueError: as of :func:`still_of`.
    """
    still = still_of(stream)
    channels = 1 if still.gray else 3
    format_ = bytes((0x81, still.profile << 5 | still.level, still.gray << 4 | (still.profile == 0) * 12, 0))
    properties = _box(
        b"ipco",
        _box(b"ispe", bytes(4), _u32(still.width), _u32(still.height)),
        _box(b"pixi", bytes(4), bytes((channels, *[8] * channels))),
        _box(b"av1C", format_),
        _box(b"colr", b"nclx", _COLOURS),
    )
    item = b"\0\1"

    def boxes(offset: int) -> bytes:
        return _box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf") + _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), item),
            _box(b"iloc", bytes(4), b"\x44\0\0\1", item, bytes(2), b"\0\1", _u32(offset), _u32(len(stream))),
            _box(b"iinf", bytes(4), b"\0\1", _box(b"infe", b"\2\0\0\0", item, bytes(2), b"av01\0")),
            _box(b"iprp", properties, _box(b"ipma", bytes(4), _u32(1), item, bytes((4, 1, 2, 0x83, 4)))),
        )

    return boxes(len(boxes(0)) + 8) + _box(b"mdat", stream)


def stream_of(file: bytes) -> bytes:
    """The stream of an AVIF file that has nothing else in its box `mdat`, without the delimiters that say nothing.

    Raises:
        ValueError: boxes or OBUs end too early, or there is no such box.
    """
    at = 0
    while (kind := file[at + 4 : at + 8]) != b"mdat":
        size = int.from_bytes(file[at : at + 4], "big")
        if size < 8 or len(kind) < 4:
            raise ValueError("not an AVIF file")
        at += size
    stream = file[at + 8 : at + int.from_bytes(file[at : at + 4], "big")]
    kept, start = [], 0
    for unit, (_, end) in _units(stream):
        kept += [] if unit == _DELIMITER else [stream[start:end]]
        start = end
    return b"".join(kept)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _box(kind: bytes, *parts: bytes) -> bytes:
    inside = b"".join(parts)
    return _u32(8 + len(inside)) + kind + inside


def _units(stream: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """(kind, (begin, end) of what is in it) of every OBU."""
    at = 0
    while at < len(stream):
        first, size, shift = stream[at], 0, 0
        if first & 0x87 != 0x02:  # no extension, a size of its own
            raise ValueError("an OBU of another form")
        at += 1
        while True:
            if at >= len(stream) or shift > 28:
                raise ValueError("an OBU ends too early")
            byte = stream[at]
            size, shift, at = size | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        if size > len(stream) - at:
            raise ValueError("an OBU ends too early")
        yield first >> 3 & 15, (at, at + size)
        at += size


def _sequence(payload: bytes) -> Still:
    """The sequence header of a still picture in its reduced form, whose frames have no other size."""
    bits = "".join(f"{byte:08b}" for byte in payload[:16])
    at = 0

    def read(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError("the sequence header ends too early")
        at += count
        return int(bits[at - count : at], 2)

    profile, still, reduced, level = read(3), read(1), read(1), read(5)
    if not still or not reduced:
        raise ValueError("not one still picture of AV1")
    width_bits, height_bits = read(4) + 1, read(4) + 1
    width, height = read(width_bits) + 1, read(height_bits) + 1
    read(6)  # superblocks, two intra tools, super-resolution, CDEF, restoration
    if profile > 1 or read(1):
        raise ValueError("more than 8 bits a sample, or colours of half the width")
    return Still(width, height, profile, level, bool(profile == 0 and read(1)))
