"""Fuzz targets: one function per part that meets hostile bytes.

Each takes any bytes, calls the package as its users do, and returns None. Errors of the family `DCAEError` are the
right answer to most inputs; everything else that comes out is a finding, as is an assertion here that fails.
`run.py` feeds them with atheris, `tests/test_fuzz.py` with the corpus and random bytes.
"""

from __future__ import annotations

import functools
import io
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import reference_decoder as reference
from fuzz.models import ENGINES, GOLDEN, MAX_PIXELS, model, model_bytes
from fuzz.structure import START, Choices, fix_crcs, mutated, section, varint
from fuzz.tables import published_tables, tables
from helpers import synthetic_picture
from numpy.typing import NDArray
from PIL import Image, ImageCms

from dcae.codec import latents as latents_module
from dcae.codec import stored
from dcae.codec.codec import Codec
from dcae.codec.coder import MAX_EXCESS, SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.codec.container import Container, read_container, write_container
from dcae.codec.fields import NUMERICS, Enlargement, Header
from dcae.codec.latents import LatentCoder
from dcae.codec.pictures.alpha import packed, unpacked
from dcae.codec.pictures.av1 import stream_of
from dcae.codec.pictures.preparation import AS_IT_IS, Preparation
from dcae.codec.pictures.preparing import prepare
from dcae.codec.pictures.writing import picture_file
from dcae.entropy.tables import MAX_ROW, Tables, gaussian_tables
from dcae.errors import DCAEError, FileFormatError, OptionError, SymbolMismatchError
from dcae.runtime.protocol import Floats
from dcae.sr.find import find_upscaler


@functools.cache
def _codec(engine: str) -> Codec:
    return Codec(GOLDEN / "tiny.safetensors", max_pixels=MAX_PIXELS, engine=engine)


def _some_codec(data: bytes) -> Codec:
    """By one engine or the other, as the input says."""
    return _codec(ENGINES[zlib.crc32(data) % len(ENGINES)])


@functools.cache
def _golden_files() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(GOLDEN.glob("*.dcae")))


# -- files ----------------------------------------------------------------------------------------------------


def reader(data: bytes) -> None:
    """`read_container`: as it is, and with CRCs that fit; what it accepts, the reference reads alike."""
    for candidate in (data, fix_crcs(data)):
        with suppress(DCAEError):
            container = read_container(candidate)
            sections = dict(reference.read_sections(candidate))
            names = {"Z": "z", "Y": "y", "P": "lossless", "V": "avif", "A": "alpha"}
            assert all(sections.get(letter, b"") == getattr(container, name) for letter, name in names.items())
            assert reference.read_header(sections["H"], candidate[9]) == vars(container.header)
            if container.enlargement:
                header = container.header
                found = reference.read_enlargement(sections["S"], header.width, header.height)
                assert found == vars(container.enlargement)
            assert ("S" in sections) == bool(container.enlargement)
            assert read_container(write_container(container)) == container


class _Checks(latents_module.Check):
    """Remembers the check value of the latest decoding."""

    latest = 0

    def add(self, symbols: NDArray[np.int32]) -> None:
        super().add(symbols)
        _Checks.latest = self.value


def _decode(data: bytes, right_check: bool) -> None:
    """Decode; if asked, and if nothing else was wrong, once more with the check value that fits."""
    codec = _some_codec(data)
    latents_module.Check = _Checks  # type: ignore[misc]
    try:
        codec.decode(data)
    except SymbolMismatchError:
        if right_check:
            container = read_container(data)
            header = Header(**(vars(container.header) | {"check": _Checks.latest}))
            with suppress(DCAEError):
                codec.decode(write_container(Container(header, container.z, container.y)))
    except DCAEError:
        pass


