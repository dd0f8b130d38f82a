"""The training loop on a handful of small pictures: it learns, continues, exports, and its model codes."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image

from dcae.codec.codec import Codec
from dcae.errors import ModelFileError, OptionError

pytest.importorskip("compressai", reason="training needs compressai")

from dcae.train.config import TrainConfig
from dcae.train.data import Patches, load_folder, split
from dcae.train.export import export_checkpoint
from dcae.train.loop import train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth pictures with edges, and files that must be skipped."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for k in range(6):
        rows, columns = np.mgrid[0:160, 0:192] / 30.0
        waves = np.stack([np.sin(rows * (1 + k) + c) * np.cos(columns - c) for c in range(3)], -1)
        waves += (columns > 1 + 0.7 * k)[..., None]
        pixels = np.clip(110 + 60 * waves + rng.normal(0, 3, waves.shape), 0, 255).astype(np.uint8)
        (folder / "sub").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "sub" / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (16, 16)).save(folder / "tiny.png")
    return folder


def _settings(**changes: object) -> TrainConfig:
    values: dict[str, object] = {"overrides": TINY, "steps": 12, "batch": 4, "patch": 64, "warmup": 4, "bf16": False}
    return TrainConfig(**(values | changes))  # type: ignore[arg-type]


def test_learns_exports_and_codes(pictures: Path, tmp_path: Path) -> None:
    checkpoint = train(_settings(steps=40, batch=4, ema=0.9), pictures, tmp_path / "run")
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["state"]["step"] == 40
    assert saved["state"]["skipped"] == 0
    first = train(_settings(steps=1), pictures, tmp_path / "untrained")
    before = torch.load(first, weights_only=True)["state"]["log"][-1]["score"]
    assert saved["state"]["log"][-1]["score"] < 0.7 * before

    header = export_checkpoint(checkpoint, tmp_path / "model.safetensors", {"data": "synthetic"})
    assert header.record["patches"] == 160
    assert header.record["data"] == "synthetic"
    codec = Codec(tmp_path / "model.safetensors")
    picture = Image.open(pictures / "sub" / "0.png")
    sizes = []
    for quality in (1.0, 8.0):
        data = codec.encode(picture, quality)
        decoded = np.asarray(codec.decode(data), float)
        psnr = 10 * np.log10(255**2 / np.square(decoded - np.asarray(picture, float)).mean())
        assert psnr > 18
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


def test_file_bytes_agree_with_the_estimate(pictures: Path, tmp_path: Path) -> None:
    """The likelihoods that training minimises are what the range coder spends, within 2 % and the container."""
    from dcae.config import config_from_dict
    from dcae.presets import build_model
    from dcae.train.loop import to_tensor

    checkpoint = train(_settings(steps=10), pictures, tmp_path / "run")
    export_checkpoint(checkpoint, tmp_path / "model.safetensors", {})
    saved = torch.load(checkpoint, weights_only=True)
    network = build_model(config_from_dict(saved["config"])).eval()
    network.load_state_dict(saved["average"])
    picture = Image.open(pictures / "sub" / "3.png").resize((512, 384), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    for quality in (2.0, 7.0):
        with torch.no_grad():
            output = network(to_tensor(pixels[None].copy(), "cpu"), quality)
        bits = sum(-v.log2().sum().item() for v in output["likelihoods"].values())
        size = len(Codec(tmp_path / "model.safetensors").encode(picture, quality))
        assert abs(size - 55 - bits / 8) < 0.02 * size + 16


def test_continues_from_its_checkpoint(pictures: Path, tmp_path: Path) -> None:
    train(_settings(steps=3), pictures, tmp_path)
    checkpoint = train(_settings(steps=7), pictures, tmp_path)
    state = torch.load(checkpoint, weights_only=True)["state"]
    assert state["step"] == 7
    assert state["patches"] == 28
    assert len(state["log"]) == 2


def test_continuing_another_run_is_refused(pictures: Path, tmp_path: Path) -> None:
    train(_settings(steps=1), pictures, tmp_path)
    for other in (_settings(optimizer="adam"), _settings(overrides=TINY | {"lambdas": [0.0067]})):
        with pytest.raises(OptionError, match="another output folder"):
            train(other, pictures, tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        train(_settings(), pictures, tmp_path)


def test_adam_and_single_lambda(pictures: Path, tmp_path: Path) -> None:
    settings = _settings(steps=2, optimizer="adam", overrides=TINY | {"lambdas": [0.0067]})
    checkpoint = train(settings, pictures, tmp_path)
    header = export_checkpoint(checkpoint, tmp_path / "model.safetensors", {})
    assert header.config.lambdas == (0.0067,)


def test_folder_is_read_with_its_faults_reported(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = load_folder(pictures, 64)
    assert [p.shape for p in found] == [(160, 192, 3)] * 6
    assert any("broken.jpg" in m and "unreadable" in m for m in caplog.messages)
    assert any("tiny.png" in m and "smaller" in m for m in caplog.messages)


def test_bad_input_is_one_clear_error(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such folder"):
        train(_settings(), tmp_path / "missing", tmp_path)
    with pytest.raises(OptionError, match="no picture"):
        train(_settings(patch=256), pictures, tmp_path)
    with pytest.raises(OptionError, match="multiple of 64"):
        _settings(patch=100)
    with pytest.raises(OptionError, match="unknown optimizer"):
        _settings(optimizer="sgd")
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        export_checkpoint(tmp_path / "x.pt", tmp_path / "m.safetensors", {})


def test_patches_are_reproducible_and_vary(pictures: Path) -> None:
    training, held_out = split(load_folder(pictures, 64))
    assert len(held_out) == 1
    first, again = (Patches(training, 64, 0.5, np.random.default_rng(3)).batch(6) for _ in range(2))
    assert first.shape == (6, 64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert len({patch.tobytes() for patch in first}) == 6


def test_command_without_compressai_says_so(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from click.testing import CliRunner

    from dcae.cli import main

    monkeypatch.setitem(sys.modules, "compressai.entropy_models", None)
    result = CliRunner().invoke(main, ["train", "--data", str(pictures), "-o", str(tmp_path / "run"), "--steps", "1"])
    assert result.exit_code == 1
    assert "pip install compressai" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_command_trains_one_lambda_and_its_model_encodes(pictures: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dcae.cli import main

    run = CliRunner()
    options = ["--lambda", "0.0018", "--data", str(pictures), "--steps", "2", "--batch", "2", "--patch", "64"]
    assert run.invoke(main, ["train", *options, "-o", str(tmp_path / "run")]).exit_code == 0
    model = str(tmp_path / "run" / "model.safetensors")
    picture = str(pictures / "sub" / "1.png")
    encoded = run.invoke(main, ["encode", picture, "-o", "-", "--model", model, "-q", "1"])
    assert encoded.exit_code == 0
    decoded = run.invoke(main, ["decode", "-", "-o", "-", "--model", model], input=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    assert Image.open(io.BytesIO(decoded.stdout_bytes)).size == (192, 160)
