"""Pictures as people have them: every mode, depth, orientation and profile, metadata and alpha, good and broken."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import icc_profile, synthetic_picture
from numpy.typing import NDArray
from PIL import Image, ImageCms

from dcae.codec.codec import Codec
from dcae.codec.output import type_of
from dcae.codec.pictures import alpha, preparing, reading
from dcae.codec.pictures.heif import register_heif
from dcae.codec.pictures.picture import Metadata, Picture
from dcae.codec.pictures.preparation import Preparation
from dcae.codec.pictures.preparing import prepare
from dcae.codec.pictures.writing import picture_file
from dcae.errors import FileFormatError, OptionError, PictureError, PictureWarning
from dcae.models.modelfile import CodingModel


@pytest.fixture(scope="module")
def codec(tiny_model: CodingModel) -> Codec:
    return Codec(tiny_model)


@pytest.fixture(autouse=True)
def _no_silent_loss() -> Iterator[None]:
    """What is not kept is said, and nothing is said without need: warnings are errors unless they are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PictureWarning)
        yield


def _pixels(width: int = 9, height: int = 5, channels: int = 3, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png(depth: int, colour: int, rows: bytes, width: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of one filterless row, written by hand: Pillow writes no 16-bit colour and no broken chunks."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(b"\0" + rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


# -- modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_pictures_come_back_gray(codec: Codec, mode: str) -> None:
    image = synthetic_picture(40, 30).convert(mode)
    picture = prepare(image)
    np.testing.assert_array_equal(picture.pixels[..., 0], np.asarray(image.convert("L")))
    decoded = codec.decode(codec.encode(image, 8))
    assert (picture.mode, decoded.mode, decoded.size) == ("L", "L", (40, 30))


def test_gray_is_coded_as_the_same_picture_in_colour_is(codec: Codec) -> None:
    gray = synthetic_picture(40, 30).convert("L")
    data, colour = codec.encode(gray, 4), codec.encode(gray.convert("RGB"), 4)
    assert len(data) == len(colour)


def test_palettes_with_and_without_transparency() -> None:
    image = Image.fromarray(_pixels()).quantize(8)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(prepare(image).pixels, expected)
    chosen = int(np.asarray(image).flat[0])
    image.info["transparency"] = chosen
    picture = prepare(image)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == chosen)
    image.info["transparency"] = b"\xff" * 8
    assert prepare(image).alpha is None


def test_transparent_colour_of_a_png() -> None:
    """tRNS without an alpha channel: transparency counts only where the colour occurs."""
    for colour, transparent in (((1, 2, 3), True), ((1, 2, 4), False)):
        data = _file(Image.new("RGB", (3, 3), (1, 2, 3)), "PNG", transparency=colour)
        assert (prepare(data).alpha is not None) == transparent


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "RGBX"])
def test_other_colours_become_rgb(mode: str) -> None:
    source = Image.new("RGB", (3, 2), (200, 100, 50))
    image = source.convert(mode) if mode != "LAB" else Image.new("LAB", (3, 2), (255, 128, 128))
    got = prepare(image).pixels
    expected = (200, 100, 50) if mode != "LAB" else (255, 255, 255)
    assert np.abs(got.astype(int) - np.array(expected)).max() <= 3


def test_cmyk_by_a_named_default() -> None:
    with pytest.warns(PictureWarning, match="uncalibrated"):
        picture = prepare(Image.new("CMYK", (3, 2), (0, 255, 0, 51)))
    assert picture.pixels.tolist() == [[[204, 0, 204]] * 3] * 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_gray(kind: str) -> None:
    samples = _pixels(channels=1, dtype=np.uint16)[..., 0]
    picture = prepare(_file(Image.fromarray(samples), kind))
    assert (picture.depth, picture.mode) == (16, "L")
    np.testing.assert_array_equal(picture.pixels[..., 0], samples)


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_read_whole(colour: int, samples: int) -> None:
    data = _png(16, colour, bytes(range(2 * samples)), 1)
    expected = [256 * k + k + 1 for k in range(0, 2 * samples, 2)]
    for source in (data, io.BytesIO(data), Image.open(io.BytesIO(data))):
        picture = prepare(source)
        got = picture.pixels[0, 0].tolist() + ([] if picture.alpha is None else [int(picture.alpha[0, 0])])
        assert got == expected


