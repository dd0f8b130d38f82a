"""Pillow's plugin, tested as Pillow tests its own."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import icc_profile, synthetic_picture
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

import dcae
from dcae.codec.codec import Codec
from dcae.codec.container import SIGNATURE
from dcae.errors import DCAEError, OptionError
from dcae.models.modelfile import CodingModel

PICTURE = synthetic_picture(70, 50)


@pytest.fixture(autouse=True)
def plugin(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin registered, for these tests alone, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    dcae.register_pillow()
    yield
    Image.ID.remove("DCAE")
    for registry in (Image.OPEN, Image.SAVE, Image.MIME):
        del registry["DCAE"]  # type: ignore[attr-defined]
    del Image.EXTENSION[".dcae"]


@pytest.fixture
def data(tiny_model: CodingModel) -> bytes:
    """A file; also lies as a.dcae."""
    data = Codec(tiny_model).encode(PICTURE, 3)
    Path("a.dcae").write_bytes(data)
    return data


@pytest.fixture
def pixels(tiny_model: CodingModel, data: bytes) -> bytes:
    """What it decodes to."""
    return Codec(tiny_model).decode(data).tobytes()


def test_open(data: bytes, pixels: bytes) -> None:
    with Image.open("a.dcae") as image:
        assert (image.format, image.mode, image.size) == ("DCAE", "RGB", (70, 50))
        assert image.get_format_mimetype() == "image/x-dcae"
        assert image.load() is not None
        assert image.tobytes() == pixels
    assert Image.open(io.BytesIO(data)).tobytes() == pixels


def test_gray(tiny_model: CodingModel) -> None:
    image = Image.open(io.BytesIO(Codec(tiny_model).encode(PICTURE.convert("L"))))
    assert image.mode == "L"
    assert image.convert("RGB").size == (70, 50)


def test_opening_decodes_nothing(data: bytes, tmp_path: Path) -> None:
    """Nor does it import what decodes."""
    code = """
