"""Limits that hold before anything is allocated, and the memory that docs/format.md promises."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import synthetic_picture
from PIL import EpsImagePlugin, Image, ImageFile

import dcae
from dcae.cli import main
from dcae.codec import filecoders, limits
from dcae.codec.codec import Codec
from dcae.codec.coder import SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.codec.container import read_container, write_container
from dcae.codec.limits import BYTES_PER_PIXEL, FIXED_BYTES, MAX_PIXELS, check_size
from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.reading import open_picture
from dcae.errors import FileFormatError, OptionError, PictureError
from dcae.eval.memory import peak_mib, reset_peak
from dcae.models.modelfile import CodingModel
from dcae.runtime import process

# -- pictures -------------------------------------------------------------------------------------------------


def test_one_limit_in_padded_pixels(tiny_model: CodingModel) -> None:
    """One row of pixels costs as much as 64."""
    codec = Codec(tiny_model, max_pixels=6 * 4096)
    for size in ((6 * 64, 1), (1, 6 * 64), (3 * 64, 2 * 64), (65, 3 * 64)):
        assert codec.decode(codec.encode(Image.new("RGB", size), 1)).size == size
    for size in ((6 * 64 + 1, 1), (1, 6 * 64 + 1), (3 * 64 + 1, 65), (65, 65 + 128)):
        with pytest.raises(PictureError, match=r"when padded to multiples of 64, are more than the limit of 24576"):
            codec.encode(Image.new("RGB", size), 1)
        data = Codec(tiny_model).encode(Image.new("RGB", size), 1)
        with pytest.raises(FileFormatError, match="more than the limit"):
            codec.decode(data)


@pytest.mark.parametrize(("width", "height"), [(1, 5_592_384), (1, 1_638_401), (10_241, 10_240), (16_777_215, 1)])
def test_the_limit_by_default_is_the_promised_one(tiny_model: CodingModel, width: int, height: int) -> None:
    with pytest.raises(PictureError, match=f"more than the limit of {MAX_PIXELS}"):
        Codec(tiny_model).encode(Image.new("1", (width, height)))
    check_size(10_240, 10_240, 64, MAX_PIXELS, PictureError)
    check_size(1, 1_638_400, 64, MAX_PIXELS, PictureError)


def test_documents_promise_the_limits_that_hold() -> None:
    root = Path(__file__).parents[1]
    readme, document = (" ".join((root / name).read_text("utf-8").split()) for name in ("README.md", "docs/format.md"))
    promised = f"{FIXED_BYTES >> 20} MiB and {BYTES_PER_PIXEL} bytes"
    assert f"{MAX_PIXELS:,}".replace(",", " ") in document and f"{MAX_PIXELS / 1e6:.1f} million" in readme
    api = (root / "docs/api.md").read_text("utf-8")
    assert f"{MAX_PIXELS / 1e6:.1f} million" in api
    assert str(MAX_PIXELS) in CliRunner().invoke(main, ["decode", "--help"]).output
    gigabytes = f"{(MAX_PIXELS * BYTES_PER_PIXEL + FIXED_BYTES) / 1e9:.1f} GB"
    for text in (readme, document, " ".join((Codec.__doc__ or "").split())):
        assert promised in text and gigabytes in text
    bits = float(Codec("lite")._coder.least_bits_z())
    assert f"at least {bits:.1f} bits for 4096 padded pixels" in document
    assert f"stands for at most {8 * 4096 / bits:.0f} of them" in document


@pytest.mark.parametrize("limit", [math.nan, math.inf, 1e6, 0, -1, True, "4096", None])
def test_limits_that_are_none(tiny_model: CodingModel, limit: Any) -> None:
    with pytest.raises(OptionError, match="max_pixels must be an integer of at least 1"):
        Codec(tiny_model, max_pixels=limit)


@pytest.mark.parametrize(
    ("free", "expected"), [(None, MAX_PIXELS), (1 << 30, MAX_PIXELS), (64 << 30, ((32 << 30) - (256 << 20)) // 40)]
)
def test_the_command_takes_what_fits_into_half_of_the_free_memory(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, expected: int
) -> None:
    synthetic_picture(8, 8).save(tmp_path / "a.png")
    found = []
    monkeypatch.setattr(limits, "free_memory", lambda: free)
    init = Codec.__init__
    monkeypatch.setattr(Codec, "__init__", lambda self, *a: found.append(a[2]) or init(self, *a))
    options = ["--model", str(tiny_path), "--force"]
    for more in ([], ["--max-pixels", "4096"]):
        for arguments in (["encode", "a.png", "--no-fallback"], ["decode", "a.dcae"]):
            filecoders.loaded_codec.cache_clear()
            filecoders._usual_limit.cache_clear()
            arguments = [arguments[0], str(tmp_path / arguments[1]), *arguments[2:], *options, *more]
            assert CliRunner().invoke(main, arguments).exit_code == 0
    filecoders._usual_limit.cache_clear()
    assert found == [expected, expected, 4096, 4096]


def test_the_commands_keep_memory_for_the_next_arrays(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_picture(8, 8).save(tmp_path / "a.png")
    kept: list[str] = []
    for command in (["encode", str(tmp_path / "a.png"), "--no-fallback"], ["decode", str(tmp_path / "a.dcae")]):
        monkeypatch.setattr(process, "keep_memory", lambda command=command: kept.append(command[0]))
        filecoders.loaded_codec.cache_clear()
        assert CliRunner().invoke(main, [*command, "--model", str(tiny_path), "--force"]).exit_code == 0
    assert kept == ["encode", "decode"]


def test_free_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    whole = limits.free_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert (limits.free_memory() is None) == (whole is None)
    (tmp_path / "memory.max").write_text("5000\n")
    assert limits.free_memory() == 4000


@pytest.mark.parametrize("section", ["z", "y"])
def test_short_streams_end_the_work_early(
    tiny_model: CodingModel, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    """Before a network runs where z is too short, before the second slice where y is."""
    codec = Codec(tiny_model)
    whole = read_container(codec.encode(synthetic_picture(300, 200), 4))
    part = getattr(whole, section)[: len(getattr(whole, section)) // 32 * 4]
    data = write_container(dataclasses.replace(whole, **{section: part}))
    seen = []
    entropy_model = codec.engine.entropy_model("integer")
    for name in ("hyper_synthesis", "extend_context"):
        hook = getattr(entropy_model, name)
        monkeypatch.setattr(entropy_model, name, lambda *a, name=name, hook=hook: seen.append(name) or hook(*a))
    # By the bound on the cheapest symbols, by the length, or because the words that follow mean nothing.
    with pytest.raises(FileFormatError, match=r"too few for|shorter than its symbols|not valid"):
        codec.decode(data)
    assert seen == ([] if section == "z" else ["hyper_synthesis"])


def test_lengths_are_checked_against_what_the_symbols_cost(tiny_model: CodingModel) -> None:
    tables = SymbolTables(tiny_model.tables_y)
    generator = np.random.default_rng(0)
    for count in (0, 1, 5, 1000):
        for reach in (1, 300):
            rows = generator.integers(0, len(tables.tables.lengths), count).astype(np.uint8)
            symbols = tables.clamp(generator.integers(-reach, reach + 1, count, np.int32), rows)
            encoder = SymbolEncoder(tables)
            encoder.encode(symbols, rows)
            stream = encoder.finish()
            decoder = SymbolDecoder(tables, stream, "y")
            np.testing.assert_array_equal(decoder.decode(rows), symbols)
            decoder.check_length()
            assert 8 * len(stream) <= decoder._bits_read * 1.01 + 128
            if count >= 5:
                short = SymbolDecoder(tables, stream[: len(stream) // 8 * 4], "y")
                with pytest.raises(FileFormatError):
                    short.check_length() if len(short.decode(rows)) else None


@pytest.mark.parametrize("quality", [1e308, 10**400, -(10**400), 0.999, 8.001])
def test_absurd_qualities(tiny_model: CodingModel, quality: float) -> None:
    with pytest.raises(OptionError, match=r"outside 1\.\.8"):
        Codec(tiny_model).encode(synthetic_picture(1, 1), quality)


def test_bombs_are_pictures_that_cannot_be_read() -> None:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    assert len(file.getvalue()) < 200_000
    with pytest.raises(PictureError, match="pixels are more than the limit"):
        open_picture(file.getvalue())


def test_large_pictures_are_refused_before_they_are_decoded(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.png", tmp_path / "a.gif"
    Image.new("RGB", (65, 1)).save(path)
    Image.new("P", (65, 1)).save(other, save_all=True, append_images=[Image.new("P", (65, 1), 1)])
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
        for source in (path, path.read_bytes(), Image.open(path), other):
            with pytest.raises(PictureError, match="65x1 pixels, 8192 when padded"):
                dcae.encode(source, model=tiny_path, max_pixels=8191, frame=None if source != other else 1)
            with pytest.raises(PictureError, match="65x1 pixels, 8192 when padded"):
                Codec(tiny_path, max_pixels=8191).encode(source)
        arguments = ["encode", str(path), "--model", str(tiny_path), "--max-pixels", "8191"]
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1) and "--max-pixels" in result.stderr
    assert dcae.encode(path, model=tiny_path, max_pixels=8192)


def test_on_the_command_line_our_limit_is_the_only_one(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's, of 179 million pixels, cannot be raised there."""
    path = tmp_path / "a.png"
    Image.new("RGB", (65, 2)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    result = CliRunner().invoke(main, ["encode", str(path), "--model", str(tiny_path)])
    assert result.exit_code == 0, result.stderr
    assert Image.MAX_IMAGE_PIXELS == 64


def test_pictures_that_are_programs_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("ghostscript was called"))
    file = io.BytesIO()
    synthetic_picture(8, 8).save(file, "EPS")
    with pytest.raises(PictureError, match="EPS is not read"):
        open_picture(file.getvalue())


