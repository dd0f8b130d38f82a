"""The functions of the package: forms of pictures and files, and that all that is wrong is an error of ours."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic_picture
from PIL import Image

import dcae
from dcae.codec.codec import Codec
from dcae.errors import DCAEError, OptionError
from dcae.models.modelfile import CodingModel

PICTURE = synthetic_picture(40, 30)
PIXELS = np.asarray(PICTURE)


@pytest.fixture(autouse=True)
def here(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, with the tiny model found by its id and under the name `tiny`, and a picture in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    PICTURE.save("a.png")


@pytest.fixture
def data(tiny_model: CodingModel) -> bytes:
    """The picture's file; also lies as a.dcae."""
    data = Codec(tiny_model).encode(PICTURE)
    Path("a.dcae").write_bytes(data)
    return data


def _content() -> bytes:
    return Path("a.png").read_bytes()


class _Path:
    """A path of another library."""

    def __fspath__(self) -> str:
        return "a.png"


@pytest.mark.parametrize(
    "source",
    [
        lambda: "a.png",
        lambda: Path("a.png"),
        _Path,
        _content,
        lambda: bytearray(_content()),
        lambda: memoryview(_content()),
        lambda: io.BytesIO(_content()),
        lambda: Path("a.png").open("rb"),  # noqa: SIM115
        lambda: os.popen("cat a.png").buffer,  # a pipe, which cannot be wound back
        lambda: PICTURE,
        lambda: Image.open("a.png"),
        lambda: PIXELS,
        lambda: PIXELS.repeat(2, 0)[::2],
        lambda: np.asfortranarray(PIXELS),
        lambda: np.dstack([PIXELS, np.full((30, 40), 255, np.uint8)]),
    ],
)
def test_pictures_in_all_forms_give_the_same_file(source: Callable[[], Any], data: bytes) -> None:
    assert dcae.encode(source(), model="tiny", effort=0) == data


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1)])
def test_gray_arrays(shape: tuple[int, ...], tiny_model: CodingModel) -> None:
    gray = PICTURE.convert("L")
    found = dcae.encode(np.asarray(gray).reshape(shape), model="tiny", effort=0)
    assert found == Codec(tiny_model).encode(gray)


@pytest.mark.parametrize(
    "form", [lambda d: d, bytearray, memoryview, io.BytesIO, lambda _: "a.dcae", lambda _: Path("a.dcae")]
)
def test_files_in_all_forms(form: Callable[[bytes], Any], data: bytes, tiny_model: CodingModel) -> None:
    assert dcae.decode(form(data)).tobytes() == Codec(tiny_model).decode(data).tobytes()
    info = dcae.info(form(data))
    assert (info.width, info.height, info.mode, info.bytes, info.model_name) == (40, 30, "RGB", len(data), "tiny")
    assert info.as_dict()["bpp"] == pytest.approx(8 * len(data) / 1200)


def test_files_are_read_to_their_end_and_stay_open(data: bytes) -> None:
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert dcae.decode(file).size == (40, 30)
    assert not file.closed


def _closed() -> io.BytesIO:
    file = io.BytesIO(_content())
    file.close()
    return file


def _closed_picture() -> Image.Image:
    image = Image.open("a.png")
    image.close()
    return image


class _Strange:
    def read(self) -> bytes:
        raise KeyError("strange")


WRONG: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 5,
    lambda: [1, 2],
    lambda: PIXELS.tolist(),
    lambda: PIXELS / 255,
    lambda: PIXELS.astype(np.int64),
    lambda: PIXELS > 100,
    lambda: PIXELS.astype(object),
    lambda: PIXELS[None],
    lambda: PIXELS[..., :0],
    lambda: PIXELS[:0],
    lambda: PIXELS[0, 0],
    lambda: np.uint8(5),
    lambda: np.zeros((4, 4, 5), np.uint8),
    lambda: "missing.png",
    lambda: "",
    lambda: ".",
    lambda: "a\0b",
    lambda: b"",
    lambda: b"nothing",
    _closed,
    _closed_picture,
    _Strange,
    lambda: io.StringIO("text"),
    lambda: Path("a.png").open(encoding="latin-1"),  # noqa: SIM115
    lambda: Path("new").open("wb"),  # noqa: SIM115
    lambda: Image.new("F", (4, 4), 0.5),
    lambda: Image.new("RGB", (0, 4)),
]


