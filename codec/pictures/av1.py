"""AV1 streams of still pictures, and the AVIF files around them.

An AVIF file is some 275 bytes of boxes around the stream, which follow from its sequence header or are always the same.
So the stream alone is kept, and the file is made again for decoders, which read nothing else. They decode what the
stream declares, which may be a quarter of a billion pixels where the file's box `ispe` has a few, and as many frames as
there are; here sizes are the same, and there is one frame. AVIF 1.1 (ISO/IEC 23008-12), AV1 bitstream specification,
section 5.5.
"""

from __future__ import annotations

from typing import NamedTuple

_SEQUENCE, _DELIMITER, _FRAME = 1, 2, 6
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
    kind, begin, end = _unit(stream, 0)
    if kind != _SEQUENCE or _unit(stream, end)[::2] != (_FRAME, len(stream)):
        raise ValueError("not one still picture of AV1")
    return _sequence(stream[begin:end])


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
    kept, at = [], 0
    while at < len(stream):
        unit, _, end = _unit(stream, at)
        kept += [] if unit == _DELIMITER else [stream[at:end]]
        at = end
    return b"".join(kept)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _box(kind: bytes, *parts: bytes) -> bytes:
    inside = b"".join(parts)
    return _u32(8 + len(inside)) + kind + inside


def _unit(stream: bytes, at: int) -> tuple[int, int, int]:
    """Kind of the OBU that begins there, and begin and end of what is in it."""
    if at >= len(stream) or stream[at] & 0x87 != 0x02:
        raise ValueError("no OBU without extension and with a size of its own")
    kind, size, shift = stream[at] >> 3 & 15, 0, 0
    while True:
        at += 1
        if at >= len(stream) or shift > 28:
            raise ValueError("an OBU ends too early")
        size, shift = size | (stream[at] & 0x7F) << shift, shift + 7
        if stream[at] < 0x80:
            break
    if size > len(stream) - at - 1:
        raise ValueError("an OBU ends too early")
    return kind, at + 1, at + 1 + size


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
