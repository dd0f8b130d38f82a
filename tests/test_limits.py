"""Limits that hold before anything is allocated, and the memory that docs/format.md promises."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fuzz.structure import ModelParts
from helpers import TINY, synthetic_picture
from PIL import EpsImagePlugin, Image

from dcae.cli import main
from dcae.codec.codec import SMALL_PIXELS, Codec
from dcae.codec.container import read_container
from dcae.codec.picture import open_picture
from dcae.errors import DCAEError, FileFormatError, ModelFileError, OptionError, PictureError
from dcae.eval.memory import peak_mib, reset_peak
from dcae.models.modelfile import MAX_DEPTH, MAX_HEADER, CodingModel, load_model, read_header
from dcae.networks.config import MAX_CHANNELS, LiteConfig, PaperConfig, config_from_dict

BYTES_PER_PIXEL = 256
"""What docs/format.md promises for decoding with `lite`, per padded pixel."""

# -- pictures -------------------------------------------------------------------------------------------------


def test_padding_counts(tiny_model: CodingModel) -> None:
    """One row of pixels costs as much as 64."""
    codec = Codec(tiny_model, max_pixels=100_000)
    for size in ((16384, 1), (1, 16384), (3000, 33), (310, 320)):
        codec._check_size(*size, FileFormatError)
    for size in ((16385, 1), (1, 99_999), (90_000, 1)):
        with pytest.raises(FileFormatError, match="when padded to"):
            codec._check_size(*size, FileFormatError)
    with pytest.raises(PictureError, match="90000x1 pixels are more than the limit of 100000 when padded to 5763072"):
        codec.encode(Image.new("RGB", (90_000, 1)))
    largest = Codec(tiny_model)
    assert 16_777_215 * 64 > 2 * largest.max_pixels > SMALL_PIXELS
    with pytest.raises(FileFormatError, match="when padded"):
        largest._check_size(16_777_215, 10, FileFormatError)


@pytest.mark.parametrize("quality", [1e308, 10**400, -(10**400), 0.999, 8.001])
def test_absurd_qualities(tiny_model: CodingModel, quality: float) -> None:
    with pytest.raises(OptionError, match=r"outside 1\.\.8"):
        Codec(tiny_model).encode(synthetic_picture(1, 1), quality)


def test_bombs_are_pictures_that_cannot_be_read() -> None:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    assert len(file.getvalue()) < 200_000
    with pytest.raises(PictureError, match="decompression bomb"):
        open_picture(file.getvalue())


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
    monkeypatch.setattr(Codec, "decode", lambda *_: Image.new("RGB", (70_000, 1)))
    output = tmp_path / f"a.{suffix}"
    result = CliRunner().invoke(main, ["decode", str(source), "-o", str(output), "--model", str(tiny_path)])
    assert result.exit_code == 1
    assert "Pillow cannot write this picture" in result.stderr and result.stderr.count("\n") == 1
    assert not output.exists()


# -- model files ----------------------------------------------------------------------------------------------


@pytest.fixture
def written(tiny_path: Path, tmp_path: Path) -> Callable[[Callable[[ModelParts], Any]], Path]:
    """A function that writes the tiny model after a change, with the right id."""

    def write(change: Callable[[ModelParts], Any]) -> Path:
        parts = ModelParts(tiny_path.read_bytes())
        change(parts)
        parts.set_id()
        path = tmp_path / "changed.safetensors"
        path.write_bytes(parts.write())
        return path

    return write


Written = Callable[[Callable[[ModelParts], Any]], Path]


def _set(parts: ModelParts, name: str, values: Any, kind: str) -> None:
    parts.tensors[name][2] = np.broadcast_to(np.array(values, kind), parts.tensors[name][1]).tobytes()


def test_the_tool_writes_the_same_model(written: Written, tiny_model: CodingModel) -> None:
    assert load_model(written(lambda parts: None)).header.id == tiny_model.header.id


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [10**9, 32]},
        {"widths": [16, -32]},
        {"widths": [16.0, 32]},
        {"widths": [True, 32]},
        {"widths": 16},
        {"hyper_channels": 10**9},
        {"hyper_channels": 0},
        {"hyper_channels": "16"},
        {"hyper_channels": None},
        {"dictionary_entries": 0},
        {"dictionary_entries": MAX_CHANNELS + 1},
        {"window": 17},
        {"window": 10**6},
        {"layers": ["C" * 65, "S"]},
        {"layers": [["C"], "S"]},
        {"slices": [1] * 5000, "latent_channels": 5000},
        {"slices": "88", "latent_channels": 16},
        {"slices": [8.9, 24]},
        {"lambdas": [10**400]},
        {"lambdas": [True]},
        {"lambdas": ["0.1"]},
        {"lambdas": []},
        {"expansions": [64, 64], "widths": [4096, 4096]},
        {"preset": ["lite"]},
        {"preset": "lite\x1b[2J"},
        {"dictionary_entries": 4096, "dictionary_width": 4096, "head_channels": 1},
    ],
    ids=str,
)
def test_configurations_that_no_network_has(change: dict[str, Any]) -> None:
    config = LiteConfig(**TINY).to_dict()
    config_from_dict(config)
    with pytest.raises(OptionError):
        config_from_dict(config | change)


def test_presets_are_far_from_the_limits() -> None:
    LiteConfig(widths=(512, 1024), expansions=(4, 4), context_width=512)
    PaperConfig(dictionary_entries=512)
    with pytest.raises(OptionError, match="80 numbers per pixel, the limit is 64"):
        PaperConfig(dictionary_entries=1024)


def test_weights_that_are_not_in_the_file_are_not_allocated(written: Written) -> None:
    """Sizes that a configuration may have, in a file that has nothing of that size."""
    huge = {"widths": [1024, 4096], "layers": ["C" * 60, "C" * 60], "expansions": [1, 1]}
    tiny = LiteConfig(**TINY).to_dict()
    for config in (tiny | huge, tiny | {"hyper_width": 4096}, PaperConfig(hyper_channels=16).to_dict()):
        path = written(lambda parts, config=config: parts.header.update(config=config))
        reset_peak()
        before = peak_mib()
        with pytest.raises(ModelFileError, match=r"more weights than the \d+ numbers in the file"):
            load_model(path)
        if before is not None:
            assert (peak_mib() or 0) - before < 32


def test_loading_draws_no_random_numbers(tiny_path: Path) -> None:
    state = torch.get_rng_state()
    load_model(tiny_path)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -32768.0])
def test_medians_out_of_range(written: Written, value: float) -> None:
    with pytest.raises(ModelFileError, match="medians"):
        load_model(written(lambda parts: _set(parts, "z_median", value, "f4")))


def test_largest_negative_gain(written: Written) -> None:
    """int32 has no absolute value of it."""
    with pytest.raises(ModelFileError, match="gain table is out of range"):
        load_model(written(lambda parts: _set(parts, "exact.gains", -(2**31), "i4")))


def test_headers_of_any_size_and_depth(tiny_path: Path, tmp_path: Path) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    path = tmp_path / "m.safetensors"
    for depth, fits in ((MAX_DEPTH - 2, True), (MAX_DEPTH - 1, False), (900, False)):
        value: Any = 0
        for _ in range(depth):
            value = [value]
        parts.header["record"] = {"deep": value}
        path.write_bytes(parts.write())
        if fits:
            assert json.dumps(read_header(path).record)
        else:
            with pytest.raises(ModelFileError, match="record"):
                read_header(path)
    parts.header["record"] = {"long": "x" * MAX_HEADER}
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match=f"the limit is {MAX_HEADER}"):
        read_header(path)


@pytest.mark.parametrize("identity", ["AB" * 32, "ab " * 32, " " + "ab" * 32, "ab" * 32 + "\n"])
def test_ids_are_written_in_one_way(tiny_path: Path, tmp_path: Path, identity: str) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    parts.header["id"] = identity
    path = tmp_path / "m.safetensors"
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match="id"):
        read_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in folders")
def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "pipe.safetensors"
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="not a file"):
        read_header(path)


def test_messages_do_nothing_to_a_terminal(tiny_path: Path, tmp_path: Path) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    parts.header["format"] = "\x1b[2J\ud800\n\r\x9b" * 1000
    path = tmp_path / "m.safetensors"
    path.write_bytes(parts.write())
    result = CliRunner().invoke(main, ["info", str(path)])
    assert result.exit_code == 1
    assert result.stderr.endswith("\n") and result.stderr[:-1].isprintable() and len(result.stderr) < 1200


# -- memory ---------------------------------------------------------------------------------------------------

_MEASURE = """
import sys
import torch
from dcae.codec.codec import Codec
from dcae.eval.memory import peak_mib, reset_peak
torch.set_num_threads(1)
codec = Codec("lite")
small, large = (open(path, "rb").read() for path in sys.argv[1:])
codec.decode(small)
reset_peak()
before = peak_mib()
codec.decode(large)
print(peak_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are begun anew on Linux alone")
@pytest.mark.slow
def test_memory_of_decoding_is_as_promised(tmp_path: Path) -> None:
    codec = Codec("lite")
    width, height = 1024, 704
    for name, size in (("small", (64, 64)), ("large", (width, height))):
        (tmp_path / name).write_bytes(codec.encode(synthetic_picture(*size), 6))
    arguments = [sys.executable, "-c", _MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=True)
    grown = float(done.stdout) * 2**20 / width / height
    assert 20 < grown < BYTES_PER_PIXEL
    document = Path(__file__).parents[1] / "docs" / "format.md"
    assert f"{BYTES_PER_PIXEL} bytes per pixel" in document.read_text(encoding="utf-8")


def test_reading_a_container_copies_its_payloads_once() -> None:
    from dcae.codec.container import Container, Header, write_container

    data = write_container(Container(Header(1, 1, 0, 0, 256, bytes(8), 0), b"", bytes(64 << 20)))
    reset_peak()
    before = peak_mib()
    assert len(read_container(data).y) == 64 << 20
    if before is not None and sys.platform.startswith("linux"):
        assert (peak_mib() or 0) - before < 80


def test_one_family() -> None:
    assert all(issubclass(kind, DCAEError) for kind in (FileFormatError, ModelFileError, OptionError, PictureError))
