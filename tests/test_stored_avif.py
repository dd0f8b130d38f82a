"""Drawings and screens that a file holds as AVIF, where that is better than what a model made of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import screen, synthetic_picture
from PIL import AvifImagePlugin, Image

import dcae
from dcae.codec import stored
from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.codec.pictures.av1 import avif_of, stream_of
from dcae.codec.pictures.avif import avif_pixels, avif_quality, avif_stream, is_drawn
from dcae.codec.pictures.preparing import prepare
from dcae.codec.targets import Target, encode_to_target
from dcae.errors import FileFormatError, MissingDependencyError

pytestmark = pytest.mark.skipif(not AvifImagePlugin.SUPPORTED, reason="this Pillow has no AVIF")


@pytest.fixture(scope="module")
def lite() -> Codec:
    return Codec("lite", engine="onnx")


def _squared(shown: Image.Image, original: Image.Image) -> float:
    return float(np.square(np.asarray(shown.convert("RGB")).astype(float) - np.asarray(original.convert("RGB"))).sum())


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [1, 4, 7.5])
def test_it_is_taken_where_it_lowers_the_cost(lite: Codec, mode: str, quality: float) -> None:
    picture, costs = screen(mode), []
    kind = "without loss" if (mode, quality) == ("L", 7.5) else "as AVIF"  # whichever has less λ·D + R
    for fallback in (False, True):
        data = lite.encode(picture, quality, fallback=fallback)
        shown = lite.decode(data)
        assert (shown.mode, shown.size) == (mode, picture.size)
        assert read_container(data).stored == (kind if fallback else "")
        assert lite.encode(picture, quality, fallback=fallback) == data
        costs.append(lite.config.lambda_of(quality) * _squared(shown, picture) / 3 + 8 * len(data))
    assert costs[1] < (0.9 if quality < 2 else 0.8) * costs[0]
    assert read_container(data).header.model == stored.NO_MODEL
    with pytest.raises(FileFormatError, match=f"holds its picture {kind} and has no latents"):
        lite.decode_latents(data)


def test_alpha_and_metadata_lie_beside_it(lite: Codec) -> None:
    picture = screen("RGBA")
    alpha = Image.linear_gradient("L").resize(picture.size)
    picture.putalpha(alpha)
    exif = Image.Exif()
    exif[0x010E] = "a screen"
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    data = lite.encode(buffer.getvalue(), 5, fallback=True)
    assert read_container(data).avif
    shown = dcae.decode(data)
    assert shown.getchannel("A").tobytes() == alpha.tobytes() and shown.getexif()[0x010E] == "a screen"


def test_tuning_measures_what_it_is_for(lite: Codec) -> None:
    data = [lite.encode(screen(), 5, effort=1, fallback=True, tune=tune) for tune in ("psnr", "ms-ssim")]
    assert all(read_container(file).avif for file in data) and data[0] != data[1]


def test_targets_are_met(lite: Codec) -> None:
    picture = prepare(screen())
    found = encode_to_target(lite, picture, Target(size=2500), {"fallback": True})
    assert read_container(found.data).avif and 2250 < len(found.data) <= 2500 and found.encodings < 10
    found = encode_to_target(lite, picture, Target(psnr=38.0), {"fallback": True})
    error = _squared(lite.decode(found.data), screen()) / picture.pixels.size
    for target, largest in (({"size": 6000}, 6000), ({"size": 20000}, 9000), ({"psnr": 60.0}, 9000)):
        data = encode_to_target(lite, picture, Target(**target), {"fallback": True}).data  # type: ignore[arg-type]
        assert len(data) <= largest and bool(read_container(data).lossless) == (largest == 9000)
    assert read_container(found.data).avif and 38.0 <= 10 * np.log10(255**2 / error) < 39.0


def test_photographs_are_never_tried(lite: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("no drawing")

    monkeypatch.setattr(stored, "avif_stream", refuse)
    lite.encode(synthetic_picture(128, 96), 4, fallback=True)
    deep = np.asarray(screen()).astype(np.uint16) * 257
    lite.encode(deep, 4, fallback=True)
    assert not any(is_drawn(np.asarray(synthetic_picture(*size))) for size in ((1, 1), (1, 40), (40, 1), (300, 200)))
    with pytest.raises(AssertionError):
        lite.encode(screen(), 4, fallback=True)


def test_large_pictures_are_looked_at_in_samples() -> None:
    large = np.zeros((3000, 2000, 3), np.uint8)
    assert is_drawn(large)
    large[:, :1200] = np.random.default_rng(0).integers(0, 256, (3000, 1200, 3), np.uint8)
    assert not is_drawn(large)


def test_quality_follows_lambda() -> None:
    assert [avif_quality(0.0009 * 2**k) for k in range(8)] == [4, 13, 22, 31, 40, 50, 59, 68]
    assert (avif_quality(1e-9), avif_quality(1e6)) == (0, 99)


def _avif(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_file_around_a_stream_is_what_was_written(mode: str) -> None:
    """Pillow shows of the file that is made again just what it shows of its own, which is 277 bytes longer than what is
    kept."""
    picture = screen(mode)
    options = {"subsampling": "4:4:4" if mode == "RGB" else "4:0:0", "range": "full", "codec": "aom"}
    file = _avif(picture, quality=60, **options)
    stream = stream_of(file)
    shown = [np.asarray(Image.open(io.BytesIO(data))) for data in (file, avif_of(stream))]
    assert np.array_equal(*shown) and len(file) - 290 < len(stream) < len(file) - 260
    channels = 3 if mode == "RGB" else 1
    found = avif_pixels(stream, *picture.size, channels, "it")
    assert np.array_equal(found, shown[0].reshape(*shown[0].shape[:2], -1)[..., :channels])


def test_streams_of_another_kind_are_refused() -> None:
    pixels = np.asarray(screen())
    good = avif_stream(pixels, 60, "psnr")
    assert np.abs(avif_pixels(good, 200, 160, 3, "it").astype(int) - pixels).mean() < 3
    gray = avif_pixels(avif_stream(pixels[..., :1], 60, "psnr"), 200, 160, 1, "it")
    assert gray.shape == (160, 200, 1) and np.abs(gray.astype(int) - pixels[..., :1]).mean() < 3
    animated = _avif(screen(), save_all=True, append_images=[screen().rotate(180)])
    for data, size, words in (
        (b"", (200, 160), "cannot be read"),
        (good[:-300], (200, 160), "cannot be read"),
        (avif_of(good), (200, 160), "cannot be read"),
        (good + good, (200, 160), "cannot be read"),
        (good + good[2 + good[1] :], (200, 160), "cannot be read"),
        (good, (160, 200), "of another size or kind \\(200x160"),
        (stream_of(animated), (200, 160), "cannot be read"),
        (avif_stream(pixels[..., :1], 60, "psnr"), (200, 160), "of another size or kind"),
    ):
        with pytest.raises(FileFormatError, match=f"^it .*{words}"):
            avif_pixels(data, *size, 3, "it")
    for file in (b"", b"\0\0\0\x08ftyp", avif_of(good)[:250]):
        with pytest.raises(ValueError, match=r"AVIF|OBU"):
            stream_of(file)


def test_without_avif_the_model_codes_it(lite: Codec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = lite.encode(screen(), 4, fallback=True)
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    assert not read_container(lite.encode(screen(), 4, fallback=True)).stored
    with pytest.raises(MissingDependencyError, match="does not read: pip install 'pillow"):
        lite.decode(data)
