"""Targets: sizes and PSNR that are asked for are met, in few encodings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.codec import targets
from dcae.codec.codec import Codec
from dcae.codec.container import SIGNATURE, stored_as
from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.preparing import prepare
from dcae.codec.rates import crossing
from dcae.codec.targets import Found, Target, encode_to_target, parse_size
from dcae.errors import OptionError
from dcae.models.modelfile import CodingModel

PICTURE = prepare(synthetic_picture(100, 80))


class _Curve:
    """A codec whose file sizes and errors follow from the quality alone."""

    config = SimpleNamespace(qualities=(1.0, 8.0))

    def __init__(self, bend: float = 0.0, noise: float = 0.0, offset: float = 0.0) -> None:
        self.bend, self.noise, self.offset = bend, noise, offset
        self.asked: list[float] = []

    def size(self, quality: float) -> int:
        bpp = math.exp(-2 + self.offset + 0.36 * (quality - 1) + self.bend * (quality - 4) ** 2)
        return round(8000 * bpp * (1 + self.noise * math.sin(1e4 * quality)))

    def encode(self, picture: Picture, quality: float, portable: bool = False) -> bytes:
        assert round(quality * 256) == quality * 256 and 1 <= quality <= 8 and portable
        self.asked.append(quality)
        return int(quality * 256).to_bytes(4, "big") + bytes(self.size(quality) - 4)

    def error(self, quality: float) -> float:
        return 10 * math.exp(-(1.6 + self.bend) * math.log(10) / 20 * (quality - 1))

    def decode_picture(self, data: bytes) -> Picture:
        error = self.error(int.from_bytes(data[:4], "big") / 256)
        pixels = PICTURE.pixels.astype(float)
        # A checkerboard of the two nearest errors, so that the mean square is nearly that of the curve.
        share = error**2 - math.floor(error) ** 2
        up = np.random.default_rng(1).random(pixels.shape) * (2 * math.floor(error) + 1) < share
        return Picture((pixels + np.where(pixels > 127, -1, 1) * (math.floor(error) + up)).astype(np.uint8))


@pytest.fixture(autouse=True)
def _files_of_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a curve makes are none that can be read."""
    monkeypatch.setattr(targets, "stored_as", lambda data: stored_as(data) if data.startswith(SIGNATURE) else "")


def _search(curve: _Curve, **target: Any) -> Found:
    found = encode_to_target(cast(Codec, curve), PICTURE, Target(**target), {"portable": True})
    assert len(set(curve.asked)) == len(curve.asked) == found.encodings
    return found


@pytest.mark.parametrize(("bend", "limit"), [(0.0, 4), (0.02, 4), (-0.015, 4)])
@pytest.mark.parametrize("offset", [-1.0, 0.0, 1.0])
def test_sizes_are_met_in_few_encodings(bend: float, limit: int, offset: float) -> None:
    low, high = _Curve(bend, 0, offset).size(1), _Curve(bend, 0, offset).size(8)
    for share in np.linspace(0.02, 0.98, 25):
        target = round(low ** (1 - share) * high**share)
        found = _search(_Curve(bend, 0, offset), size=target)
        assert 0.99 * target <= len(found.data) <= target
        assert found.encodings <= limit


def test_sizes_that_jump_are_met_as_near_as_they_can_be() -> None:
    for share in np.linspace(0.05, 0.95, 10):
        curve = _Curve(noise=0.03)
        target = round(curve.size(1) ** (1 - share) * curve.size(8) ** share)
        found = _search(curve, size=target)
        assert 0.93 * target <= len(found.data) <= target
        assert found.encodings <= 16


@pytest.mark.parametrize("bend", [0.0, 0.3, -0.3])
def test_psnr_is_met_by_the_lowest_quality_that_does(bend: float) -> None:
    for target in np.arange(30, 36, 0.37):
        curve = _Curve(bend)
        found = _search(curve, psnr=float(target))

        def psnr(quality: float, curve: _Curve = curve) -> float:
            decoded = curve.decode_picture(int(quality * 256).to_bytes(4, "big")).pixels.astype(float)
            return 10 * math.log10(255**2 / np.square(decoded - PICTURE.pixels).mean())

        assert psnr(found.quality) >= target > psnr(found.quality - 1 / 256)
        assert found.encodings <= 7