def test_significant_bits_do_not_darken_a_picture() -> None:
    """A PNG that says that 12 of its 16 bits tell something is read as one that does not say it."""
    row = np.array([60_000, 1000, 65_535], ">u2").tobytes()
    assert prepare(_png(16, 2, row, 1, (b"sBIT", bytes([12, 12, 12])))).pixels.tolist() == [[[60_000, 1000, 65_535]]]


def test_deep_pictures_do_not_expand_to_more_than_they_are() -> None:
    bomb = _png(16, 2, bytes(64_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match="expands to more than its picture"):
            prepare(bomb)
        with pytest.raises(FileFormatError, match="expands to more than its picture"):
            alpha.unpacked(bomb, 1, 1, 3, 16, "it")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_samples_that_are_no_whole_numbers_are_refused() -> None:
    for image in (Image.new("F", (3, 2), 0.5), Image.fromarray(np.full((2, 3), 70_000, np.int32))):
        with pytest.raises(PictureError, match="scale them to 16 bits"):
            prepare(image)


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 3)), np.zeros((0, 3), np.uint8), np.zeros((2, 3, 5), np.uint8), np.zeros(7, np.uint8),
     np.zeros((2, 3), np.int8), np.zeros((2, 2, 2, 2), np.uint8), np.array("a picture")],
)  # fmt: skip
def test_arrays_that_are_no_pictures(codec: Codec, samples: NDArray[Any]) -> None:
    with pytest.raises(PictureError, match="samples must"):
        codec.encode(samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_are_pictures(codec: Codec, channels: int, dtype: Any) -> None:
    samples = _pixels(20, 10, channels, dtype)
    decoded = codec.decode_picture(codec.encode(samples, 8))
    assert decoded.pixels.shape == (10, 20, channels - (channels % 2 == 0))
    assert decoded.pixels.dtype == dtype
    assert (decoded.alpha is None) == (channels % 2 == 1)
    if channels % 2 == 0:
        np.testing.assert_array_equal(decoded.alpha, samples[..., -1])


# -- frames, orientation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_a_frame_of_several_is_chosen(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), (80 * k, 0, 0)) for k in range(3)]
    options = {"duration": 100} if kind != "TIFF" else {}
    data = _file(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with pytest.raises(PictureError, match=r"3 frames.*--frame 0\.\.2"):
        prepare(data)
    for wrong in (3, -1):
        with pytest.raises(PictureError, match="no frame"):
            prepare(data, Preparation(frame=wrong))
    for frame in range(3):
        assert abs(int(prepare(data, Preparation(frame=frame)).pixels[0, 0, 0]) - 80 * frame) <= 2


def test_mpo_is_its_first_frame() -> None:
    first, second = synthetic_picture(32, 24), Image.new("RGB", (8, 8))
    data = _file(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert prepare(data).pixels.shape == (24, 32, 3)


_TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}
"""EXIF orientation -> from stored to upright pixels."""


@pytest.mark.parametrize("orientation", _TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PNG16", "TIFF16"])
def test_exif_orientation_is_applied_and_reset(orientation: int, kind: str) -> None:
    stored = _pixels(dtype=np.uint16 if "16" in kind else np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    if kind == "TIFF16":
        import tifffile

        buffer = io.BytesIO()
        tags = [(0x0112, 3, 1, orientation, True), (0x010F, 2, 9, b"a camera\0", True)]
        tifffile.imwrite(buffer, stored, photometric="rgb", metadata=None, extratags=tags)
        data = buffer.getvalue()
    elif kind == "PNG16":
        data = picture_file(Picture(stored, metadata=Metadata(exif=exif.tobytes()[6:])), "PNG")
    else:
        data = _file(Image.fromarray(stored), kind, exif=exif)
    picture = prepare(data)
    np.testing.assert_array_equal(picture.pixels, _TURNS[orientation](stored))
    kept = Image.Exif()
    kept.load(picture.metadata.exif)
    assert kept[0x010F] == "a camera"
    assert kept.get(0x0112, 1) == 1


def test_damaged_and_hostile_exif() -> None:
    def bomb(order: str) -> bytes:
        start = {"<": b"II*\0", ">": b"MM\0*"}[order]
        return start + struct.pack(order + "IH", 8, 65535) + struct.pack(order + "HHII", 0x0112, 3, 1, 6)

    for exif in (b"garbage", b"", b"II*\0\xff\xff\xff\xff", bomb("<"), bomb(">"), b"II*\0" + bytes(100)):
        data = _png(8, 2, bytes([1, 2, 3]), 1, (b"eXIf", exif))
        picture = prepare(data)
        assert picture.pixels.reshape(-1).tolist() == [1, 2, 3]
        picture_file(picture, "JPEG")


# -- profiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "mode"), [(b"RGB ", "RGB"), (b"GRAY", "L")])
def test_profiles_are_kept_with_their_pixels_or_converted(codec: Codec, space: bytes, mode: str) -> None:
    image = Image.fromarray(_pixels()).convert(mode)
    profile = icc_profile(space, 1.0)
    data = _file(image, "PNG", icc_profile=profile)
    kept = prepare(data)
    np.testing.assert_array_equal(kept.image(), image)
    assert kept.metadata.icc == profile
    assert codec.decode(codec.encode(data)).info["icc_profile"] == profile
    linear = np.asarray(image.convert("RGB"), np.float64) / 255
    expected = 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    for how in (Preparation(to_srgb=True), Preparation(strip=True)):
        converted = prepare(data, how)
        assert (converted.mode, converted.metadata) == (mode, Metadata())
        assert np.abs(np.asarray(converted.image().convert("RGB")) - expected).max() < 2


def test_a_profile_that_is_srgb_by_content_is_dropped_whatever_its_name() -> None:
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = srgb.find("sRGB built-in".encode("utf-16-be"))
    assert at > 0
    srgb[at : at + 2 * 13] = "Camera 2 RGB ".encode("utf-16-be")
    image = synthetic_picture(8, 8)
    assert prepare(_file(image, "PNG", icc_profile=bytes(srgb))).metadata.icc == b""
    linear = icc_profile(b"RGB ", 1.0).replace(b"test\0", b"sRGB\0")
    assert prepare(_file(image, "PNG", icc_profile=linear)).metadata.icc == linear


def test_profiles_that_do_not_fit_or_are_damaged_are_dropped_and_said() -> None:
    image = Image.fromarray(_pixels())
    rgb = icc_profile(b"RGB ", 1.0)
    for profile in (rgb[:200], b"nonsense", rgb[:16] + b"CMYK" + rgb[20:]):
        with pytest.warns(PictureWarning, match="ICC profile is"):
            picture = prepare(_file(image, "PNG", icc_profile=profile))
        assert picture.metadata.icc == b""
        np.testing.assert_array_equal(picture.pixels, _pixels())
    # Gray samples of a profile for colour are colours.
    picture = prepare(_file(image.convert("L"), "TIFF", icc_profile=rgb))
    assert (picture.mode, picture.metadata.icc) == ("RGB", rgb)


# -- metadata -------------------------------------------------------------------------------------------------


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" photoshop:City="Graz"/></x:xmpmeta>'


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0132], exif[0x0112] = "2024:05:06 07:08:09", 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 4.0, 14.5), 3: "E", 4: (15.0, 26.0, 20.0)})
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_date_place_profile_and_xmp_survive(codec: Codec, kind: str, mode: str) -> None:
    register_heif()
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    if (kind, mode) in (("WEBP", "L"), ("AVIF", "L"), ("HEIF", "L")):
        pytest.skip("has no gray")
    image, profile = synthetic_picture(40, 24).convert(mode), icc_profile(b"RGB " if mode == "RGB" else b"GRAY", 1.8)
    xmp: dict[str, Any] = {"xmp": _XMP} if kind not in ("PNG", "TIFF") else {}
    exif = _exif()
    if kind == "TIFF":  # Pillow writes directories within EXIF only of what it has read
        exif = Image.Exif()
        exif.load(_exif().tobytes())
        exif[700] = _XMP
    source = _file(image, kind, exif=exif, icc_profile=profile, **xmp)
    data = codec.encode(source)
    written = Image.open(io.BytesIO(picture_file(codec.decode_picture(data), kind)))
    exif = written.getexif()
    assert written.size == (24, 40)
    assert (exif[0x0132], exif.get(0x0112, 1)) == ("2024:05:06 07:08:09", 1)
    assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
    assert [float(v) for v in exif.get_ifd(0x8825)[2]] == [47.0, 4.0, 14.5]
    assert written.info["icc_profile"] == profile
    if kind != "PNG":
        found = written.info.get("xmp") or written.tag_v2[700]  # type: ignore[attr-defined]
        assert b"Graz" in found and b"Orientation" not in found
    stripped = prepare(source, Preparation(strip=True))
    assert stripped.metadata == Metadata()


