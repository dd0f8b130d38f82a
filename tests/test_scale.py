"""Pictures that are coded small and enlarged after: what they become, which size wins, what is refused."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture
from PIL import Image

import dcae as package
from dcae import upscalers
from dcae.cli import main
from dcae.codec import scaling, targets
from dcae.codec.codec import Codec
from dcae.codec.container import read_container, write_container
from dcae.codec.fields import Enlargement
from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.preparing import prepare
from dcae.codec.scaling import encode_as_asked
from dcae.codec.targets import Asked, Target, divisor_of, psnr_of
from dcae.errors import FileFormatError, ModelNotFoundError, OptionError, PictureError
from dcae.resize import resized, to_float, to_samples
from dcae.sr.find import find_upscaler

Run = Callable[..., Result]


@pytest.fixture
def codec(tiny_path: Path) -> Codec:
    return Codec(tiny_path)


@pytest.fixture
def dcae(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def _tables(pixels: np.ndarray) -> np.ndarray:
    return to_samples(find_upscaler("tables", 2)(to_float(pixels)), pixels.dtype)


# -- coding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (65, 40), (128, 64), (131, 67)])
def test_a_small_picture_is_coded_and_the_whole_is_shown(codec: Codec, width: int, height: int) -> None:
    image = synthetic_picture(width, height)
    data = codec.encode(image, 3, divisor=2)
    container = read_container(data)
    assert (container.header.width, container.header.height) == (-(-width // 2), -(-height // 2))
    small = to_samples(resized(to_float(np.asarray(image)), 0.5))
    assert read_container(codec.encode(small, 3)).y == container.y
    native = np.asarray(codec.decode(data, native=True))
    assert native.shape == small.shape
    assert np.array_equal(np.asarray(codec.decode(data)), _tables(native)[:height, :width])


def test_a_photograph_comes_back_much_like_itself() -> None:
    """Nothing is shifted: moved by a pixel it is further away."""
    y, x = np.mgrid[:128, :192]
    smooth = (128 + 90 * np.sin(x / 11) * np.cos(y / 7)).astype(np.uint8)
    pixels = np.stack([smooth, smooth[::-1], 255 - smooth], -1)
    found = np.asarray(package.decode(package.encode(pixels, 6, scale="1/2", effort=0, fallback=False)))
    inside = slice(16, -16), slice(16, -16)
    here = psnr_of(pixels[inside], found[inside])
    assert here > 28
    for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        assert psnr_of(pixels[inside], np.roll(found, step, axis)[inside]) < here - 1


@pytest.mark.parametrize("kind", ["L", "RGBA", "LA", "I;16", "RGB16"])
def test_gray_alpha_16_bits_and_metadata(codec: Codec, kind: str) -> None:
    rng = np.random.default_rng(0)
    depth = np.uint16 if "16" in kind else np.uint8
    colour = synthetic_picture(75, 50) if "RGB" in kind else synthetic_picture(75, 50).convert("L")
    pixels = np.atleast_3d(np.asarray(colour)).astype(depth) * (257 if depth is np.uint16 else 1)
    alpha = rng.integers(0, 256, (50, 75)).astype(np.uint8) if kind.endswith("A") else None
    exif = Image.Exif()
    exif[0x010E] = "a title"
    picture = Picture(pixels, alpha)
    picture = replace(picture, metadata=replace(picture.metadata, exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    data = codec.encode(picture, 3, divisor=2)
    found, native = codec.decode_picture(data), codec.decode_picture(data, native=True)
    assert found.pixels.shape == pixels.shape and found.pixels.dtype == native.pixels.dtype == depth
    assert native.pixels.shape == (25, 38, pixels.shape[2])
    assert found.metadata == native.metadata == picture.metadata
    if alpha is None:
        assert found.alpha is native.alpha is None
    else:  # without loss, whatever the size of the colours
        assert found.alpha is not None and np.array_equal(found.alpha, alpha)
        assert native.alpha is not None and native.alpha.shape == (25, 38)


def test_where_the_whole_takes_no_more_bytes_without_loss_it_is_stored_so(codec: Codec) -> None:
    data = codec.encode(Image.new("RGB", (200, 100), "teal"), 8, divisor=2, fallback=True)
    container = read_container(data)
    assert container.lossless and container.enlargement is None
    assert codec.decode(data).getpixel((5, 5)) == (0, 128, 128)


def test_a_mask_steers_the_small_picture_too(codec: Codec) -> None:
    picture, mask = prepare(synthetic_picture(128, 128)), np.zeros((128, 128), np.uint8)
    mask[:64] = 255
    plain, masked = (codec.encode(picture, 4, divisor=2, effort=1, roi=roi) for roi in (np.full_like(mask, 255), mask))
    assert plain != masked
    upper = [psnr_of(picture.pixels[:64], codec.decode_picture(data).pixels[:64]) for data in (plain, masked)]
    assert upper[1] > upper[0] - 0.2


# -- which size -----------------------------------------------------------------------------------------------


def test_scales_are_written_in_several_ways() -> None:
    assert [divisor_of(scale) for scale in ("1", 1, "1/2", 0.5, "1/3", 1 / 3, "1/4", 0.25)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert divisor_of("auto") is None
    for scale in ("2", 2, 0, -1, "half", True, None, math.nan, "1/5", 0.2):
        with pytest.raises(OptionError, match="scale must be 1, 1/2, 1/3, 1/4 or auto"):
            divisor_of(cast(Any, scale))


PICTURE = Picture((64 + np.add.outer(np.arange(128), np.arange(128))[..., None] // 2).astype(np.uint8))


class _TwoCurves:
    """A codec with the size and error of a quality, whole and small; errors are the same at all pixels."""

    config = SimpleNamespace(metric="mse", qualities=(1.0, 8.0), default_quality=4.0)

    def __init__(self, small_error: float) -> None:
        self.small_error, self.asked = small_error, list[tuple[float, int, int]]()

    def encode(
        self, picture: Picture, quality: float | None, divisor: int = 1, effort: int = 0, roi: object = None
    ) -> bytes:
        quality = 4.0 if quality is None else quality
        self.asked.append((quality, divisor, effort))
        size = round(20000 * 1.3**quality / divisor**2)
        return bytes([divisor]) + int(quality * 256).to_bytes(4, "big") + bytes(size - 5)

    def decode_picture(self, data: bytes) -> Picture:
        error = 40 * 0.8 ** (int.from_bytes(data[1:5], "big") / 256) * (self.small_error if data[0] > 1 else 1)
        return Picture((PICTURE.pixels + round(error)).astype(np.uint8))


@pytest.fixture
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (targets, scaling):
        monkeypatch.setattr(module, "stored_as", lambda data: "")


def _asked(codec: _TwoCurves, asked: Asked, **options: Any) -> targets.Found:
    return encode_as_asked(cast(Any, codec), PICTURE, asked, options)


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize("effort", [0, 2])
@pytest.mark.parametrize(
    "asked", [Asked(1.5, None, None), Asked(3.0, None, None), Asked(None, Target(size=50000), None)]
)
def test_the_better_one_at_no_more_bytes_is_taken(asked: Asked, effort: int) -> None:
    whole = _asked(_TwoCurves(1), replace(asked, divisor=1), effort=effort)
    for small_error, divisor in ((1.5, 2), (2.5, 2), (9.0, 1)):
        codec = _TwoCurves(small_error)
        found = _asked(codec, asked, effort=effort)
        assert found.data[0] == divisor
        assert len(found.data) <= len(whole.data)
        psnr = [psnr_of(PICTURE.pixels, codec.decode_picture(file.data).pixels) for file in (found, whole)]
        assert psnr[0] > psnr[1] if divisor == 2 else found.data == whole.data
        assert found.encodings <= len(codec.asked)
        # A search for latents is not begun for what is far behind without it.
        assert any(tried[1:] == (2, 2) for tried in codec.asked) == (effort == 2 and divisor == 2)


@pytest.mark.usefixtures("_stub")
def test_the_smaller_one_that_has_the_psnr_is_taken() -> None:
    for small_error, divisor in ((1.5, 2), (9.0, 1)):
        codec = _TwoCurves(small_error)
        found = _asked(codec, Asked(None, Target(psnr=24.0), None))
        assert found.data[0] == divisor
        assert psnr_of(PICTURE.pixels, codec.decode_picture(found.data).pixels) >= 24


@pytest.mark.usefixtures("_stub")
def test_what_the_whole_picture_cannot_reach_the_small_one_may() -> None:
    found = _asked(_TwoCurves(9.0), Asked(None, Target(size=10000), None))
    assert found.data[0] == 2 and 9900 <= len(found.data) <= 10000
    with pytest.raises(OptionError, match="the smallest that this model makes has 6500 bytes"):
        _asked(_TwoCurves(9.0), Asked(None, Target(size=1000), None))
    with pytest.raises(OptionError, match="the largest that this model makes has 163146 bytes"):
        _asked(_TwoCurves(9.0), Asked(None, Target(size=10**6), None))
    with pytest.raises(OptionError, match="best picture"):
        _asked(_TwoCurves(9.0), Asked(None, Target(psnr=60.0), None))


@pytest.mark.usefixtures("_stub")
def test_where_the_small_picture_cannot_win_it_is_not_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost by reduction alone is more than what the whole picture lacks."""
    noise = Picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    codec = _TwoCurves(0.0)
    monkeypatch.setattr(codec, "decode_picture", lambda data: replace(noise, pixels=noise.pixels ^ 1))
    found = encode_as_asked(cast(Any, codec), noise, Asked(3.0, None, None), {})
    assert found.data[0] == 1 and codec.asked == [(3.0, 1, 0)]


