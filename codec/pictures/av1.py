"""What an AVIF file says of its picture where the decoder of AV1 reads it, which is not where Pillow and browsers look.

A file's box `ispe` may declare a few pixels, and its AV1 stream a quarter of a billion, which decoders decode before
they reduce them. Only files of one still picture are read here, as libavif writes them: AVIF 1.1 (ISO/IEC 23008-12 with
`iloc` of version 0), AV1 bitstream specification, section 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_ILOC = bytes.fromhex("00000000 4400 0001 0001 0000 0001")
"""Version 0, offset and length of four bytes, one item of one extent."""
_DELIMITER, _SEQUENCE, _FRAMES = 2, 1, (3, 4, 6)
"""Kinds of open bitstream units (OBU)."""


class Still(NamedTuple):
    """The sequence header of a still picture."""

    width: int
    height: int
    high_bit_depth: bool
    gray: bool


def still_of(data: bytes) -> Still:
    """What the AV1 stream of an AVIF file declares.

    Raises:
        ValueError: not an AVIF file of one still picture, whole in one piece.
    """
    top = dict(_boxes(data, 0, len(data)))
    if set(top) != {b"ftyp", b"meta", b"mdat"} or data[top[b"ftyp"][0] :][:4] != b"avif":
        raise ValueError("not an AVIF file of one picture")
    start, end = top[b"meta"]
    iloc = dict(_boxes(data, start + 4, end)).get(b"iloc", (0, 0))
    place = data[iloc[0] : iloc[1]]
    if len(place) != len(_ILOC) + 8 or not place.startswith(_ILOC):
        raise ValueError("not an AVIF file of one picture")
    offset, length = (int.from_bytes(place[at : at + 4], "big") for at in (len(_ILOC), len(_ILOC) + 4))
    if (offset, offset + length) != top[b"mdat"]:
        raise ValueError("its stream lies elsewhere")
    units = list(_units(data[offset : offset + length]))
    kinds = [kind for kind, _ in units]
    if kinds[:1] == [_DELIMITER]:
        kinds, units = kinds[1:], units[1:]
    if kinds[:1] != [_SEQUENCE] or not kinds[1:] or not set(kinds[1:]) <= set(_FRAMES):
        raise ValueError("not one still picture of AV1")
    return _sequence(units[0][1])


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """(kind, (begin, end) of what is in it) of every box."""
    seen = set()
    while at < end:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8 or at + size > end or kind in seen:
            raise ValueError("a box is damaged or repeated")
        seen.add(kind)
        yield kind, (at + 8, at + size)
        at += size


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of every OBU."""
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
        yield first >> 3 & 15, stream[at : at + size]
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

    profile, still, reduced, _level = read(3), read(1), read(1), read(5)
    if not still or not reduced:
        raise ValueError("not one still picture of AV1")
    width_bits, height_bits = read(4) + 1, read(4) + 1
    width, height = read(width_bits) + 1, read(height_bits) + 1
    read(6)  # superblocks, two intra tools, super-resolution, CDEF, restoration
    high = bool(read(1))
    return Still(width, height, high, bool(profile != 1 and read(1)))