def test_xmp_of_a_png_survives(codec: Codec) -> None:
    picture = Picture(_pixels(), metadata=Metadata(xmp=_XMP))
    again = prepare(picture_file(picture, "PNG"))
    assert b"Graz" in again.metadata.xmp and b"Orientation" not in again.metadata.xmp
    assert codec.decode_picture(codec.encode(again)).metadata == again.metadata


def test_what_a_kind_of_file_cannot_hold_is_said() -> None:
    picture = Picture(
        _pixels(), metadata=Metadata(prepare(_file(synthetic_picture(8, 8), "PNG", exif=_exif())).metadata.exif)
    )
    with pytest.warns(PictureWarning, match="BMP cannot hold the picture's EXIF"):
        picture_file(picture, "BMP")
    with pytest.warns(PictureWarning, match="JPEG cannot hold the picture's XMP"):
        picture_file(Picture(_pixels(), metadata=Metadata(xmp=b" " * 70_000)), "JPEG")
    with pytest.warns(PictureWarning, match="8 bits of 16"):
        picture_file(Picture(_pixels(dtype=np.uint16)), "JPEG")
    clear = Picture(_pixels(), np.zeros((5, 9), np.uint8))
    with pytest.raises(OptionError, match="transparency"):
        picture_file(clear, "JPEG")
    with pytest.raises(OptionError, match="16 bits"):
        picture_file(picture, "JPEG", depth=16)


