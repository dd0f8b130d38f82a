"""Every kind of picture that people have: what docs/pictures.md says becomes of it is what does."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import icc_profile, synthetic_picture
from PIL import Image, ImageCms
from test_pictures import _exif, _file

from dcae.codec.pictures.heif import register_heif
from dcae.codec.pictures.picture import Metadata, Picture
from dcae.codec.pictures.preparing import MAX_OPTIONAL, prepare
from dcae.codec.pictures.writing import picture_file
from dcae.errors import DCAEError, PictureWarning

DOCUMENT = Path(__file__).parents[1] / "docs/pictures.md"
RGB, GRAY = synthetic_picture(20, 14), synthetic_picture(20, 14).convert("L")
PLANE = Image.linear_gradient("L").resize(RGB.size)
DEEP = np.random.default_rng(1).integers(0, 65536, (14, 20, 4), np.uint16)


def _with(image: Image.Image, alpha: Image.Image = PLANE) -> Image.Image:
    image = image.copy()
    image.putalpha(alpha)
    return image


def _frames(kind: str) -> bytes:
    others = [Image.new("RGB", RGB.size, colour) for colour in ("red", "blue")]
    return _file(RGB, kind, save_all=True, append_images=others)


def _deep(channels: int, kind: str) -> bytes:
    alpha = DEEP[..., 3] if channels in (2, 4) else None
    return picture_file(Picture(DEEP[..., : channels - (alpha is not None)], alpha), kind)


def _ppm16() -> bytes:
    return b"P6 20 14 65535\n" + DEEP[..., :3].astype(">u2").tobytes()


def _tiff12(levels: np.ndarray) -> bytes:
    """A gray TIFF file of 12 bits, two samples (H, an even W) in three bytes; nothing here writes such."""
    height, width = levels.shape
    first, second = levels[:, ::2].astype(int), levels[:, 1::2].astype(int)
    packed = np.stack((first >> 4, (first & 15) << 4 | second >> 8, second & 255), -1).astype(np.uint8).tobytes()
    tags = ((256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, height),
            (279, len(packed)))  # fmt: skip
    return b"".join((
        b"II*\0", struct.pack("<IH", 8, len(tags)), *(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags),
        bytes(4), packed))  # fmt: skip


@functools.cache
def _cmyk_profile() -> bytes:
    """A CMYK profile, if this machine has one; there is none that could be made here."""
    for folder in ("/usr/share/color/icc", "/usr/share/ghostscript", "/Library/ColorSync/Profiles"):
        for path in Path(folder).rglob("*.icc") if Path(folder).is_dir() else ():
            if path.read_bytes()[16:20] == b"CMYK":
                return path.read_bytes()
    return b""


def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _is(mode: str, depth: int = 8, alpha: bool = False, **metadata: bool) -> Callable[[Picture], None]:
    def check(picture: Picture) -> None:
        assert (picture.mode, picture.depth, picture.alpha is not None) == (mode, depth, alpha)
        assert (picture.height, picture.width) == (14, 20)
        for name in ("exif", "xmp", "icc"):
            assert bool(getattr(picture.metadata, name)) == metadata.get(name, False)

    return check


COLOUR, GRAYS = _is("RGB"), _is("L")
KINDS: dict[str, tuple[list[Callable[[], Any]], Callable[[Picture], None] | str]] = {
    "RGB, 8 bits": (
        [lambda k=k: _file(RGB, k) for k in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "TGA", "GIF")], COLOUR),
    "gray, 8 bits": ([lambda k=k: _file(GRAY, k) for k in ("PNG", "JPEG", "TIFF", "BMP", "PPM", "TGA")], GRAYS),
    "bilevel": ([lambda k=k: _file(RGB.convert("1"), k) for k in ("PNG", "TIFF", "BMP")], GRAYS),
    "palette |": ([lambda k=k: _file(RGB.quantize(16), k) for k in ("PNG", "BMP", "TIFF")], COLOUR),
    "palette with transparency": (
        [lambda: _file(RGB.quantize(16), "PNG", transparency=int(np.asarray(RGB.quantize(16)).flat[0])),
         lambda: _file(_with(RGB), "PNG"), lambda: _file(_with(RGB), "TIFF"), lambda: _file(_with(RGB), "WEBP"),
         lambda: _with(RGB).convert("RGBa")], _is("RGB", alpha=True)),
    "gray with alpha": (
        [lambda: _file(_with(GRAY), "PNG"), lambda: _file(_with(GRAY), "TIFF")], _is("L", alpha=True)),
    "alpha that is opaque": ([lambda: _file(RGB.convert("RGBA"), "PNG")], COLOUR),
    "gray, 16 bits": (
        [lambda k=k: _file(Image.fromarray(DEEP[..., 0]), k) for k in ("PNG", "TIFF", "PPM")], _is("L", 16)),
    "gray, 12 bits": ([lambda: _tiff12(DEEP[..., 0] >> 4)], _is("L", 16)),
    "RGB, 16 bits (PNG": ([lambda k=k: _deep(3, k) for k in ("PNG", "TIFF")], _is("RGB", 16)),
    "RGBA, 16 bits": ([lambda k=k: _deep(4, k) for k in ("PNG", "TIFF")], _is("RGB", 16, alpha=True)),
    "RGB, 16 bits (PPM": ([_ppm16], COLOUR),
    "CMYK with a profile": ([lambda: _file(RGB.convert("CMYK"), "JPEG", icc_profile=_cmyk_profile())], COLOUR),
    "CMYK without": ([lambda: _file(RGB.convert("CMYK"), "JPEG"), lambda: _file(RGB.convert("CMYK"), "TIFF")], COLOUR),
    "YCbCr": ([lambda m=m: RGB.convert(m) for m in ("YCbCr", "HSV")] + [lambda: Image.new("LAB", RGB.size)], COLOUR),
    "fractions": ([lambda: _file(Image.new("F", (3, 2), 0.5), "TIFF")], "scale them"),
    "numbers above": ([lambda: _file(Image.fromarray(np.full((2, 3), 70_000, np.int32)), "TIFF")], "scale them"),
    "ICC profile of colours": (
        [lambda k=k: _file(RGB, k, icc_profile=icc_profile(b"RGB ", 1.0)) for k in ("PNG", "JPEG", "WEBP", "TIFF")],
        _is("RGB", icc=True)),
    "ICC profile that is sRGB": ([lambda k=k: _file(RGB, k, icc_profile=_srgb()) for k in ("PNG", "JPEG")], COLOUR),
    "ICC profile that is damaged": ([lambda: _file(RGB, "PNG", icc_profile=b"no"), lambda: _file(
        RGB, "JPEG", icc_profile=icc_profile(b"RGB ", 1.0)[:150])], COLOUR),
    "EXIF, XMP |": ([lambda: picture_file(Picture(np.asarray(RGB), metadata=Metadata(
        _exif().tobytes()[6:], b"<x/>")), "PNG")], None),  # type: ignore[dict-item]  # upright, so sides change
    "EXIF orientation": ([lambda n=n: _file(RGB, "JPEG", exif=_turn(n)) for n in (2, 3, 4)], _is("RGB", exif=True)),
    "EXIF that is damaged": ([lambda: _file(RGB, "PNG", exif=b"Exif\0\0garbage")], COLOUR),
    "EXIF, XMP or profile": ([lambda: _file(
        RGB, "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(MAX_OPTIONAL))], COLOUR),
    "animation": ([lambda k=k: _frames(k) for k in ("GIF", "WEBP", "PNG", "TIFF")], "choose it with --frame"),
    "MPO": ([lambda: _frames("MPO")], COLOUR),
    "truncated": (
        [lambda k=k: _file(RGB, k)[:-150] for k in ("PNG", "JPEG", "WEBP", "TIFF", "BMP")], "unreadable|not a"),
    "PostScript": ([lambda: _file(RGB, "EPS")], "have to be run"),
    "HEIC with pillow": ([lambda: picture_file(Picture(np.asarray(RGB)), "HEIF")], COLOUR),
    "HEIC without": ([lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)], "pillow-heif"),
    "SVG": ([lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", lambda: b"Dear all,", lambda: b""], "not a picture"),
    "array of uint8": ([lambda: np.asarray(RGB), lambda: np.asarray(RGB)], COLOUR),
    "array of another": ([lambda: np.zeros((2, 3)), lambda: np.zeros((2, 3, 7), np.uint8)], "samples must"),
}  # fmt: skip
"""Beginning of a row's first cell -> files of that kind, and the picture that they become, or the refusal."""


