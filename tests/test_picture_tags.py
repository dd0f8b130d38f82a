"""Picture files as cameras, scanners and old programs write them, and hostile ones: what their tags say is heeded."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import icc_profile, synthetic_picture
from PIL import Image, PngImagePlugin

from dcae.codec.filecoders import limit_of_pillow
from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.preparation import Preparation
from dcae.codec.pictures.preparing import prepare
from dcae.codec.pictures.writing import picture_file
from dcae.errors import OptionError, PictureError


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_within_icons_are_no_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = io.BytesIO()
    Image.new("1", (9000, 9000)).save(inner, "PNG")
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner.getvalue()), 22)
    with pytest.raises(PictureError):  # once, since what is imported then takes memory too
        prepare(b"none")
    with limit_of_pillow(1 << 20):
        tracemalloc.start()
        try:
            with pytest.raises(PictureError, match="more than the limit of 1048576"):
                prepare(head + inner.getvalue(), max_pixels=1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


def _tiff(samples: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb", **options)
    return buffer.getvalue()


def test_tiff_does_not_expand_to_more_than_its_picture() -> None:
    samples = np.zeros((64, 64, 3), np.uint16)
    data = bytearray(_tiff(samples, compression="zlib"))
    assert (prepare(bytes(data)).pixels == samples).all()
    bomb = zlib.compress(bytes(64_000_000), 9)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        places = [tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts")]
    for place, value in zip(places, (len(data), len(bomb)), strict=True):
        struct.pack_into("<I", data, place, value)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match="expands to more than its picture"):
            prepare(bytes(data) + bomb)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(PictureError, match="several layers"):
        prepare(_tiff(samples, compression="lzma"))


def test_a_prepared_picture_is_converted_as_its_file_is() -> None:
    """Without its profile its colours would be others."""
    data = _file(Image.new("RGB", (4, 3), (10, 200, 30)), "PNG", icc_profile=icc_profile(b"RGB ", 1.0))
    picture = prepare(data)
    assert picture.metadata.icc and picture.pixels[0, 0, 0] == 10
    for how in (Preparation(to_srgb=True), Preparation(strip=True)):
        again = prepare(picture, how)
        assert (again.pixels == prepare(data, how).pixels).all() and not again.metadata.icc


@pytest.mark.parametrize("layout", ["white is zero", "colour by colour", "alpha multiplied", "alpha", "neither"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_16_bits_means_what_its_tags_say(layout: str, compression: str | None) -> None:
    draw = np.random.default_rng(3)
    colours = draw.integers(0, 65536, (40, 30, 3), np.uint16)
    alpha = draw.integers(20_000, 65_535, (40, 30, 1), np.uint16)
    if layout == "white is zero":
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, 65535 - colours[..., 0], photometric="miniswhite", compression=compression)
        assert (prepare(buffer.getvalue()).pixels == colours[..., :1]).all()
        return
    if layout == "colour by colour":
        data = _tiff(np.moveaxis(colours, 2, 0), planarconfig="separate", compression=compression)
        assert (prepare(data).pixels == colours).all()
        return
    kind = {"alpha multiplied": "assocalpha", "alpha": "unassalpha", "neither": "unspecified"}[layout]
    stored = np.rint(colours * (alpha / 65535)).astype(np.uint16) if kind == "assocalpha" else colours
    picture = prepare(_tiff(np.dstack([stored, alpha]), extrasamples=[kind], compression=compression))
    assert np.abs(picture.pixels.astype(int) - colours).max() <= (2 if kind == "assocalpha" else 0)
    if kind == "unspecified":
        assert picture.alpha is None
    else:
        assert picture.alpha is not None and (picture.alpha == alpha[..., 0]).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientations_of_four_bytes_are_reset_too(order: str) -> None:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    exif = head + struct.pack(order + "IHHHIII", 8, 1, 274, 4, 1, 6, 0)
    file = io.BytesIO()
    Image.new("RGB", (9, 5)).save(file, "JPEG", exif=b"Exif\0\0" + exif)
    picture = prepare(file.getvalue())
    assert (picture.width, picture.height) == (5, 9)
    shown = Image.open(io.BytesIO(picture_file(picture, "PNG")))
    assert shown.getexif()[274] == 1


def test_exif_in_a_text_of_a_png_is_kept() -> None:
    """As ImageMagick wrote it before there was a chunk for it."""
    exif = Image.Exif()
    exif[271] = "a maker"
    data = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8d}\n{data.hex()}\n")
    file = io.BytesIO()
    Image.new("RGB", (9, 5)).save(file, "PNG", pnginfo=info)
    assert b"a maker" in prepare(file.getvalue()).metadata.exif


@pytest.mark.parametrize(("depth", "key"), [(2, 1), (4, 5)])
def test_a_transparent_level_of_few_bits(depth: int, key: int) -> None:
    levels = np.arange(64, dtype=np.uint8).reshape(4, 16) % (1 << depth)
    bits = np.unpackbits(levels[..., None], axis=2)[..., 8 - depth :].reshape(4, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 4, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    picture = prepare(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    assert picture.alpha is not None and ((picture.alpha == 0) == (levels == key)).all()


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_shrinking_keeps_16_bits(layers: int) -> None:
    ramp = np.linspace(0, 65535, 80 * 60 * layers).astype(np.uint16).reshape(60, 80, layers)
    if layers in (2, 4):  # where it is next to nothing, 8 bits tell little of colours
        ramp[..., -1] = 30_000 + ramp[..., -1] // 2
    picture = Picture(ramp[..., : 3 if layers > 2 else 1], ramp[..., -1] if layers in (2, 4) else None)
    small, shallow = picture.shrunk(20), picture.at_depth(8).shrunk(20)
    assert small.depth == 16 and small.pixels.shape == shallow.pixels.shape and (small.pixels % 257).any()
    assert np.abs(small.at_depth(8).pixels.astype(int) - shallow.pixels).max() <= 2  # with alpha rounded twice
    assert small.alpha is None or np.abs(small.at_depth(8).alpha.astype(int) - shallow.alpha).max() <= 1


def test_icons_are_the_whole_picture_or_refused() -> None:
    picture = prepare(synthetic_picture(100, 90))
    assert Image.open(io.BytesIO(picture_file(picture, "ICO"))).size == (100, 90)
    with pytest.raises(OptionError, match="at most 256"):
        picture_file(prepare(synthetic_picture(300, 90)), "ICO")
    with pytest.raises(OptionError, match="squares of"):
        picture_file(picture, "ICNS")
    gray = prepare(synthetic_picture(9, 8).convert("L"))
    assert Image.open(io.BytesIO(picture_file(gray, "QOI"))).mode == "RGB"


def test_colours_are_named_by_text() -> None:
    for colour in ((255, 255, 255), 7):
        with pytest.raises(OptionError, match="is no colour"):
            prepare(synthetic_picture(4, 4), Preparation(background=colour))  # type: ignore[arg-type]