def test_metadata_that_is_too_long_is_dropped_and_said(codec: Codec) -> None:
    data = _file(synthetic_picture(8, 8), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(preparing.MAX_OPTIONAL))
    with pytest.warns(PictureWarning, match="EXIF of .* is not kept"):
        picture = prepare(data)
    assert picture.metadata.exif == b""


# -- alpha ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_comes_back_bit_by_bit(codec: Codec, mode: str, kind: str) -> None:
    image = synthetic_picture(50, 40).convert(mode)
    plane = np.random.default_rng(1).integers(0, 256, (40, 50), np.uint8)
    image.putalpha(Image.fromarray(plane))
    decoded = codec.decode(codec.encode(image))
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded)[..., -1], plane)
    written = Image.open(io.BytesIO(picture_file(codec.decode_picture(codec.encode(image)), kind, quality=100)))
    np.testing.assert_array_equal(np.asarray(written.convert("RGBA"))[..., -1], plane)


def test_opaque_alpha_costs_nothing(codec: Codec) -> None:
    image = synthetic_picture(50, 40)
    assert codec.encode(image.convert("RGBA")) == codec.encode(image)


def test_colours_that_nobody_sees_cost_nothing(codec: Codec) -> None:
    image = synthetic_picture(128, 128)
    clear = np.zeros((128, 128), np.uint8)
    clear[:, :64] = 255
    noisy = np.array(image)
    noisy[:, 64:] = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    smooth, hidden = Image.fromarray(noisy), prepare(np.dstack([noisy, clear]))
    assert len(codec.encode(np.dstack([noisy, clear]))) < 0.7 * len(codec.encode(smooth))
    np.testing.assert_array_equal(hidden.pixels[:, :64], noisy[:, :64])
    assert hidden.pixels[:, 64:].std((0, 1)).max() < 40
    everything = prepare(np.dstack([noisy, np.zeros_like(clear)]))
    assert everything.pixels.std() == 0


def test_flattening() -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 0, 128))
    image.putpixel((0, 0), (9, 9, 9, 0))
    picture = prepare(image, Preparation(background="#0000ff"))
    assert picture.alpha is None
    assert picture.pixels[0].tolist() == [[0, 0, 255], [100, 50, 127]]
    gray = prepare(Image.new("LA", (1, 1), (10, 0)), Preparation(background="white"))
    assert (gray.mode, gray.pixels.item()) == ("L", 255)
    coloured = prepare(Image.new("LA", (1, 1), (10, 0)), Preparation(background="red"))
    assert coloured.pixels.reshape(-1).tolist() == [255, 0, 0]
    with pytest.raises(OptionError, match="no colour"):
        prepare(image, Preparation(background="blurple"))


def test_settings_of_another_type_are_refused() -> None:
    image: Any = Image.new("RGB", (2, 1))
    wrong: list[dict[str, Any]] = [{"background": 3}, {"background": b"red"}, {"frame": "1"}, {"frame": True}]
    for settings in wrong:
        with pytest.raises(OptionError, match=r"is no colour|is a whole number"):
            prepare(image, Preparation(**settings))


def test_a_background_changes_nothing_of_an_opaque_picture() -> None:
    for mode in ("L", "LA"):
        picture = prepare(Image.new(mode, (2, 1), 7 if mode == "L" else (7, 255)), Preparation(background="red"))
        assert (picture.mode, picture.pixels.reshape(-1).tolist()) == ("L", [7, 7])