@pytest.mark.parametrize("suffix", ["gif", "pcx", "sgi", "tga", "jpg", "webp"])
def test_pictures_too_large_for_the_format_asked_for(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    source = tmp_path / "a.dcae"
    source.write_bytes(Codec(tiny_path).encode(synthetic_picture(1, 1)))
    monkeypatch.setattr(Codec, "decode_picture", lambda *_: Picture(np.zeros((1, 70_000, 3), np.uint8)))
    output = tmp_path / f"a.{suffix}"
    result = CliRunner().invoke(main, ["decode", str(source), "-o", str(output), "--model", str(tiny_path)])
    assert result.exit_code == 1
    assert "Pillow cannot write this picture" in result.stderr and result.stderr.count("\n") == 1
    assert not output.exists()


# -- memory ---------------------------------------------------------------------------------------------------

_MEASURE = """
import sys
from dcae.codec.codec import Codec
from dcae.eval.memory import peak_mib, reset_peak
action, engine, path = sys.argv[1:]
codec = Codec("lite", engine=engine)
data = open(path, "rb").read()
reset_peak()
before = peak_mib()
getattr(codec, action)(data)
print(peak_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are begun anew on Linux alone")
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_memory_is_as_promised(tmp_path: Path, engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    codec = Codec("lite")
    for width, height in ((64, 64), (1536, 1024)):
        picture = synthetic_picture(width, height)
        picture.save(tmp_path / "encode", "PNG")
        (tmp_path / "decode").write_bytes(codec.encode(picture, 6, correct_means=False))
        for action in ("encode", "decode"):
            arguments = [sys.executable, "-c", _MEASURE, action, engine, str(tmp_path / action)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=True, env=environment)
            taken = float(done.stdout) * 2**20
            assert 3 * width * height < taken < FIXED_BYTES + BYTES_PER_PIXEL * width * height, (action, width)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are begun anew on Linux alone")
@pytest.mark.slow
def test_memory_is_as_promised_where_a_picture_is_enlarged(tmp_path: Path) -> None:
    """Counted by the pixels that are shown, the tables and all."""
    width, height = 3072, 2048
    data = Codec("lite").encode(synthetic_picture(width, height), 1, correct_means=False, divisor=2)
    (tmp_path / "file").write_bytes(data)
    arguments = [sys.executable, "-c", _MEASURE, "decode", "onnx", str(tmp_path / "file")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=True, env=environment)
    taken = float(done.stdout) * 2**20
    assert 3 * width * height < taken < FIXED_BYTES + BYTES_PER_PIXEL * width * height


def test_reading_a_container_copies_its_payloads_once() -> None:
    from dcae.codec.container import Container, write_container
    from dcae.codec.fields import Header

    data = write_container(Container(Header(1, 1, 0, 0, 256, bytes(8), 0), b"", bytes(64 << 20)))
    reset_peak()
    before = peak_mib()
    assert len(read_container(data).y) == 64 << 20
    if before is not None and sys.platform.startswith("linux"):
        assert (peak_mib() or 0) - before < 80