def test_bits_per_pixel_are_a_size() -> None:
    found = _search(_Curve(), bpp=4.0)
    assert found == _search(_Curve(), size=4000)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"size": 100}, r"100 bytes is out of reach: the smallest .* has 1083 bytes \(1.0830 bpp\), at quality 1$"),
        ({"bpp": 1e-9}, "a target of 1e-09 bpp, 0 bytes, is out of reach: the smallest"),
        (
            {"size": 20000},
            r"20000 bytes is out of reach: the largest .* has 13456 bytes \(13.4560 bpp\), at quality 8$",
        ),
        ({"psnr": 90.0}, r"90 dB is out of reach: the best picture .* has 39.3\d dB, at quality 8$"),
    ],
)
def test_what_is_out_of_reach_says_what_is_nearest(target: dict[str, Any], message: str) -> None:
    curve = _Curve()
    with pytest.raises(OptionError, match=message):
        _search(curve, **target)
    assert len(curve.asked) <= 4


def test_ends_are_in_reach() -> None:
    curve = _Curve()
    assert _search(_Curve(), size=curve.size(1)).quality == 1
    assert 0.99 * curve.size(8) <= len(_search(_Curve(), size=curve.size(8)).data)
    assert _search(_Curve(), psnr=10.0).quality == 1


def test_a_model_of_one_rate_is_asked_once() -> None:
    curve = _Curve()
    curve.config = SimpleNamespace(qualities=(1.0, 1.0))
    assert _search(curve, psnr=20.0).encodings == 1
    with pytest.raises(OptionError, match="out of reach"):
        _search(curve, size=5)


@pytest.mark.parametrize("root", [0, 1, 2, 700, 1790, 1791])
@pytest.mark.parametrize("slope", [0.0, 0.001, 50.0])
def test_the_search_ends_at_neighbours_whatever_the_function(root: int, slope: float) -> None:
    for power in (0.2, 1, 7):
        asked: list[int] = []

        def value(at: int, power: float = power, asked: list[int] = asked) -> float:
            assert 0 <= at <= 1791 and at not in asked
            asked.append(at)
            return math.copysign(abs(at - root - 0.5) ** power, at - root - 0.5)

        crossing(value, 0, 1791, 300, slope)
        assert root in asked and (root + 1 in asked or root == 1791)
        assert len(asked) <= 30


@pytest.mark.parametrize(
    ("text", "size"),
    [("200000", 200000), ("200k", 200000), ("1.5M", 1500000), ("64KiB", 65536), ("2 kB", 2000), (".5Ki", 512)],
)
def test_sizes_are_written_with_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-5", "0", "0.1", "5x", "1e5", "nan", "5 k k", "1.2.3", "i"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is no size; write"):
        parse_size(text)


