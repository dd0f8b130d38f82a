"""The container and the range coding, against docs/format.md and the second decoder written from it."""

from __future__ import annotations

import dataclasses
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
import reference_decoder as reference
from fuzz.structure import varint

from dcae.codec.coder import MAX_EXCESS
from dcae.codec.container import SIGNATURE, VERSION, Container, read_container, write_container
from dcae.codec.fields import ENLARGEMENT, FIELDS, Enlargement, Field, Header
from dcae.entropy.tables import MAX_ROW
from dcae.errors import FileFormatError

DOCUMENT = Path(__file__).parents[1] / "docs" / "format.md"
HEADER = Header(width=300, height=2, colour=1, numerics=0, quality=1100, model=b"\x00\xffmodel.", check=0xFEDCBA98)


# -- the document ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "fields"), [("fields", FIELDS), ("enlargement", ENLARGEMENT)])
def test_tables_of_the_document_are_the_code(which: str, fields: tuple[Field, ...]) -> None:
    lines = (
        DOCUMENT.read_text(encoding="utf-8").split(f"<!-- test: {which} -->")[1].strip().split("\n\n")[0].splitlines()
    )
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")][:4] for line in lines[2:]]
    expected = [
        [f.name, f.kind, *(("", "") if f.kind == "bytes8" else (str(f.low), str(f.high)))]  # bytes8 has no range
        for f in fields
    ]
    assert rows == expected


def test_constants_of_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    signature = re.search(r"signature `([0-9A-F ]+)`", text)
    version = re.search(r"version, `([0-9A-F]+)`", text)
    excess = re.search(r"\*excess\* is coded, a number from 0 to (\d+)", text)
    row = re.search(r"Rows have 3 to (\d+) entries", text)
    assert signature and version and excess and row
    assert bytes.fromhex(signature[1]) == SIGNATURE
    assert int(version[1], 16) == VERSION
    assert int(excess[1]) == MAX_EXCESS
    assert int(row[1]) == MAX_ROW


# -- the container --------------------------------------------------------------------------------------------


def _section(letter: bytes, payload: bytes, length: bytes | None = None) -> bytes:
    """A section with a right CRC, whatever else is wrong with it."""
    body = letter + (bytes([len(payload)]) if length is None else length) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


GOOD = write_container(Container(HEADER, b"zzzz", b"yyyyyyyy"))
START, START_2 = SIGNATURE + b"\x01", SIGNATURE + b"\x02"
H = _section(b"H", reference.read_sections(GOOD)[0][1])
Z, Y = _section(b"Z", b"zzzz"), _section(b"Y", b"yyyyyyyy")


def test_both_readers_agree_on_a_container() -> None:
    assert GOOD == START + H + Z + Y
    sections = dict(reference.read_sections(GOOD))
    assert reference.read_header(sections["H"], 1) == dataclasses.asdict(HEADER)
    assert read_container(GOOD) == Container(HEADER, sections["Z"], sections["Y"])


_LARGE = Enlargement(scale=2, width=599, height=4, model=b"enlarges")
_FURTHER = {
    "exif": b"II*\0" + bytes(40),
    "xmp": b"<x/>" * 2000,
    "icc": bytes(range(256)) * 3,
    "alpha": b"a picture",
    "header": dataclasses.replace(HEADER, depth=1),
    "enlargement": _LARGE,
}