import sys
from PIL import Image
import dcae.pillow
image = Image.open("a.dcae")
print(image.size, image.mode, image.format)
image.verify()
print([name for name in ("torch", "onnxruntime", "onnx", "constriction", "dcae.codec.codec") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["(70, 50) RGB DCAE", "[]"], done.stderr


@pytest.mark.parametrize("length", [16, 20, 40, -1])
def test_truncated(data: bytes, length: int) -> None:
    short = io.BytesIO(data[:length])
    if 0 < length < 40:
        with pytest.raises(OSError, match=r"the file: .*truncated") as caught:
            Image.open(short)
        assert isinstance(caught.value, DCAEError)
        return
    image = Image.open(short)
    assert image.size == (70, 50)
    for _ in range(2):
        with pytest.raises(OSError, match="truncated") as caught:
            image.load()
        assert isinstance(caught.value, DCAEError)


@pytest.mark.parametrize("content", [b"", b"no picture", SIGNATURE, SIGNATURE + b"\x01", SIGNATURE + bytes(100)])
def test_what_is_none(content: bytes) -> None:
    ours = content.startswith(SIGNATURE)
    with pytest.raises(DCAEError if ours else UnidentifiedImageError):
        Image.open(io.BytesIO(content))


def test_a_damaged_file_says_so_when_it_is_opened(tiny_model: CodingModel) -> None:
    picture = synthetic_picture(70, 50)
    picture.putalpha(Image.linear_gradient("L").resize((70, 50)))
    data = Codec(tiny_model).encode(picture)
    Path("b.dcae").write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    with pytest.raises(OSError, match=r"b.dcae: section .* fails its CRC-32") as caught:
        Image.open("b.dcae")
    assert isinstance(caught.value, DCAEError)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_parser_collects_the_file(tiny_model: CodingModel, alpha: bool) -> None:
    picture = synthetic_picture(70, 50)
    if alpha:
        picture.putalpha(Image.linear_gradient("L").resize((70, 50)))
    data = Codec(tiny_model).encode(picture)
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    opened = parser.close()
    assert (opened.size, opened.mode) == (picture.size, picture.mode)
    assert opened.tobytes() == Image.open(io.BytesIO(data)).tobytes()


def test_verify(data: bytes) -> None:
    image = Image.open("a.dcae")
    image.verify()
    assert image.fp is None
    Path("b.dcae").write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with Image.open("b.dcae") as image, pytest.raises(OSError, match=r"b.dcae: section .* fails its CRC-32"):
        image.verify()


def test_copies_and_thumbnails(data: bytes, pixels: bytes) -> None:
    with Image.open("a.dcae") as image:
        assert image.copy().tobytes() == pixels
    with Image.open("a.dcae") as image:
        image.thumbnail((20, 20))
        assert image.size == (20, 14)
    with Image.open("a.dcae") as image:
        assert image.crop((10, 10, 20, 15)).size == (10, 5)
    with Image.open("a.dcae") as image:
        assert pickle.loads(pickle.dumps(image)).tobytes() == pixels
    assert np.asarray(Image.open("a.dcae")).tobytes() == pixels


def test_seek(data: bytes) -> None:
    with Image.open("a.dcae") as image:
        image.seek(0)
        assert image.tell() == 0
        with pytest.raises(EOFError):
            image.seek(1)


def test_files_are_closed(data: bytes) -> None:
    image = Image.open("a.dcae")
    file = image.fp
    image.load()
    assert file is not None and file.closed
    with Path("a.dcae").open("rb") as mine:
        Image.open(mine).load()
        assert not mine.closed
    image = Image.open("a.dcae")
    image.close()
    with pytest.raises((OSError, ValueError)):
        image.load()


def test_save(tiny_model: CodingModel) -> None:
    codec = Codec(tiny_model)
    PICTURE.save("b.dcae", quality=2.5, model="tiny", effort=0, optimize=True)
    assert Path("b.dcae").read_bytes() == codec.encode(PICTURE, 2.5)
    buffer = io.BytesIO()
    PICTURE.save(buffer, "DCAE", model="tiny", effort=0)
    assert buffer.getvalue() == codec.encode(PICTURE)
    assert Image.open(buffer).size == (70, 50)
    size = len(codec.encode(PICTURE, 5))
    PICTURE.save("c.dcae", model="tiny", target_size=size)
    assert 0.97 * size <= Path("c.dcae").stat().st_size <= size


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA"])
def test_save_other_modes(mode: str) -> None:
    """Those that RGB or gray hold; alpha is opaque."""
    PICTURE.convert(mode).save("b.dcae", model="tiny")
    with Image.open("b.dcae") as image:
        assert image.mode == ("RGB" if mode in ("P", "RGBA") else "L")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_save_unknown_mode(mode: str) -> None:
    image = Image.new(mode, (8, 8), 70_000)
    with pytest.raises(OSError, match=f"cannot write mode {mode} as DCAE") as caught:
        image.save("b.dcae", model="tiny")
    assert isinstance(caught.value, DCAEError)
    assert not Path("b.dcae").exists()


def test_save_with_a_wrong_option() -> None:
    with pytest.raises(OptionError, match=r"quality 90 is outside 1\.\.8"):
        PICTURE.save("b.dcae", quality=90, model="tiny")
    assert not Path("b.dcae").exists()


def test_the_frame_that_is_shown_is_saved(tiny_model: CodingModel) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    with Image.open("a.gif") as image:
        image.seek(1)
        image.save("b.dcae", model="tiny", effort=0)
        assert Path("b.dcae").read_bytes() == Codec(tiny_model).encode(image.copy(), fallback=True)


def test_limits_are_those_of_the_registration(data: bytes) -> None:
    dcae.register_pillow(max_pixels=1000)
    image = Image.open("a.dcae")
    with pytest.raises(OSError, match="more than the limit of 1000"):
        image.load()
    with pytest.raises(OptionError, match="unknown: quality; known: device"):
        dcae.register_pillow(quality=3)


def test_alpha_and_metadata_are_there_before_it_is_decoded() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    image = Image.effect_noise((40, 30), 60).convert("LA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("b.png", exif=exif)
    with Image.open("b.png") as source:
        source.save("b.dcae", model="tiny")
    opened = Image.open("b.dcae")
    assert (opened.mode, opened.size) == ("LA", (40, 30))
    assert opened.getexif()[0x010F] == "a camera"
    assert opened.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def _exif(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    return exif


def test_metadata_that_save_is_given() -> None:
    """As Pillow's own formats take them: in place of the picture's."""
    PICTURE.save("own.jpg", exif=_exif(Make="own"), xmp=b"<x:own/>")
    with Image.open("own.jpg") as source:
        source.save("b.dcae", model="tiny", exif=_exif(Make="given"), xmp="<x:given/>")
        source.save("c.dcae", model="tiny", exif=_exif(Make="given").tobytes())
        source.save("d.dcae", model="tiny", exif=b"", xmp=None)
        assert source.getexif()[ExifTags.Base.Make] == "own" and source.info["xmp"] == b"<x:own/>"
    b, c, d = (Image.open(f"{name}.dcae") for name in "bcd")
    assert b.getexif()[ExifTags.Base.Make] == "given" and b.info["xmp"] == b"<x:given/>"
    assert c.getexif()[ExifTags.Base.Make] == "given" and c.info["xmp"] == b"<x:own/>"
    assert "exif" not in d.info and "xmp" not in d.info


def test_a_profile_that_save_is_given() -> None:
    profile = icc_profile(b"RGB ", 1.8)
    PICTURE.save("b.dcae", model="tiny", icc_profile=profile)
    assert Image.open("b.dcae").info["icc_profile"] == profile
    with Image.open("b.dcae") as image:
        image.save("c.dcae", model="tiny", icc_profile=None)
    assert "icc_profile" not in Image.open("c.dcae").info


def test_a_picture_is_turned_as_the_exif_says_that_save_is_given() -> None:
    PICTURE.save("b.dcae", model="tiny", exif=_exif(Orientation=6, Make="given"))
    image = Image.open("b.dcae")
    assert image.size == (50, 70)
    assert dict(image.getexif()) == {ExifTags.Base.Orientation: 1, ExifTags.Base.Make: "given"}


def test_metadata_of_a_tiff_file_stay_where_others_are_given() -> None:
    PICTURE.save("own.tif", exif=_exif(Make="own", Orientation=6))
    with Image.open("own.tif") as source:
        source.save("b.dcae", model="tiny", xmp=b"<x:given/>")
    image = Image.open("b.dcae")
    assert image.getexif()[ExifTags.Base.Make] == "own" and image.info["xmp"] == b"<x:given/>"
    assert image.size == (50, 70)