def test_a_gray_picture_that_becomes_coloured_loses_its_gray_profile() -> None:
    image = Image.new("LA", (1, 1), (64, 255))
    image.putalpha(Image.new("L", (1, 1), 254))
    image.info["icc_profile"] = icc_profile(b"GRAY", 1.0)
    assert prepare(image, Preparation(background="white")).metadata.icc
    picture = prepare(image, Preparation(background="red"))
    assert (picture.mode, picture.metadata.icc) == ("RGB", b"")
    assert picture.pixels[0, 0, 1] > 120  # linear 64 is much lighter in sRGB


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (6, 5), (64, 64)])
def test_filling_keeps_what_is_seen(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    values, seen = rng.normal(size=(*shape, 3)).astype(np.float32), rng.random(shape) < 0.2
    filled = alpha._filled(values, seen)
    np.testing.assert_array_equal(filled[seen], values[seen])
    if seen.any():
        assert filled.min() >= values[seen].min() - 1e-5
        assert filled.max() <= values[seen].max() + 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_filling_takes_no_more_memory_than_is_promised_for_coding(dtype: Any) -> None:
    """40 bytes a pixel in all, of which the picture itself has up to 8."""
    picture = Picture(np.full((400, 500, 3), 200, dtype), np.zeros((400, 500), dtype))
    assert picture.alpha is not None
    picture.alpha[100:300, 100:300] = 255
    tracemalloc.start()
    try:
        filled = alpha.smoothed(picture)
        assert tracemalloc.get_traced_memory()[1] < 24 * 400 * 500
    finally:
        tracemalloc.stop()
    assert (filled.pixels == 200).all() and filled.pixels.dtype == dtype


def test_lossless_sections_do_not_depend_on_the_limit_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that was allowed to be written is read."""
    samples, deep = _pixels(90, 50), _pixels(90, 50, 1, np.uint16)
    files = alpha.packed(samples[..., :1]), alpha.packed(deep)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 50 - 1)  # of which Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(alpha.unpacked(files[0], 90, 50, 1, 8, "it"), samples[..., :1])
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # which Pillow refuses
        np.testing.assert_array_equal(alpha.unpacked(files[1], 90, 50, 1, 16, "it"), deep)


def test_lossless_sections_of_another_size_or_kind_are_refused() -> None:
    samples = _pixels(channels=1)
    good = alpha.packed(samples)
    np.testing.assert_array_equal(alpha.unpacked(good, 9, 5, 1, 8, "it"), samples)
    bomb = _file(Image.new("1", (20_000, 8_000)), "PNG")
    animated = _file(Image.new("RGB", (9, 5)), "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 5), "red")])
    for data in (
        b"",
        good[:-20],
        bomb,
        animated,
        _file(Image.new("RGB", (9, 5)), "BMP"),
        _file(Image.new("LA", (9, 5)), "PNG"),
    ):
        with pytest.raises(FileFormatError, match=r"^it "):
            alpha.unpacked(data, 9, 5, 1, 8, "it")


# -- depth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_gradients_are_better_than_eight_bit_ones(codec: Codec, channels: int) -> None:
    """From its own precision a gradient comes back finer than in steps of 257, in more levels than 8 bits have."""
    ramp = np.linspace(20_000, 24_000, 128).round().astype(np.uint16)
    samples = np.broadcast_to(ramp[None, :, None], (128, 128, channels)).copy()
    decoded = codec.decode_picture(codec.encode(samples, 8))
    assert decoded.depth == 16
    assert len(np.unique(decoded.pixels)) > 2 * len(np.unique(decoded.at_depth(8).pixels))
    for kind in ("PNG", "TIFF"):
        again = prepare(picture_file(decoded, kind))
        np.testing.assert_array_equal(again.pixels, decoded.pixels)
        assert prepare(picture_file(decoded, kind, depth=8)).depth == 8


@pytest.mark.parametrize(("kind", "channels"), [("PNG", 2), ("PNG", 4), ("TIFF", 4)])
def test_sixteen_bit_alpha_in_files(codec: Codec, kind: str, channels: int) -> None:
    samples = _pixels(20, 12, channels, np.uint16)
    decoded = codec.decode_picture(codec.encode(samples))
    again = prepare(picture_file(decoded, kind))
    np.testing.assert_array_equal(again.alpha, samples[..., -1])
    np.testing.assert_array_equal(again.pixels, decoded.pixels)


def test_metadata_of_sixteen_bit_colour() -> None:
    picture = Picture(
        _pixels(dtype=np.uint16), metadata=Metadata(_exif().tobytes()[6:], _XMP, icc_profile(b"RGB ", 1.0))
    )
    again = prepare(picture_file(picture, "PNG"))
    assert again.metadata.icc == picture.metadata.icc
    assert b"2024:05:06" in again.metadata.exif and b"Graz" in again.metadata.xmp
    with pytest.warns(PictureWarning, match="EXIF"):
        data = picture_file(picture, "TIFF")
    assert prepare(data).metadata.icc == picture.metadata.icc


# -- pictures that are better kept as they are ----------------------------------------------------------------


def test_a_drawing_is_stored_without_loss_where_that_is_smaller(codec: Codec) -> None:
    drawing = np.zeros((96, 128, 3), np.uint8)
    drawing[20:60, 30:90] = (255, 0, 0)
    drawing[::7, ::5] = (0, 255, 0)
    for samples in (drawing, drawing[..., :1], drawing.astype(np.uint16) * 257):
        coded, data = codec.encode(samples, 8), codec.encode(samples, 8, fallback=True)
        assert len(data) < len(coded)
        decoded = codec.decode_picture(data)
        np.testing.assert_array_equal(decoded.pixels, samples)
        with pytest.raises(FileFormatError, match="no latents"):
            codec.decode_latents(data)
    assert codec.encode(synthetic_picture(96, 128), 1, fallback=True) == codec.encode(synthetic_picture(96, 128), 1)


def test_a_picture_on_which_the_model_does_badly_is_said(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (64, 64, 3))
    # A tiny untrained model has no idea; what it writes is small, and far off.
    monkeypatch.setattr("dcae.codec.stored.packed", lambda pixels, effort=4: bytes(20_000))
    with pytest.warns(PictureWarning, match="does badly on this picture: .* dB in .* bytes"):
        codec.encode(samples, 8, fallback=True)


# -- files that are refused -----------------------------------------------------------------------------------


def test_unreadable_pictures(codec: Codec, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    synthetic_picture(60, 60).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:900])
    for source, message in (
        (tmp_path / "missing.png", "no such file"),
        (tmp_path / "cut.png", "unreadable"),
        (tmp_path, "unreadable"),
        (b"nonsense", "not a picture"),
        (b"", "not a picture"),
    ):
        with pytest.raises(PictureError, match=message):
            codec.encode(source)


def test_sources_of_every_type(codec: Codec, tmp_path: Path) -> None:
    picture, path = synthetic_picture(20, 10), tmp_path / "a.png"
    picture.save(path)
    expected = codec.encode(picture)
    for source in (path, str(path), path.read_bytes()):
        assert codec.encode(source) == expected


def test_pictures_that_are_truncated_or_closed(tiny_model: CodingModel, tmp_path: Path) -> None:
    codec = Codec(tiny_model)
    for kind in ("png", "jpeg", "bmp"):
        path = tmp_path / f"a.{kind}"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with Image.open(path) as picture, pytest.raises(PictureError, match="unreadable"):
            codec.encode(picture)
        with Image.open(path) as picture:
            pass
        with pytest.raises(PictureError, match="unreadable"):
            codec.encode(picture)
    picture = Image.new("RGB", (8, 8))
    picture.close()
    with pytest.raises(PictureError, match="unreadable"):
        codec.encode(picture)


def test_heic_without_its_library_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(PictureError, match="pip install pillow-heif"):
        prepare(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


def test_heic_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under each of its names, with alpha and the quality that is asked for."""
    pytest.importorskip("pillow_heif")
    rgba = Picture(_pixels(64, 48), _pixels(64, 48, 1)[..., 0])
    sizes = {}
    for name in ("a.heic", "a.HEIF", "a.hif"):
        kind = type_of(name)
        for quality in (10, 95):
            file = picture_file(rgba, kind, quality=quality)
            sizes[quality] = len(file)
            with Image.open(io.BytesIO(file)) as image:
                assert (image.format, image.mode, image.size) == ("HEIF", "RGBA", (64, 48))
    assert sizes[10] < sizes[95]
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(OptionError, match=r"^a.heic: HEIC pictures need another library; pip install pillow-heif$"):
        type_of("a.heic")


def test_sentences_name_the_file(tmp_path: Any) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(_png(16, 2, b"\1\2", 1))
    with pytest.raises(PictureError, match=r"odd\.png: "):
        reading.open_picture(path)