@pytest.mark.parametrize("fields", [{k: v} for k, v in _FURTHER.items()] + [_FURTHER], ids=lambda f: "+".join(f))
def test_both_readers_agree_on_what_version_2_has(fields: dict[str, Any]) -> None:
    coded = dataclasses.replace(Container(HEADER, b"zzzz", b"yyyyyyyy"), **fields)
    stored = dataclasses.replace(Container(HEADER, lossless=b"another picture"), **fields)
    avif = dataclasses.replace(Container(HEADER, avif=b"a third one"), **(fields | {"header": HEADER}))
    for container in (coded, stored, avif) if "enlargement" not in fields else (coded,):
        data = write_container(container)
        assert data.startswith(START_2)
        assert read_container(data) == container
        sections = dict(reference.read_sections(data))
        assert reference.read_header(sections["H"], 2) == dataclasses.asdict(container.header)
        for letter, name in {"e": "exif", "x": "xmp", "i": "icc"}.items():
            assert (letter in sections) == bool(getattr(container, name))
            if letter in sections:
                assert reference.expand(sections[letter]) == getattr(container, name)
        if container.enlargement:
            shown = reference.read_enlargement(sections["S"], HEADER.width, HEADER.height)
            assert shown == dataclasses.asdict(container.enlargement)
            assert container.size == (shown["width"], shown["height"])
        for letter, name in {"A": "alpha", "P": "lossless", "V": "avif", "Z": "z", "Y": "y"}.items():
            assert sections.get(letter, b"") == getattr(container, name)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_section(b"A", b""), "A is empty"),
        (_section(b"A", b"a") + _section(b"A", b"a"), "repeated"),
        (_section(b"e", b"\x04" + zlib.compress(b"1234")) * 2, "repeated"),
        (_section(b"x", b"\x03" + zlib.compress(b"1234")), "does not expand to the 3 bytes"),
        (_section(b"x", b"\x05" + zlib.compress(b"1234")), "does not expand to the 5 bytes"),
        (_section(b"i", b"\x04" + zlib.compress(b"1234") + b"5"), "does not expand"),
        (_section(b"i", b"\x04" + zlib.compress(b"1234")[:-1]), "does not expand"),
        (_section(b"i", b"\x04nonsense"), "cannot be expanded"),
        (_section(b"i", b"\x00" + zlib.compress(b"")), "declares 0 bytes"),
        (_section(b"i", b"\x80\x80\x80\x08" + zlib.compress(b"1234")), "declares 16777216 bytes"),
        (_section(b"i", b""), "too early"),
        (_section(b"B", b"b"), "unknown critical"),
    ],
)
def test_damaged_sections_of_version_2(body: bytes, message: str) -> None:
    header = _section(b"H", _header_payload() + b"\x00")
    assert read_container(START_2 + header + Z + Y).version == 1
    with pytest.raises(FileFormatError, match=message):
        read_container(START_2 + header + body + Z + Y)


_P, _V = _section(b"P", b"p"), _section(b"V", b"v")


@pytest.mark.parametrize(
    "body", [b"", Z + _P, Z + _V, _P + Y, _V + Y, _P + _V, _V + _P, _section(b"P", b""), _section(b"V", b"")]
)
def test_a_file_has_streams_or_a_stored_picture(body: bytes) -> None:
    header = _section(b"H", _header_payload() + b"\x00")
    assert read_container(START_2 + header + _P).lossless == b"p" and read_container(START_2 + header + _V).avif == b"v"
    with pytest.raises(FileFormatError, match="section V has 8 bits a sample, and the header says 16"):
        read_container(START_2 + _section(b"H", _header_payload() + b"\x01") + _V)
    with pytest.raises(FileFormatError):
        read_container(START_2 + header + body)


def _s(**values: bytes) -> bytes:
    """Section S with single fields replaced."""
    parts = {"scale": b"\x02", "width": b"\xd7\x04", "height": b"\x04", "model": b"enlarges", "more": b""}
    assert parts.keys() >= values.keys()
    return _section(b"S", b"".join((parts | values).values()))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_s(scale=b"\x01"), "scale is 1"),
        (_s(scale=b"\x05"), "scale is 5"),
        (_s(scale=b"\x03"), "makes 599x4 pixels of 300x2 by scale 3, which does not fit"),
        (_s(width=b"\xd6\x04"), "makes 598x4 pixels"),
        (_s(width=b"\xd9\x04"), "makes 601x4 pixels"),
        (_s(height=b"\x02"), "makes 599x2 pixels"),
        (_s(height=b"\x05"), "makes 599x5 pixels"),
        (_s(height=b"\x00"), "height is 0"),
        (_s(width=b"\x80\x80\x80\x08"), "width is 16777216"),
        (_s(width=b"\xd7\x84\x00"), "malformed number"),
        (_s(model=b"enlarge"), "enlargement ends too early"),
        (_s(more=b"\x00"), "enlargement is longer"),
        (_section(b"S", b""), "enlargement ends too early"),
        (_s() * 2, "repeated"),
    ],
)
def test_enlargements_that_are_none(body: bytes, message: str) -> None:
    header = _section(b"H", reference.read_sections(GOOD)[0][1] + b"\x00")
    assert read_container(START_2 + header + _s() + Z + Y).size == (599, 4)
    with pytest.raises(FileFormatError, match=message):
        read_container(START_2 + header + body + Z + Y)


