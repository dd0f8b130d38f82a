"""Pictures as they come: modes, transparency, orientation, profiles, and files that are damaged."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_picture
from numpy.typing import NDArray
from PIL import Image, ImageCms

from dcae.codec.codec import Codec
from dcae.codec.picture import open_picture, to_pixels
from dcae.errors import PictureError
from dcae.eval.metrics import psnr
from dcae.models.modelfile import CodingModel


@pytest.fixture(scope="module")
def codec(tiny_model: CodingModel) -> Codec:
    return Codec(tiny_model)


def _pixels(width: int = 9, height: int = 5, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_pictures_come_back_gray(codec: Codec, mode: str) -> None:
    picture = synthetic_picture(40, 30).convert(mode)
    pixels, kind = to_pixels(picture)
    assert kind == "L"
    np.testing.assert_array_equal(pixels, np.asarray(picture.convert("L"))[..., None].repeat(3, 2))
    decoded = codec.decode(codec.encode(picture, 8))
    assert (decoded.mode, decoded.size) == ("L", (40, 30))
    if mode == "L":
        assert psnr(*(np.asarray(p.convert("RGB")) for p in (decoded, picture))) > 18


def test_palette() -> None:
    picture = Image.fromarray(_pixels()).quantize(8)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(to_pixels(picture)[0], expected)
    picture.info["transparency"] = int(np.asarray(picture).flat[0])
    with pytest.raises(PictureError, match="transparent"):
        to_pixels(picture)
    picture.info["transparency"] = b"\xff" * 8
    np.testing.assert_array_equal(to_pixels(picture)[0], expected)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "RGB"), ("LA", "L")])
def test_alpha_is_accepted_when_opaque(mode: str, kind: str) -> None:
    colour = Image.fromarray(_pixels()).convert(kind)
    picture = colour.convert(mode)
    pixels, found = to_pixels(picture)
    assert found == kind
    np.testing.assert_array_equal(pixels, np.asarray(colour.convert("RGB")))
    alpha = Image.new("L", picture.size, 255)
    alpha.putpixel((4, 2), 254)
    picture.putalpha(alpha)
    with pytest.raises(PictureError, match="transparent"):
        to_pixels(picture)


def test_transparent_colour_of_a_png() -> None:
    """tRNS without an alpha channel: transparency counts only where the colour occurs."""
    for colour, transparent in (((1, 2, 3), True), ((1, 2, 4), False)):
        buffer = io.BytesIO()
        Image.new("RGB", (3, 3), (1, 2, 3)).save(buffer, "PNG", transparency=colour)
        picture = open_picture(buffer.getvalue())
        if transparent:
            with pytest.raises(PictureError, match="transparent"):
                to_pixels(picture)
        else:
            assert to_pixels(picture)[0].tolist() == [[[1, 2, 3]] * 3] * 3


@pytest.mark.parametrize(
    ("mode", "message"),
    [("CMYK", "mode CMYK"), ("I;16", "8 bits"), ("I", "8 bits"), ("F", "8 bits"), ("LAB", "LAB"), ("YCbCr", "YCbCr")],
)
def test_modes_that_are_not_coded(codec: Codec, mode: str, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        codec.encode(Image.new(mode, (3, 2)), 4)


def test_animations_are_not_coded(codec: Codec) -> None:
    frames = [Image.new("RGB", (4, 4), (80 * k, 0, 0)) for k in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(PictureError, match="3 frames"):
        codec.encode(buffer.getvalue())
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF")
    assert codec.decode(codec.encode(buffer.getvalue())).size == (4, 4)


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
def test_exif_orientation_is_applied(codec: Codec, orientation: int) -> None:
    stored = _pixels()
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    upright = _TURNS[orientation](stored)
    np.testing.assert_array_equal(to_pixels(open_picture(buffer.getvalue()))[0], upright)
    assert codec.decode(codec.encode(buffer.getvalue(), 2)).size == (upright.shape[1], upright.shape[0])


def _icc_profile(space: bytes, gamma: float) -> bytes:
    """An ICC profile, version 2: sRGB's primaries ("RGB ") or none ("GRAY"), and a power law."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    white = xyz(0.9642, 1.0, 0.8249)
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79), b"wtpt": white}
    if space == b"RGB ":
        primaries = {b"r": (0.4361, 0.2225, 0.0139), b"g": (0.3851, 0.7169, 0.0971), b"b": (0.1431, 0.0606, 0.7141)}
        for letter, values in primaries.items():
            tags |= {letter + b"XYZ": xyz(*values), letter + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (header + white[8:]).ljust(128, b"\0") + table + body


@pytest.mark.parametrize(("space", "mode"), [(b"RGB ", "RGB"), (b"GRAY", "L")])
def test_icc_profile_is_converted_to_srgb(space: bytes, mode: str) -> None:
    picture = Image.fromarray(_pixels()).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", icc_profile=_icc_profile(space, 1.0))
    pixels, kind = to_pixels(open_picture(buffer.getvalue()))
    linear = np.asarray(picture.convert("RGB"), np.float64) / 255
    expected = 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert kind == mode
    assert np.abs(pixels - expected).max() < 2
    assert np.abs(pixels.astype(int) - np.asarray(picture.convert("RGB"))).max() > 50


def test_profiles_that_do_not_fit_or_are_damaged() -> None:
    picture = Image.fromarray(_pixels())
    picture.info["icc_profile"] = _icc_profile(b"GRAY", 1.0)  # of another kind of picture: left alone
    np.testing.assert_array_equal(to_pixels(picture)[0], _pixels())
    picture.info["icc_profile"] = _icc_profile(b"RGB ", 1.0)[:200]
    with pytest.raises(PictureError, match="ICC profile"):
        to_pixels(picture)


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


def test_mpo_is_its_first_frame() -> None:
    first, second = synthetic_picture(32, 24), Image.new("RGB", (8, 8))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second], quality=95)
    opened = open_picture(file.getvalue())
    assert opened.format == "MPO"
    assert opened.n_frames == 2  # type: ignore[attr-defined]
    assert to_pixels(opened)[0].shape == (24, 32, 3)


def _png(depth: int, colour: int, rows: bytes, width: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of one filterless row, written by hand, since Pillow writes no 16-bit colour."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(b"\0" + rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("colour", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_per_channel_are_refused_not_truncated(colour: int, samples: int) -> None:
    data = _png(16, colour, b"\x80\xff" * samples, 1)
    with pytest.raises(PictureError, match="16 bits"):
        open_picture(data)
    with pytest.raises(PictureError, match="16 bits"):
        to_pixels(Image.open(io.BytesIO(data)))


def test_damaged_exif_is_ignored() -> None:
    data = _png(8, 2, bytes([1, 2, 3]), 1, (b"eXIf", b"garbage"))
    assert to_pixels(open_picture(data))[0].tolist() == [[[1, 2, 3]]]


def test_linear_profile_whose_name_contains_srgb_is_converted() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    name = "sRGB built-in"
    at = profile.find(name.encode("utf-16-be"))
    assert at > 0
    profile[at : at + 2 * len(name)] = "sRGB-elle-g10".encode("utf-16-be")
    renamed = ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile)))
    assert "sRGB" in ImageCms.getProfileDescription(renamed)
    calls = []
    original = ImageCms.profileToProfile
    image = synthetic_picture(8, 8)
    image.info["icc_profile"] = bytes(profile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageCms, "profileToProfile", lambda *a, **k: calls.append(1) or original(*a, **k))
        to_pixels(image)
    assert calls == [1]


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
