"""Super-resolution as a task of the training loop: data, loss, validation, exact resume, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import synthetic_picture

from dcae.cli import main
from dcae.errors import ModelFileError, OptionError
from dcae.sr.models import find_sr_model, load_network, new_network
from dcae.sr.protocol import resize
from dcae.sr.training.degradation import reduced
from dcae.sr.training.settings import KERNELS, SRSettings
from dcae.sr.training.task import SRTask, pixel_loss, start_from
from dcae.sr.training.validation import SIDE, Validator, held_out_pictures
from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint
from dcae.train.config import TrainConfig, effective_config
from dcae.train.data import Picture
from dcae.train.export import export_checkpoint
from dcae.train.families import FAMILIES
from dcae.train.loop import Interrupted, train
from dcae.train.processes import Group

FIELDS = {"channels": 8, "depth": 1}


def settings_of(data: Path, **changes: Any) -> SRSettings:
    """Of a run of seconds."""
    values: dict[str, Any] = {
        "data": str(data), "network": FIELDS, "patch": 32, "batch": 2, "steps": 4, "validation_pictures": 2,
        "precision": "float32", "warmup": 0,
    }  # fmt: skip
    return SRSettings.from_dict(values | changes)


@pytest.mark.parametrize("kernel", KERNELS)
def test_small_pictures_are_those_of_the_protocol(kernel: str) -> None:
    pixels = np.asarray(synthetic_picture(48, 24, 1))
    for scale in (2, 3, 4):
        found = reduced(torch.from_numpy(resize.to_float(pixels)).permute(2, 0, 1)[None], scale, kernel)
        wanted = resize.reduced(pixels, scale, kernel).astype(int)
        difference = (255 * found[0].permute(1, 2, 0)).round().int().numpy() - wanted
        # Sums in another order, which rounding only shows halfway between two levels.
        exact = 255 * resize.resized(resize.to_float(pixels), 1 / scale, kernel)
        halfway = abs(exact % 1 - 0.5) < 1e-3
        assert not difference[~halfway].any()
        assert abs(difference).max() <= 1


def test_training_gains_on_bicubic_and_is_exported(tmp_path: Path, training_pictures: Path) -> None:
    config = settings_of(training_pictures, steps=30, learning_rate=5e-4)
    out = train(config, tmp_path / "run")
    (row,) = load_checkpoint(out / BEST)["state"]["log"]
    assert row["gain"] > 0.1
    header = export_checkpoint(out, tmp_path / "m.safetensors", {"data": "drawn"})
    assert header.record["settings"]["task"] == "sr"
    assert header.record["data"] == "drawn"
    network = load_network(tmp_path / "m.safetensors")
    assert network.config == find_sr_model(str(tmp_path / "m.safetensors"), 2).config
    assert not any("parametrizations" in name for name in network.state_dict())
    # What was exported is what was validated.
    task = SRTask(config, Group(0, 1, "cpu"), None)
    validated = task._validator(network, lambda: False)
    task.close()
    assert validated is not None and validated.row["gain"] == pytest.approx(row["gain"], abs=2e-3)


def test_a_run_in_pieces_is_the_run_in_one(tmp_path: Path, training_pictures: Path) -> None:
    trunk = {"schedule": "constant", "learning_rate": 2e-3}
    straight = train(settings_of(training_pictures, steps=6, **trunk), tmp_path / "straight")
    for steps in (2, 6):
        pieces = train(settings_of(training_pictures, steps=steps, **trunk), tmp_path / "pieces", resume=True)
    one, other = (load_checkpoint(folder / CHECKPOINT) for folder in (straight, pieces))
    for name, value in one["network"].items():
        assert torch.equal(value, other["network"][name]), name
    for name, value in one["average"].items():
        assert torch.equal(value, other["average"][name]), name


def test_a_plain_picture_can_be_held_out(training_pictures: Path) -> None:
    """It is enlarged without error by anything, and what is infinite is never better."""
    task = SRTask(settings_of(training_pictures), Group(0, 1, "cpu"), None)
    try:
        plain = [np.full((96, 96, 3), 77, np.uint8)]
        validator = Validator(plain, task._degraded, task.group, task._validator._upscaler)
        found = validator(task.network, lambda: False)
    finally:
        task.close()
    assert found is not None and np.isfinite(found.score)


def test_the_learning_rate_follows_the_schedule(tmp_path: Path, training_pictures: Path) -> None:
    run = train(settings_of(training_pictures, steps=3, learning_rate=1e-2, final_fraction=0.0), tmp_path / "run")
    (optimizer,) = load_checkpoint(run / CHECKPOINT)["optimizers"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-2 * 0.25)  # cosine at two thirds


def test_a_decay_branches_off_and_a_run_of_another_task_does_not(tmp_path: Path, training_pictures: Path) -> None:
    trunk = train(settings_of(training_pictures, steps=2, schedule="constant"), tmp_path / "trunk")
    branch = train(settings_of(training_pictures, steps=2, decay=str(trunk), loss="mse"), tmp_path / "branch")
    assert load_checkpoint(branch / CHECKPOINT)["state"]["step"] == 4
    codec = TrainConfig(data=str(training_pictures), decay=str(trunk), steps=1)
    with pytest.raises(OptionError, match=r"of a run with other settings \(task\)"):
        train(codec, tmp_path / "codec")
    with pytest.raises(OptionError, match=r"of a run with other settings \(scale\)"):
        train(settings_of(training_pictures, scale=4, steps=4), trunk, resume=True)


@pytest.mark.parametrize(("loss", "value"), [("l1", 2), ("mse", 4), ("charbonnier", 2.0162)])
def test_losses_are_in_levels(loss: str, value: float) -> None:
    large = torch.zeros(1, 3, 4, 4)
    assert float(pixel_loss(loss, large + 2 / 255, large)) == pytest.approx(value, abs=1e-3)


def test_ms_ssim_is_a_loss() -> None:
    pytest.importorskip("pytorch_msssim", reason="the loss needs pytorch-msssim")
    large = torch.from_numpy(resize.to_float(np.asarray(synthetic_picture(176, 161)))).permute(2, 0, 1)[None]
    assert float(pixel_loss("ms-ssim", large, large)) == pytest.approx(0, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(large, 5, 1, 2, count_include_pad=False)
    assert 0.01 < float(pixel_loss("ms-ssim", blurred, large)) < 1


def test_weights_of_another_scale_are_a_start(tmp_path: Path, training_pictures: Path) -> None:
    run = train(settings_of(training_pictures, steps=2, network=FIELDS | {"unshuffle": 1}), tmp_path / "run")
    network = new_network({"preset": "sr-small", "scale": 4, **FIELDS})
    untouched = network.tail.weight.clone()
    start_from(network, str(run))
    exported = export_checkpoint(run, tmp_path / "m.safetensors", {}).path
    assert torch.allclose(network.head.weight, load_network(exported).head.weight)
    assert torch.equal(network.tail.weight, untouched)
    with pytest.raises(ModelFileError, match="no checkpoint"):
        start_from(network, str(tmp_path))


def test_a_network_grown_from_another_scale_has_a_filter_of_its_own(tmp_path: Path, training_pictures: Path) -> None:
    run = train(settings_of(training_pictures, steps=1), tmp_path / "run")
    scratch = SRTask(settings_of(training_pictures, scale=4), Group(0, 1, "cpu"), None)
    grown = SRTask(settings_of(training_pictures, scale=4, init=str(run)), Group(0, 1, "cpu"), None)
    for task in (scratch, grown):
        task.close()
        task.network.fold()
    assert torch.equal(grown.network.linear.weight, scratch.network.linear.weight)
    # Four equal pixels for one: the head sees what the other one's would see of a picture enlarged by repetition.
    small = load_network(export_checkpoint(run, tmp_path / "m.safetensors", {}).path)
    x = torch.rand(1, 3, 6, 5)
    repeated = torch.nn.functional.pixel_unshuffle(x.repeat_interleave(2, 2).repeat_interleave(2, 3), 2)
    assert torch.allclose(grown.network.head(x), small.head(repeated), atol=1e-5)


def test_held_out_pictures_are_of_many_sources() -> None:
    pictures = [Picture(np.full((500, 20, 3), k, np.uint8), source, False) for k, source in enumerate("aaabbcdddd")]
    assert [p[0, 0, 0] for p in held_out_pictures(pictures, 2)] == [0, 5]
    assert [p[0, 0, 0] for p in held_out_pictures(pictures, 5)] == [0, 3, 5, 6, 1]
    assert held_out_pictures(pictures, 1)[0].shape == (SIDE, 20, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 5}, "scale must be in 2..4"),
        ({"scale": 3, "patch": 64}, "a multiple of the scale 3"),
        ({"patch": 8}, "at least 16"),
        ({"model": "lite"}, "unknown model 'lite'"),
        ({"loss": "vgg"}, "unknown loss 'vgg'"),
        ({"loss": "ms-ssim", "patch": 160}, "patches of at least 161"),
        ({"codec_qualities": "3..1"}, "codec_qualities = '3..1': a range is LOW..HIGH"),
        ({"network": {"scale": 3}}, "scale: a setting of its own"),
        ({"lambdas": [1.0]}, "unknown settings in settings: lambdas"),
        ({"task": "codec"}, "settings of the task 'codec'"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SRSettings.from_dict(values)


def test_settings_go_into_a_checkpoint_and_back() -> None:
    config = SRSettings(scale=4, patch=(64, 128), network=FIELDS)
    assert config.to_dict()["task"] == "sr"
    assert effective_config(None, {}, config.to_dict(), SRSettings) == config
    with pytest.raises(OptionError, match="settings of the task 'sr'"):
        effective_config(None, {}, config.to_dict())


def test_the_command_trains_and_stops_with_a_checkpoint(
    tmp_path: Path, training_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("patch = 32\nbatch = 2\nvalidation_pictures = 1\n[network]\nchannels = 8\ndepth = 1\n")
    words = ["train", "--task", "sr", "--scale", "3", "--data", str(training_pictures)]
    words += ["--recipe", str(recipe), "--steps", "2", "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and "a multiple of the scale 3" in done.output, done.output
    done = CliRunner().invoke(main, [*words, "--patch", "48"])
    assert done.exit_code == 0, done.output
    assert load_network(tmp_path / "run" / "model.safetensors").config.scale == 3
    monkeypatch.setattr("dcae.train.loop._Stop.asked", True, raising=False)
    monkeypatch.setattr("dcae.train.loop._Stop.__init__", lambda self: setattr(self, "_before", {}))
    with pytest.raises(Interrupted, match="can be continued"):
        train(settings_of(training_pictures, steps=50), tmp_path / "stopped")
    assert load_checkpoint(tmp_path / "stopped" / CHECKPOINT)["state"]["step"] == 0


@pytest.mark.parametrize(
    ("task", "own", "other"), [("sr", "--degradation", "--lambda"), ("codec", "--lambda", "--loss")]
)
def test_help_lists_the_settings_of_the_task(task: str, own: str, other: str) -> None:
    for words in (["--task", task], [f"--task={task}"]):
        done = CliRunner().invoke(main, ["train", *words, "--help"])
        assert done.exit_code == 0
        assert own in done.output and other not in done.output and "--learning-rate" in done.output
    assert "'other' is not one of" in CliRunner().invoke(main, ["train", "--task", "other", "-o", "x"]).output
    assert set(FAMILIES) == {"codec", "sr", "tables"}