def test_an_enlargement_is_of_what_is_coded_and_of_version_2() -> None:
    header = _section(b"H", reference.read_sections(GOOD)[0][1] + b"\x00")
    with pytest.raises(FileFormatError, match="enlarge a picture that is stored without loss"):
        read_container(START_2 + header + _s() + _P)
    with pytest.raises(FileFormatError, match="enlarge a picture that is stored as AVIF"):
        read_container(START_2 + header + _s() + _V)
    with pytest.raises(FileFormatError, match="before the header"):
        read_container(START_2 + _s() + header + Z + Y)
    with pytest.raises(FileFormatError, match="unknown critical section 'S'"):  # as older decoders say
        read_container(START + H + _s() + Z + Y)
    for wrong in ({"lossless": b"p", "z": b"", "y": b""}, {"enlargement": dataclasses.replace(_LARGE, scale=3)}):
        with pytest.raises(ValueError, match="section S"):
            write_container(Container(**({"header": HEADER, "z": b"", "y": b"", "enlargement": _LARGE} | wrong)))  # type: ignore[arg-type]


def test_optional_sections_do_not_blow_up_memory() -> None:
    """A few bytes that expand to hundreds of millions are refused before they do."""
    bomb = zlib.compress(bytes(200 << 20), 9)
    data = START_2 + _section(b"H", _header_payload() + b"\x00")
    for declared in (b"\x80\x80\x80\x02", b"\x80\x80\x80\x64"):
        tracemalloc.start()
        with pytest.raises(FileFormatError, match=r"does not expand|declares"):
            read_container(data + _section(b"e", declared + bomb, varint(len(declared + bomb))) + Z + Y)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
        tracemalloc.stop()
    with pytest.raises(ValueError, match="a section holds"):
        write_container(Container(HEADER, exif=bytes((1 << 22) + 1)))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 300_000])
def test_payloads_of_any_length(length: int) -> None:
    container = Container(HEADER, bytes(length), b"\x80" * (length + 1))
    data = write_container(container)
    assert read_container(data) == container
    sections = dict(reference.read_sections(data))
    assert (sections["Z"], sections["Y"]) == (container.z, container.y)


_NUMBERS = [field for field in FIELDS if field.kind != "bytes8"]


@pytest.mark.parametrize("field", _NUMBERS, ids=lambda field: field.name)
def test_header_ranges_on_write_and_read(field) -> None:  # type: ignore[no-untyped-def]
    for value in (field.low, field.high):
        header = dataclasses.replace(HEADER, **{field.name: value})
        data = write_container(Container(header, b"", b""))
        assert read_container(data).header == header
        assert reference.read_header(reference.read_sections(data)[0][1], data[9])[field.name] == value
    for value in (field.low - 1, field.high + 1):
        with pytest.raises(ValueError, match=f"{field.name} = {value} "):
            write_container(Container(dataclasses.replace(HEADER, **{field.name: value}), b"", b""))


def _header_payload(**values: bytes) -> bytes:
    """Section H with single fields replaced by bytes that the writer would refuse."""
    parts = {
        "width": b"\x01",
        "height": b"\x01",
        "colour": b"\x00",
        "numerics": b"\x00",
        "quality": b"\x80\x02",
        "model": bytes(8),
        "check": bytes(4),
    }
    assert parts.keys() >= values.keys()
    return b"".join((parts | values).values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": b"\x00"}, "width is 0"),
        ({"width": b"\x80\x80\x80\x08"}, "width is 16777216"),
        ({"height": b"\x00"}, "height is 0"),
        ({"height": b"\xff\xff\xff\xff\x7f"}, "height is"),
        ({"colour": b"\x02"}, "colour is 2"),
        ({"numerics": b"\x03"}, "numerics is 3"),
        ({"quality": b"\xff\x01"}, "quality is 255"),
        ({"quality": b"\x81\x80\x01"}, "quality is 16385"),
        ({"width": b"\x81\x00"}, "malformed number"),
        ({"width": b"\x80\x80\x80\x80\x80\x01"}, "malformed number"),
        ({"check": bytes(3)}, "the header ends too early"),
        ({"check": bytes(5)}, "longer than its fields"),
    ],
)
def test_header_fields_out_of_range_on_read(values: dict[str, bytes], message: str) -> None:
    assert read_container(START + _section(b"H", _header_payload()) + Z + Y).header.quality == 256
    with pytest.raises(FileFormatError, match=message):
        read_container(START + _section(b"H", _header_payload(**values)) + Z + Y)