@pytest.mark.parametrize("quality", [1, 3.5])
def test_auto_is_never_worse(quality: float) -> None:
    """With the shipped model, on a picture that is enlarged itself, where a small one does best, and on another."""
    codec = Codec("lite")
    detailed = prepare(synthetic_picture(192, 128))
    rng = np.random.default_rng(3)
    soft = resized(rng.random((16, 24, 3), np.float32), 8)
    for picture in (detailed, Picture(to_samples(soft))):
        whole = codec.encode(picture, quality)
        found = encode_as_asked(codec, picture, Asked(quality, None, None), {}).data
        assert len(found) <= len(whole)
        better, worse = (psnr_of(picture.pixels, codec.decode_picture(data).pixels) for data in (found, whole))
        assert better > worse or found == whole


# -- Python, Pillow, the command line -------------------------------------------------------------------------


def test_python_and_pillow(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    package.register_pillow()
    image = synthetic_picture(70, 51)
    data = package.encode(image, 3, model="tiny", scale=0.5, effort=0)
    assert package.decode(data).size == (70, 51) and package.decode(data, native=True).size == (35, 26)
    found = package.info(data)
    assert (found.width, found.height, found.coded_size, found.upscaler_name) == (70, 51, (35, 26), "tables-x2-1")
    assert found.bpp == 8 * len(data) / (70 * 51)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (70, 51)
        assert np.array_equal(np.asarray(opened), np.asarray(package.decode(data)))
    image.save(tmp_path / "a.dcae", quality=3, model="tiny", scale="1/2", effort=0)
    assert (tmp_path / "a.dcae").read_bytes() == data
    with pytest.raises(OptionError, match="bicubic is a kernel"):
        package.encode(image, 3, model="tiny", scale="1/2", upscaler="bicubic")
    with pytest.raises(ModelNotFoundError, match="no model named 'tables' for scale 4"):
        package.encode(image, 3, model="tiny", scale="1/4")


def test_commands(dcae: Run) -> None:
    synthetic_picture(70, 51).save("a.png")
    coding = ("--model", "tiny", "-q", 3, "--effort", 0)
    done = dcae("encode", "a.png", *coding, "--scale", "1/2")
    assert done.exit_code == 0 and "coded at 35x26" in done.output, done.output
    codec = Codec("tiny")
    data = Path("a.dcae").read_bytes()
    assert dcae("decode", "a.dcae", "-o", "whole.png").exit_code == 0
    whole = np.asarray(codec.decode(data))
    assert np.array_equal(np.asarray(Image.open("whole.png")), whole)
    assert dcae("decode", "a.dcae", "-o", "small.png", "--native").exit_code == 0
    assert np.array_equal(np.asarray(Image.open("small.png")), np.asarray(codec.decode(data, native=True)))
    assert dcae("decode", "a.dcae", "-o", "twice.png", "--scale", 2).exit_code == 0
    assert np.array_equal(np.asarray(Image.open("twice.png")), _tables(whole))
    done = dcae("decode", "a.dcae", "-o", "other.png", "--native", "--scale", 3, "--upscaler", "lanczos")
    assert done.exit_code == 0 and Image.open("other.png").size == (105, 78)
    said = dcae("info", "a.dcae").output
    assert "picture:   70 x 51" in said and "coded at:  35 x 26, enlarged by 126e44ee4258319c (tables-x2-1)" in said
    assert json.loads(dcae("info", "a.dcae", "--json").output)["coded_size"] == [35, 26]


def test_batches(dcae: Run) -> None:
    Path("in").mkdir()
    for k in range(3):
        synthetic_picture(40 + k, 30, k).save(f"in/{k}.png")
    coding = ("--model", "tiny", "-q", 2, "--effort", 0)
    for jobs in (1, 2):
        assert dcae("encode", "in", "-o", f"out{jobs}/", *coding, "--scale", "1/2", "--jobs", jobs).exit_code == 0
        assert dcae("decode", f"out{jobs}", "-o", f"back{jobs}/", "--jobs", jobs).exit_code == 0
    for k in range(3):
        assert Path(f"out1/{k}.png.dcae").read_bytes() == Path(f"out2/{k}.png.dcae").read_bytes()
        assert Image.open(f"back2/{k}.png.png").size == (40 + k, 30)
    assert dcae("encode", "in", "-o", "auto/", *coding, "--scale", "auto", "--quiet").exit_code == 0
    plain = dcae("encode", "in", "-o", "plain/", *coding, "--quiet")
    assert plain.exit_code == 0
    for name in os.listdir("auto"):
        assert Path("auto", name).stat().st_size <= Path("plain", name).stat().st_size


# -- what is refused ------------------------------------------------------------------------------------------


def test_without_the_upscaler_only_the_small_picture_is_given(codec: Codec) -> None:
    container = read_container(codec.encode(synthetic_picture(64, 64), 3, divisor=2))
    assert container.enlargement is not None
    other = write_container(replace(container, enlargement=replace(container.enlargement, model=b"\0" * 8)))
    with pytest.raises(ModelNotFoundError, match=r"enlarged by model 0{16}, which is not installed; .*--native"):
        codec.decode(other)
    assert codec.decode(other, native=True).size == (32, 32)
    assert package.info(other).upscaler_name is None


def test_a_scale_that_is_not_the_models_is_refused(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    container = read_container(codec.encode(synthetic_picture(64, 64), 3, divisor=2))
    assert container.enlargement is not None
    wrong = Enlargement(3, 96, 96, container.enlargement.model)
    monkeypatch.setattr(codec, "_decode_latents", lambda *_, **__: pytest.fail("work was done for it"))
    with pytest.raises(FileFormatError, match="enlarges by 3, its model tables-x2-1 by 2"):
        codec.decode(write_container(replace(container, enlargement=wrong)))


def test_the_limit_is_on_what_is_shown(codec: Codec, tiny_path: Path, dcae: Run) -> None:
    data = codec.encode(synthetic_picture(130, 128), 3, divisor=2)
    narrow = Codec(tiny_path, max_pixels=3 * 2 * 4096 - 1)
    for native in (False, True):  # of the whole size is alpha as well
        with pytest.raises(FileFormatError, match="130x128 pixels, 24576 when padded"):
            narrow.decode(data, native=native)
    with pytest.raises(PictureError, match="130x128 pixels"):
        narrow.encode(synthetic_picture(130, 128), 3, divisor=2)
    Path("a.dcae").write_bytes(codec.encode(synthetic_picture(64, 64), 3))
    done = dcae("decode", "a.dcae", "-o", "b.png", "--scale", 2, "--max-pixels", 4 * 4096 - 1)
    assert done.exit_code == 1 and "128x128 pixels" in done.output and not Path("b.png").exists()
    assert dcae("decode", "a.dcae", "-o", "b.png", "--scale", 2, "--max-pixels", 4 * 4096).exit_code == 0
    Path("c.dcae").write_bytes(codec.encode(synthetic_picture(128, 128), 3, divisor=2))
    words = "decode", "c.dcae", "-o", "c.png", "--native", "--scale", 2, "--max-pixels", 4 * 4096
    assert dcae(*words).exit_code == 0 and Image.open("c.png").size == (128, 128)


@pytest.mark.parametrize(("upscaler", "message"), [("bicubic", "is a kernel"), ("nothing", "no model named")])
def test_auto_refuses_what_cannot_enlarge_before_it_codes(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, upscaler: str, message: str
) -> None:
    monkeypatch.setattr(codec, "encode", lambda *_, **__: pytest.fail("coded for nothing"))
    with pytest.raises((OptionError, ModelNotFoundError), match=message):
        encode_as_asked(codec, prepare(synthetic_picture(64, 64)), Asked(3, None, None), {"upscaler": upscaler})


def test_the_device_of_a_codec_is_no_matter_of_tables() -> None:
    assert upscalers.find_upscaler("tables", 2, "cuda").name == "tables-x2-1"
    assert upscalers.find_upscaler("bicubic", 2, "cuda").name == "bicubic"


def test_alpha_of_another_size_is_refused(codec: Codec) -> None:
    image = synthetic_picture(64, 64)
    image.putalpha(Image.linear_gradient("L").resize((64, 64)))
    container = read_container(codec.encode(image, 3, divisor=2))
    small = image.resize((32, 32))
    alpha = read_container(codec.encode(small, 3)).alpha
    for native in (False, True):
        with pytest.raises(FileFormatError, match="another size"):
            codec.decode(write_container(replace(container, alpha=alpha)), native=native)