@pytest.mark.parametrize("target", [{}, {"size": 5, "psnr": 30.0}, {"psnr": math.nan}, {"bpp": 0.0}, {"size": -1}])
def test_targets_that_are_none(target: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Target(**target)


@pytest.fixture
def dcae(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    PICTURE.image().save("photo.png")
    return lambda *arguments: CliRunner().invoke(main, ["encode", "photo.png", "--model", "tiny", *arguments])


def test_command_line(dcae: Callable[..., Result], tiny_model: CodingModel) -> None:
    codec = Codec(tiny_model)
    size = len(codec.encode(PICTURE, 5.5))
    done = dcae("--target-size", str(size))
    assert done.exit_code == 0, done.output
    data = Path("photo.dcae").read_bytes()
    assert size * 0.98 <= len(data) <= size
    assert f"photo.dcae: {len(data)} bytes, " in done.stderr and " encodings, " in done.stderr
    low = np.asarray(codec.decode(codec.encode(PICTURE, 4))).astype(float)
    psnr = 10 * math.log10(255**2 / np.square(low - PICTURE.pixels).mean())
    assert dcae("--target-psnr", f"{psnr - 0.001:.4f}", "-o", "b.dcae").exit_code == 0
    shown = np.asarray(codec.decode(Path("b.dcae").read_bytes())).astype(float)
    assert 10 * math.log10(255**2 / np.square(shown - PICTURE.pixels).mean()) >= psnr - 0.001


def test_a_picture_without_loss_is_within_any_size(dcae: Callable[..., Result]) -> None:
    """No file of it would be larger, and none is better."""
    Image.new("RGB", (100, 80), "red").save("photo.png")
    done = dcae("--target-size", "50k")
    assert done.exit_code == 0, done.stderr
    assert "stored without loss" in done.stderr and Path("photo.dcae").stat().st_size < 1000


def test_files_that_were_only_tried_are_not_warned_of(dcae: Callable[..., Result]) -> None:
    noise = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (64, 64, 3))
    Image.fromarray(noise).save("photo.png")
    plain = dcae("-q", "2", "-o", "plain.dcae", "--effort", "0")
    assert plain.stderr.count("does badly") == 1
    done = dcae("--target-size", str(Path("plain.dcae").stat().st_size), "--effort", "0")
    assert done.exit_code == 0 and "does badly" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target-size", "10"], 1, "photo.png: a target of 10 bytes is out of reach: the smallest"),
        (["--target-size", "10Mio"], 1, "is no size"),
        (["--target-psnr", "nan"], 1, "must be a positive number"),
        (["--target-bpp", "1", "--target-psnr", "30"], 1, "give one of"),
        (["--target-bpp", "1", "-q", "3"], 2, "not both"),
    ],
)
def test_command_line_that_is_refused(
    dcae: Callable[..., Result], arguments: list[str], code: int, message: str
) -> None:
    done = dcae(*arguments)
    assert done.exit_code == code and message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["photo.png"]


def test_with_an_effort_the_quality_is_found_without_it() -> None:
    """The search for latents takes long: it is asked for a few times, near the end."""

    class Searching(_Curve):
        efforts: list[int]

        def encode(self, picture: Picture, quality: float, portable: bool = False, effort: int = 0) -> bytes:
            self.efforts.append(effort)
            data = super().encode(picture, quality, portable)
            return data if not effort else data[: round(0.96 * len(data))]

    curve = Searching()
    curve.efforts = []
    found = encode_to_target(cast(Codec, curve), PICTURE, Target(1200), {"portable": True, "effort": 3})
    assert 1200 * 0.99 <= len(found.data) <= 1200
    assert curve.efforts == sorted(curve.efforts) and 1 <= curve.efforts.count(3) <= 3
    assert found.encodings == len(curve.efforts)


@pytest.mark.parametrize("target", [{"size": 1200}, {"psnr": 33.0}])
def test_what_steers_the_search_comes_with_it_alone(target: dict[str, Any]) -> None:
    """The quality is found without it first, and with it near there."""

    class Searching(_Curve):
        given: list[dict[str, Any]]

        def encode(self, picture: Picture, quality: float, portable: bool = False, **options: Any) -> bytes:
            self.given.append(options)
            data = super().encode(picture, quality, portable)
            return data if not options["effort"] else data[: round(0.96 * len(data))]

        def error(self, quality: float) -> float:
            return super().error(quality) * (0.98 if self.given[-1]["effort"] else 1)

    curve, steering = Searching(), {"effort": 2, "tune": "ms-ssim", "roi": "a mask"}
    curve.given = []
    found = encode_to_target(cast(Codec, curve), PICTURE, Target(**target), {"portable": True, **steering})
    searches = curve.given.count(steering)
    assert curve.given == [{"effort": 0}] * (found.encodings - searches) + [steering] * searches
    near = [quality for quality, options in zip(curve.asked, curve.given, strict=True) if options == steering]
    assert abs(near[0] - curve.asked[found.encodings - searches - 1]) < 0.1 and 1 <= searches <= 6
    assert near[-1] == pytest.approx(found.quality, abs=0.1)


@pytest.mark.parametrize("target", [{"bpp": 1e308}, {"psnr": 1e308}, {"size": 10**400}])
def test_targets_beyond_all_files_are_refused(target: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="of at most"):
        Target(**target)
    with pytest.raises(OptionError, match="is no size"):
        parse_size("9" * 400)