def _turn(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _rows() -> dict[str, str]:
    table = DOCUMENT.read_text(encoding="utf-8").split("<!-- test: kinds -->")[1].strip().split("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {f"{first} |": second for first, second in cells}


def test_every_row_of_the_table_is_tried() -> None:
    rows = list(_rows())
    assert [sum(row.startswith(start) for start in KINDS) for row in rows] == [1] * len(rows)
    assert len(rows) == len(KINDS)


@pytest.mark.parametrize("start", KINDS)
def test_kind(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, expected = KINDS[start]
    said = next(second for first, second in _rows().items() if first.startswith(start))
    if start == "CMYK with a profile" and not _cmyk_profile():
        pytest.skip("no CMYK profile on this machine")
    if start == "HEIC with pillow" and not register_heif():
        pytest.skip("pillow-heif is not installed")
    if start == "HEIC without":
        monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    for make in files:
        source = make()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if isinstance(expected, str):
                assert said.startswith("refused")
                with pytest.raises(DCAEError, match=expected):
                    prepare(source)
                continue
            picture = prepare(source)
        assert any(issubclass(w.category, PictureWarning) for w in caught) == ("with a warning" in said)
        if expected is not None:
            expected(picture)
        else:
            assert picture.metadata.exif and picture.metadata.xmp


def test_openings_of_files_that_pillow_knows_and_we_do_not() -> None:
    """Whatever else Pillow writes of a small picture is read back, or refused in our own words."""
    Image.init()
    tried = 0
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN)):
        file = io.BytesIO()
        try:
            RGB.save(file, kind)
        except Exception:  # not in this build, or not of this mode
            continue
        tried += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(DCAEError):
                assert prepare(file.getvalue()).pixels.size
    assert tried > 10


def test_white_of_12_bits_is_white() -> None:
    levels = np.linspace(0, 4095, 14 * 20).reshape(14, 20).astype(np.uint16)
    pixels = prepare(_tiff12(levels)).pixels[..., 0]
    assert (pixels[0, 0], pixels[-1, -1]) == (0, 65535)
    assert np.array_equal(pixels, np.rint(levels * (65535 / 4095)))