def test_model_of_a_wrong_length_is_not_written() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        write_container(Container(dataclasses.replace(HEADER, model=b"short"), b"", b""))


def test_unknown_optional_sections_are_skipped() -> None:
    for letter in (b"a", b"y", b"z"):
        extra = _section(letter, b"whatever")
        for data in (START + extra + H + Z + Y, START + H + extra + extra + Z + Y, START + H + Z + extra + Y):
            assert read_container(data) == read_container(GOOD)
            assert dict(reference.read_sections(data))["Y"] == b"yyyyyyyy"
        damaged = START + H + extra[:-1] + bytes([extra[-1] ^ 1]) + Z + Y
        with pytest.raises(FileFormatError, match="CRC"):
            read_container(damaged)


@pytest.mark.parametrize("letter", [b"A", b"X", b"1", b"\x00", b"\xe9", b"{", b"`"])
def test_unknown_critical_sections_are_refused(letter: bytes) -> None:
    with pytest.raises(FileFormatError, match=r"unknown critical section.*newer dcae"):
        read_container(START + H + _section(letter, b"whatever") + Z + Y)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Z + H + Y, "before the header"),
        (Y + H + Z, "before the header"),
        (H + H + Z + Y, "repeated"),
        (H + Z + Z + Y, "repeated"),
        (H + Y, "missing"),
        (H + Y + Z, "after the last section"),
        (H + Z + Y + Y, "after the last section"),
        (H + Z + Y + b"\x00", "1 bytes after the last section"),
        (H + Z + Y + _section(b"x", b""), "after the last section"),
        (H + Z, "too early"),
        (b"", "too early"),
        (H + Z + _section(b"Y", b"yyyyyyyy", b"\x88\x00"), "malformed number"),
        (H + Z + _section(b"Y", b"yyyyyyyy", b"\x88\x80\x80\x80\x80\x00"), "malformed number"),
        (H + Z + _section(b"Y", b"yyyyyyyy", b"\x88\x80\x80\x80\x80\x01"), "malformed number"),
        (H + Z + _section(b"Y", b"yyyyyyyy", b"\xff\xff\xff\xff\x7f"), "too early"),
    ],
)
def test_sections_out_of_place(body: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_container(START + body)


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(FileFormatError, match=f"version {version}, this dcae reads 1 to {VERSION}"):
        read_container(SIGNATURE + bytes([version]) + H + Z + Y)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\r", b"\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: bytes(byte & 0x7F for byte in data),
        lambda data: data.decode("latin-1").encode("utf-8"),
        lambda data: data.decode("utf-8", "replace").encode("utf-8"),
    ],
    ids=["CRLF to LF", "LF to CRLF", "CR to LF", "LF to CR", "7 bits", "latin-1 to utf-8", "not utf-8"],
)
def test_transfer_in_text_mode_is_named(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileFormatError, match="text mode"):
        read_container(damage(GOOD))


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff\xe0" + bytes(20), b"\x89PNG\r\n\x1a\n" + bytes(20), b"DCAE", bytes(99)]
)
def test_foreign_files(data: bytes) -> None:
    with pytest.raises(FileFormatError, match=r"not a \.dcae file"):
        read_container(data)


def test_every_truncation_and_bit_flip_of_a_container() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(FileFormatError, match="truncated"):
            read_container(GOOD[:length])
    for position in range(8 * len(GOOD)):
        data = bytearray(GOOD)
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(FileFormatError):
            read_container(bytes(data))