def container(data: bytes) -> None:
    """Header fields and payloads from the bytes, lengths and CRCs right, decoded."""
    choices, codec = Choices(data), _some_codec(data)
    numbers = [1 + choices.below(160), 1 + choices.below(130)]
    if choices.odds(8):
        numbers[choices.below(2)] = choices.number()
    colour, quality = choices.below(2), 256 + choices.below(1793)
    numerics = NUMERICS.index(codec.engine.numerics[0])
    model = codec.header.short_id
    if choices.odds(16):
        colour, numerics, quality = choices.below(256), choices.below(256), choices.number()
    if choices.odds(32):
        model = choices.bytes(8)
    check = choices.bytes(4)
    header = b"".join([*map(varint, numbers), bytes([colour, numerics]), varint(quality), model, check])
    if choices.odds(16):
        header = mutated(header, choices)
    sections = [section(b"H", header)]
    if choices.odds(8):
        sections.insert(choices.below(2), section(choices.bytes(1), choices.bytes(choices.below(20))))
    if choices.odds(4):  # all zeros decode to something, and at no cost to the fuzzer
        z, y = bytes(4 * choices.below(64)), bytes(4 * choices.below(256))
    else:
        rest = choices.rest()
        cut = 4 * (len(rest) // 12)
        z, y = rest[:cut], rest[cut : cut + 4 * ((len(rest) - cut) // 4)]
    _decode(b"".join([START, *sections, section(b"Z", z), section(b"Y", y)]), right_check=True)


def golden(data: bytes) -> None:
    """A real file with damage, its CRCs and on demand its check value made right."""
    choices = Choices(data)
    original = read_container(choices.pick(_golden_files()))
    header, z, y = dict(vars(original.header)), original.z, original.y
    right_check = not choices.odds(4)
    for _ in range(1 + choices.below(3)):
        what = choices.below(6)
        if what == 0:
            z = mutated(z, choices)
        elif what == 1:
            y = mutated(y, choices)
        elif what == 2:
            header[choices.pick(("width", "height"))] = 1 + choices.below(200)
        elif what == 3:
            header["quality"] = 256 + choices.below(2048)
        elif what == 4:
            z, y = (z, original.z) if choices.odds(2) else (original.y, y)
        else:
            _decode(fix_crcs(mutated(write_container(original), choices)), right_check)
            return
    _decode(write_container(Container(Header(**header), z, y)), right_check)


def companions(data: bytes) -> None:
    """What version 2 adds to a file: metadata, alpha, stored pictures, enlargement, damaged; decoded and written
    as a picture."""
    choices = Choices(data)
    original = read_container(choices.pick(_golden_files()))
    header = dict(vars(original.header)) | {"depth": choices.below(2)}
    size = (header["width"], header["height"])
    kinds = [("PNG", "L"), ("WEBP", "RGB"), ("PNG", "I;16"), ("PNG", "RGB"), ("PNG", "1"), ("PNG", "P"), ("BMP", "L")]
    kinds += [("AVIF", "RGB"), ("AVIF", "L"), ("AVIF", "RGBA")]
    kind, mode = choices.pick(kinds)
    if choices.odds(4):
        size = (1 + choices.below(300), 1 + choices.below(300))
    file = io.BytesIO()
    Image.new(mode, size, choices.below(200)).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    picture_bytes = file.getvalue()
    if kind == "AVIF" and not choices.odds(4):
        picture_bytes = stream_of(picture_bytes)
    if choices.odds(2):
        picture_bytes = mutated(picture_bytes, choices)
    fields: dict[str, Any] = {"alpha": picture_bytes} if choices.odds(2) else {}
    for name in ("exif", "xmp", "icc"):
        if choices.odds(2):
            fields[name] = choices.pick((b"II*\0", b"MM\0*", b"<x", b"")) + choices.bytes(1 + choices.below(60))
    if choices.odds(3):
        header |= {"model": bytes(8)}
        with suppress(DCAEError):  # a check value that fits
            channels = 1 if header["colour"] else 3
            shape = header["width"], header["height"], channels, 16 if header["depth"] else 8
            header["check"] = stored._check(unpacked(picture_bytes, *shape, "it"))
        place = "avif" if choices.odds(2) else "lossless"
        if place == "avif":
            header["depth"] = 0
        container = Container(Header(**header), **{place: picture_bytes}, **fields)
    else:
        container = Container(Header(**header), original.z, original.y, **fields)
        if choices.odds(2):
            container = replace(container, enlargement=_some_enlargement(container.header, choices))
            if fields.get("alpha") and choices.odds(2):
                container = replace(
                    container, alpha=packed(np.full(container.size[::-1], choices.below(256), np.uint8))
                )
    file_bytes = write_container(container)
    if choices.odds(3):
        file_bytes = fix_crcs(mutated(file_bytes, choices))
    with suppress(DCAEError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = _some_codec(data).decode_picture(file_bytes, native=choices.odds(4))
        for target in ("PNG", "TIFF", "JPEG"):
            with suppress(OptionError):
                picture_file(decoded, target)


def _some_enlargement(header: Header, choices: Choices) -> Enlargement:
    """One that fits, mostly by a model that is there."""
    scale = 3 if choices.odds(8) else 2
    width, height = (scale * side - choices.below(scale) for side in (header.width, header.height))
    return Enlargement(scale, width, height, choices.bytes(8) if choices.odds(8) else _upscaler())


@functools.cache
def _upscaler() -> bytes:
    return find_upscaler("tables", 2).short_id


# -- symbols --------------------------------------------------------------------------------------------------


def _some_tables(choices: Choices) -> Tables:
    if choices.odds(4):
        return gaussian_tables()
    pmfs, offsets = [], []
    for _ in range(1 + choices.below(4)):
        length = MAX_ROW if choices.odds(32) else 3 + choices.below(30)
        kind = choices.below(3)
        if kind == 0:
            pmf = np.ones(length)
        elif kind == 1:  # all that can be on one symbol
            pmf = np.zeros(length)
            pmf[choices.below(length)] = 1
        else:
            pmf = choices.generator().exponential(size=length) ** choices.below(6)
        pmfs.append(pmf)
        offsets.append(choices.pick((0, -1, -length // 2, MAX_ROW, -MAX_ROW)))
    return Tables.from_pmfs(pmfs, offsets)


def symbols(data: bytes) -> None:
    """`SymbolDecoder` on any stream under any tables: it and the reference agree, or both refuse."""
    choices = Choices(data)
    tables = _some_tables(choices)
    prepared = SymbolTables(tables)
    generator = choices.generator()
    arrays = [
        generator.integers(0, len(tables.lengths), choices.below(50)).astype(np.uint8)
        for _ in range(1 + choices.below(3))
    ]
    if choices.odds(2):
        encoder = SymbolEncoder(prepared)
        reach = choices.pick((2, 100, 1 << 17))
        for rows in arrays:
            encoder.encode(prepared.clamp(generator.integers(-reach, reach, len(rows), np.int32), rows), rows)
        stream = encoder.finish()
        if choices.left:
            stream = mutated(stream, choices)
    else:
        stream = choices.rest()
    if len(stream) % 4:
        try:
            SymbolDecoder(prepared, stream, "fuzz")
        except FileFormatError:
            return
        raise AssertionError("part of a word was accepted")
    split = [row.tolist() for row in np.split(tables.frequencies, tables.starts[1:-1])]
    second = reference.SymbolReader(stream, split, tables.offsets.tolist())
    first = SymbolDecoder(prepared, stream, "fuzz")
    for rows in arrays:
        try:
            expected = second.read(rows.tolist())
        except AssertionError:
            expected = None
        try:
            found = first.decode(rows).tolist()
        except FileFormatError:
            found = None
        assert found == expected, (found, expected)
        if found is None:
            return
    try:
        first.finish()
        ended = True
    except FileFormatError:
        ended = False
    assert ended == second.coder.at_end


def _any_symbols(tables: SymbolTables, rows: NDArray[Any], choices: Choices) -> NDArray[np.int32]:
    generator = choices.generator()
    reach = choices.pick((0, 1, 5, 1000, 1 << 17, 1 << 30))
    low = tables.tables.offsets[rows] - MAX_EXCESS
    high = tables.tables.offsets[rows] + tables.tables.lengths[rows] - 1 + MAX_EXCESS
    drawn = generator.integers(-reach, reach, len(rows), endpoint=True)
    if choices.odds(3):
        drawn = np.where(generator.integers(0, 2, len(rows)), low, high)
    if choices.odds(4):
        drawn[generator.integers(0, 2, len(rows)) == 1] = 0
    return np.clip(drawn, low, high).astype(np.int32)


def latents(data: bytes) -> None:
    """An encoder that writes any symbols, not those of a picture: the file decodes, to the same symbols."""
    choices, codec = Choices(data), _some_codec(data)
    coder = LatentCoder(codec.engine)
    width, height, quality = 1 + choices.below(140), 1 + choices.below(140), 256 + choices.below(1793)
    shape = (1, codec.config.hyper_channels, -(-height // 64), -(-width // 64))
    z = _any_symbols(coder.tables_z, np.repeat(np.arange(shape[1]), shape[2] * shape[3]), choices)
    z_encoder, y_encoder = SymbolEncoder(coder.tables_z), SymbolEncoder(coder.tables_y)
    z = coder.encode_z(z_encoder, z.reshape(shape[1:]))
    y = []

    def code(mean: Floats, rows: NDArray[np.uint8], y_hats: list[Floats]) -> NDArray[np.int32]:
        assert np.isfinite(mean).all()
        y.append(coder.encode_y(y_encoder, _any_symbols(coder.tables_y, rows, choices).reshape(mean.shape[1:]), rows))
        return y[-1]

    check = latents_module.Check()
    with codec.engine.coding():
        coder.walk(codec.engine.entropy_model(codec.engine.numerics[0]), z, shape, quality / 256, code, check)
    numerics = NUMERICS.index(codec.engine.numerics[0])
    header = Header(width, height, choices.below(2), numerics, quality, codec.header.short_id, check.value)
    data = write_container(Container(header, z_encoder.finish(), y_encoder.finish()))
    found = codec.decode_latents(data)
    np.testing.assert_array_equal(found.z, z)
    for found_slice, expected in zip(found.y, y, strict=True):
        np.testing.assert_array_equal(found_slice, expected)
    assert codec.decode(data).size == (width, height)


# -- pictures -------------------------------------------------------------------------------------------------


def picture(data: bytes) -> None:
    """What `encode` is given: a picture file, or something like it."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 1 << 18
    try:
        with suppress(DCAEError):
            picture = prepare(data, AS_IT_IS if len(data) % 2 else Preparation(frame=0))
            assert picture.pixels.ndim == 3 and picture.pixels.shape[2] in (1, 3)
            assert picture.pixels.dtype in (np.uint8, np.uint16)
            assert picture.alpha is None or picture.alpha.shape == picture.pixels.shape[:2]
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def pictures() -> list[bytes]:
    """Small picture files of many kinds, to start from."""
    found = []
    image = synthetic_picture(24, 17)
    variants: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "1", {}), ("PNG", "LA", {}), ("PNG", "RGBA", {}),
        ("JPEG", "RGB", {"quality": 60}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}),
        ("GIF", "P", {}), ("BMP", "RGB", {}), ("BMP", "P", {}), ("TIFF", "RGB", {}), ("WEBP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "L", {"compression": "packbits"}), ("PPM", "RGB", {}),
        ("TGA", "RGB", {"compression": "tga_rle"}), ("PCX", "RGB", {}), ("ICO", "RGB", {}), ("SGI", "RGB", {}),
        ("DDS", "RGB", {}), ("MPO", "RGB", {}), ("IM", "RGB", {}), ("MSP", "1", {}), ("XBM", "1", {}),
        ("QOI", "RGB", {}),
        ("JPEG2000", "RGB", {}), ("ICNS", "RGB", {}), ("EPS", "RGB", {}), ("AVIF", "RGB", {}),
    ]  # fmt: skip
    for kind, mode, options in variants:
        file = io.BytesIO()
        with suppress(KeyError, OSError, ValueError):  # not in this build of Pillow
            exif = Image.Exif()
            exif[0x0112] = 6
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
            extra = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
            extra |= {"icc_profile": profile} if kind in ("WEBP", "JPEG2000") else {}
            image.convert(mode).save(file, kind, **options, **extra)
            found.append(file.getvalue())
    return found


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        reader,
        container,
        golden,
        companions,
        symbols,
        latents,
        model,
        model_bytes,
        picture,
        tables,
        published_tables,
    )
}
