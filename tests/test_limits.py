"""Limits that hold before anything is allocated, and the memory that docs/format.md promises."""

from __future__ import annotations

import dataclasses
import io
import json
import math
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
from dcae.codec import limits
from dcae.codec.codec import Codec
from dcae.codec.coder import SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.codec.container import read_container, write_container
from dcae.codec.limits import BYTES_PER_PIXEL, FIXED_BYTES, MAX_PIXELS, check_size
from dcae.codec.picture import open_picture
from dcae.errors import DCAEError, FileFormatError, ModelFileError, OptionError, PictureError
from dcae.eval.memory import peak_mib, reset_peak
from dcae.models.modelfile import CodingModel, load_model, read_header
from dcae.models.stored import MAX_BRACKETS, MAX_DEPTH, MAX_HEADER
from dcae.networks.config import MAX_CHANNELS
from dcae.networks.lite.config import LiteConfig
from dcae.networks.paper.config import PaperConfig
from dcae.networks.registry import config_from_dict

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
    gigabytes = f"{(MAX_PIXELS * BYTES_PER_PIXEL + FIXED_BYTES) / 1e9:.1f} GB"
    for text in (readme, document, " ".join((Codec.__doc__ or "").split())):
        assert promised in text and gigabytes in text
    bits = float(Codec("lite")._coder.tables_z.least_bits().sum())
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
    monkeypatch.setattr(limits, "_free_memory", lambda: free)
    init = Codec.__init__
    monkeypatch.setattr(Codec, "__init__", lambda self, *a: found.append(a[2]) or init(self, *a))
    options = ["--model", str(tiny_path), "--force"]
    for more in ([], ["--max-pixels", "4096"]):
        for arguments in (["encode", "a.png"], ["decode", "a.dcae"]):
            arguments = [arguments[0], str(tmp_path / arguments[1]), *options, *more]
            assert CliRunner().invoke(main, arguments).exit_code == 0
    assert found == [expected, expected, 4096, 4096]


def test_free_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    whole = limits._free_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert (limits._free_memory() is None) == (whole is None)
    (tmp_path / "memory.max").write_text("5000\n")
    assert limits._free_memory() == 4000


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


@pytest.mark.parametrize("name", ["x", "z_median", "exact.value_shift", "tables.y.lengths", "network.dictionary"])
@pytest.mark.parametrize(
    "shape",
    [[1] * 9, [1] * 33, [1] * 65, [0] * 33, [0, 2**62], [2**62, 0], [0, 2**63], [2**64 - 1, 0], [0, 2**40 + 1]],
    ids=lambda shape: f"{len(shape)} of {max(shape)}",
)
def test_shapes_that_no_array_has(written: Written, name: str, shape: list[int]) -> None:
    """NumPy and torch refuse them with errors of their own, even where they hold nothing."""

    def change(parts: ModelParts) -> None:
        kind = parts.tensors.get(name, ["F32"])[0]
        size = np.dtype({"I32": "i4", "I8": "i1", "F16": "f2"}.get(kind, "f4")).itemsize
        parts.tensors[name] = [kind, shape, bytes(0 if 0 in shape else size)]

    with pytest.raises(ModelFileError, match=r"tensor .* which no model has") as found:
        load_model(written(change))
    assert "\n" not in str(found.value)


def test_names_are_compared_before_torch_searches_them(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its search goes through all names once for every module: seconds for a header of a few megabytes."""
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: pytest.fail("torch has been asked"))

    def many(parts: ModelParts) -> None:
        parts.tensors |= {f"network.g_a.{k}": ["F32", [0], b""] for k in range(1000)}

    with pytest.raises(ModelFileError, match=r"1000 tensors too many or too few, among them 'g_a\.0'"):
        load_model(written(many))


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
    parts.header["record"] = {"many": [[]] * MAX_BRACKETS}
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match="lists and objects"):
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