@pytest.mark.parametrize("source", WRONG)
def test_all_that_is_wrong_is_an_error_of_ours(source: Callable[[], Any]) -> None:
    with pytest.raises(DCAEError) as caught:
        dcae.encode(source(), model="tiny")
    assert str(caught.value)
    for function in (dcae.decode, dcae.info):
        with pytest.raises(DCAEError):
            function(source())


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": 0},
        {"quality": "4"},
        {"quality": True},
        {"quality": 4j},
        {"quality": float("nan")},
        {"quality": 4, "target_size": 1000},
        {"target_size": 1000, "target_psnr": 30},
        {"target_size": "200k"},
        {"target_bpp": -1},
        {"target_psnr": 200},
        {"max_pixels": 100},
        {"max_pixels": 0},
        {"max_pixels": None},
        {"engine": "other"},
        {"device": "other"},
        {"model": "other"},
        {"model": 5},
        {"device": 5},
        {"frame": 1},
        {"frame": True},
        {"max_pixels": []},
        {"engine": []},
        {"device": []},
        {"upscaler": "other"},
    ],
    ids=str,
)
def test_arguments_that_are_wrong(arguments: dict[str, Any]) -> None:
    with pytest.raises(DCAEError):
        dcae.encode(PICTURE, **{"model": "tiny"} | arguments)


def test_a_codec_takes_files_and_refuses_as_the_functions_do(tiny_model: CodingModel, data: bytes) -> None:
    codec = Codec(tiny_model)
    decoded = [codec.decode(file) for file in (data, "a.dcae", Path("a.dcae"), io.BytesIO(data))]
    assert all(picture == decoded[0] for picture in decoded)
    of_bytes, of_path = codec.decode_latents(data), codec.decode_latents("a.dcae")
    assert np.array_equal(of_bytes.y_hat, of_path.y_hat)
    for wrong in (None, 5, "missing.dcae"):
        for function in (codec.decode, codec.decode_picture, codec.decode_latents):
            with pytest.raises(DCAEError):
                function(wrong)  # type: ignore[operator]
    for divisor in (True, "1/2", 0.5, 0):
        with pytest.raises(OptionError, match="a divisor is a whole number"):
            codec.encode(PICTURE, 4, divisor=divisor)
    with pytest.raises(OptionError, match="a model is a name, a path"):
        Codec(5)  # type: ignore[arg-type]


def test_limits_hold_for_decoding(data: bytes) -> None:
    with pytest.raises(DCAEError, match="more than the limit of 4095"):
        dcae.decode("a.dcae", max_pixels=4095)


def test_arguments_are_looked_at_whatever_the_file_holds() -> None:
    stored = dcae.encode(Image.new("RGB", (64, 64), "red"), model="tiny")
    assert dcae.info(stored).stored
    for arguments in ({"engine": "other"}, {"device": []}, {"model": "other"}, {"max_pixels": 0}):
        with pytest.raises(DCAEError):
            dcae.decode(stored, **arguments)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    plain = dcae.encode(PICTURE, 4, model="tiny", effort=1, max_pixels=1 << 20, frame=0)
    numbers = {"effort": np.int64(1), "max_pixels": np.int64(1 << 20), "frame": np.int64(0)}
    assert dcae.encode(PICTURE, np.float32(4), model="tiny", **numbers) == plain  # type: ignore[arg-type]


def test_targets(tiny_model: CodingModel) -> None:
    codec = Codec(tiny_model)
    size = len(codec.encode(PICTURE, 6))
    for target in ({"target_size": size}, {"target_bpp": 8 * size / 1200 + 1e-9}):
        assert 0.95 * size <= len(dcae.encode(PICTURE, model="tiny", **target)) <= size  # type: ignore[arg-type]


@pytest.mark.slow
def test_examples_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```") // 2 == 10
    synthetic_picture(200, 180, 1).save("photo.jpg", quality=95)
    (tmp_path / "examples.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, "examples.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DCAE RGB (200, 180)" in done.stdout and "49152 when padded" in done.stdout
    with Image.open("thumbnail.png") as thumbnail:
        assert thumbnail.size == (64, 58)
