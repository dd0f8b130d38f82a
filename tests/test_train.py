"""The training loop on a handful of small pictures: it learns, continues, exports, and its model codes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY, assert_same, training_settings
from PIL import Image

from dcae.codec.codec import Codec
from dcae.errors import ModelFileError, OptionError
from dcae.models.stored import read_model

pytest.importorskip("compressai", reason="training needs compressai")

from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint, save_checkpoint
from dcae.train.config import TrainConfig, effective_config, read_recipe, recipes
from dcae.train.export import export_checkpoint
from dcae.train.init import initial_network
from dcae.train.loop import train


@pytest.fixture(scope="module")
def pictures(training_pictures: Path) -> Path:
    """The folder of training pictures under a short name."""
    return training_pictures


def _script(source: str, *arguments: str, processes: int = 1, **environment: str) -> list[str]:
    """The command line of a Python process that imports the package under test."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, source, *arguments]


@pytest.mark.slow
def test_learns_exports_and_codes(pictures: Path, tmp_path: Path) -> None:
    run = train(training_settings(pictures, steps=40, ema=0.9), tmp_path / "run")
    state = load_checkpoint(run / CHECKPOINT)["state"]
    assert state["step"] == 40
    assert state["skipped"] == 0
    before = train(training_settings(pictures, steps=1), tmp_path / "untrained")
    assert state["best"] < load_checkpoint(before / CHECKPOINT)["state"]["best"] - 0.3  # J fell by a quarter or more

    header = export_checkpoint(run, tmp_path / "model.safetensors", {"source": "synthetic"})
    assert header.record["patches"] == 160
    assert header.record["source"] == "synthetic"
    assert header.record["settings"] == training_settings(pictures, steps=40, ema=0.9).to_dict()
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


_RUN = """
import json, sys
from pathlib import Path
import torch
from dcae.train.config import TrainConfig
from dcae.train.init import initial_network
from dcae.train.loop import train
torch.set_num_threads(1)
train(TrainConfig.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_killed_and_continued_is_the_same_as_never_killed(pictures: Path, tmp_path: Path, number: int) -> None:
    """24 steps at once, and 24 with a kill somewhere after the 10th: the same weights, bit for bit."""
    settings = training_settings(pictures, steps=24, ema=0.9, batch=2, optimizer="soap")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        straight = load_checkpoint(train(settings, tmp_path / "straight") / CHECKPOINT)
        script = tmp_path / "run.py"
        script.write_text(_RUN)
        # Slow enough to be caught: a validation, and with it a checkpoint, after every step.
        slow = json.dumps(settings.to_dict() | {"validate_every": 1e-9})
        run = tmp_path / "killed"
        process = subprocess.Popen(_script(str(script), slow, str(run)), stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not ((run / CHECKPOINT).exists() and load_checkpoint(run / CHECKPOINT)["state"]["step"] >= 10):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        message = process.communicate()[1]
        caught = load_checkpoint(run / CHECKPOINT)["state"]["step"]
        assert 10 <= caught < 24
        if number == signal.SIGTERM:
            assert "can be continued with --resume auto" in message
        best = load_checkpoint(run / CHECKPOINT)["state"]["best"]
        continued = load_checkpoint(train(settings, run, resume=True) / CHECKPOINT)
    finally:
        torch.set_num_threads(threads)
    assert continued["state"]["best"] <= best
    assert continued["state"]["step"] == straight["state"]["step"] == 24
    assert continued["state"]["patches"] == straight["state"]["patches"] == 48
    assert continued["state"]["log"][-1]["score"] == straight["state"]["log"][-1]["score"]
    for part in ("network", "average"):
        for name, value in straight[part].items():
            assert torch.equal(value, continued[part][name]), name
    assert_same(straight["optimizers"], continued["optimizers"])


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
@pytest.mark.slow
def test_two_processes_are_one_with_the_whole_batch(pictures: Path, tmp_path: Path, optimizer: str) -> None:
    script = str(Path(__file__).with_name("ddp_run.py"))
    rows, weights = [], []
    for processes in (1, 2):
        settings = training_settings(
            pictures, steps=6, batch=4 // processes, optimizer=optimizer, validation_pictures=4
        )
        out = tmp_path / str(processes)
        command = _script(script, json.dumps(settings.to_dict()), str(out), processes=processes)
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        assert "Grad strides" not in done.stderr
        saved = load_checkpoint(out / CHECKPOINT)
        assert saved["state"]["patches"] == 24
        rows.append(saved["state"]["log"][-1])
        weights.append(torch.cat([v.flatten() for k, v in saved["network"].items() if k.startswith("g_a")]))
    torch.manual_seed(settings.seed)
    start = torch.cat([v.flatten() for k, v in initial_network(settings).state_dict().items() if k.startswith("g_a")])
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-3)
    assert rows[0]["score"] == pytest.approx(rows[1]["score"], abs=1e-3)
    assert np.allclose(rows[0]["brightness"], rows[1]["brightness"], atol=0.02)  # each measured half of the pictures
    moved = (weights[0] - start).norm()
    assert (weights[0] - weights[1]).norm() < 0.05 * moved
    # The sharded optimiser's state came back whole: one process continues what two began, and the other way round.
    more = training_settings(pictures, steps=8, batch=2, optimizer=optimizer)
    assert load_checkpoint(train(more, tmp_path / "2", resume=True) / CHECKPOINT)["state"]["step"] == 8
    more = training_settings(pictures, steps=8, batch=4, optimizer=optimizer)
    command = _script(script, json.dumps(more.to_dict()), str(tmp_path / "1"), processes=2)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "1" / CHECKPOINT)["state"]["step"] == 8


def test_continuing(pictures: Path, tmp_path: Path) -> None:
    train(training_settings(pictures, steps=3), tmp_path)
    with pytest.raises(OptionError, match="--resume auto"):
        train(training_settings(pictures, steps=7), tmp_path)
    train(training_settings(pictures, steps=7), tmp_path, resume=True)
    state = load_checkpoint(tmp_path / CHECKPOINT)["state"]
    assert state["step"] == 7
    assert state["patches"] == 28
    assert len(state["log"]) == 2
    for other in (
        {"optimizer": "soap"},
        {"network": TINY | {"residual_width": 4}},
        {"lambdas": 0.0067},
        {"seed": 2},
        {"perceptual_weight": 1.0},
    ):
        with pytest.raises(OptionError, match=f"other settings .{next(iter(other))}.*another folder"):
            train(training_settings(pictures, **other), tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        train(training_settings(pictures), tmp_path, resume=True)


def test_a_checkpoint_without_weights_to_go_on_with_is_refused(tmp_path: Path, pictures: Path) -> None:
    run = train(training_settings(pictures), tmp_path / "run")
    (tmp_path / "other").mkdir()
    shutil.copy(run / BEST, tmp_path / "other" / CHECKPOINT)
    with pytest.raises(ModelFileError, match="cannot be continued"):
        train(training_settings(pictures, steps=99), tmp_path / "other", resume=True)


def test_the_best_validation_is_exported(pictures: Path, tmp_path: Path) -> None:
    train(training_settings(pictures, steps=2), tmp_path)
    saved = load_checkpoint(tmp_path / BEST)
    assert saved["optimizers"] == []
    saved["average"] = {k: torch.full_like(v, 0.25) if k == "dictionary" else v for k, v in saved["average"].items()}
    save_checkpoint(tmp_path / BEST, saved)
    from safetensors.torch import load_file

    for source, is_best in ((tmp_path, True), (tmp_path / CHECKPOINT, False)):
        export_checkpoint(source, tmp_path / "m.safetensors", {})
        dictionary = load_file(tmp_path / "m.safetensors")["network.dictionary"]
        assert (dictionary == 0.25).all().item() == is_best
    with pytest.raises(ModelFileError, match="no checkpoint of dcae train in this folder"):
        export_checkpoint(pictures, tmp_path / "m.safetensors", {})


def test_a_full_disk_leaves_the_old_checkpoint(pictures: Path, tmp_path: Path) -> None:
    """A real limit on file size stands in for the disk; it ends in our error, with the older file whole."""
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, {k: {} for k in ("config", "train", "network", "average", "optimizers", "state")})
    before = path.read_bytes()
    script = tmp_path / "fill.py"
    script.write_text(
        "import resource, signal, sys\nfrom pathlib import Path\nimport torch\n"
        "from dcae.errors import DCAEError\nfrom dcae.train.checkpoint import save_checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    save_checkpoint(Path(sys.argv[1]), {'network': torch.zeros(10**6)})\n"
        "except DCAEError as error:\n    print(error)\n"
    )
    done = subprocess.run(_script(str(script), str(path)), capture_output=True, text=True)
    assert "cannot be written" in done.stdout, done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_steps_that_are_not_finite_are_skipped_and_counted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcae.errors import DCAEError
    from dcae.train import codec_task, run

    honest, calls = codec_task.balanced, []

    def sometimes(*arguments: Any) -> Any:
        calls.append(0)
        return honest(*arguments) * (float("nan") if len(calls) % 3 == 0 else 1.0)

    monkeypatch.setattr(codec_task, "balanced", sometimes)
    state = load_checkpoint(train(training_settings(pictures, steps=9), tmp_path / "some") / CHECKPOINT)
    assert state["state"]["skipped"] == 3
    assert all(v.isfinite().all() for v in state["network"].values() if v.is_floating_point())

    monkeypatch.setattr(codec_task, "balanced", lambda loss, *_: loss * float("nan"))
    monkeypatch.setattr(run, "_SKIPPED_IN_A_ROW", 3)
    with pytest.raises(DCAEError, match="3 steps in a row"):
        train(training_settings(pictures), tmp_path / "all")


@pytest.mark.slow
def test_ms_ssim_and_several_lambdas(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at least 192"):
        training_settings(pictures, metric="ms-ssim")
    large = tmp_path / "large"
    large.mkdir()
    for k in range(2):
        Image.open(pictures / "sub" / f"{k}.png").resize((256, 256)).save(large / f"{k}.png")
    with pytest.raises(OptionError, match="give the λ of ms-ssim"):
        train(training_settings(large, metric="ms-ssim", patch=192), tmp_path / "run")
    settings = training_settings(large, metric="ms-ssim", patch=192, batch=2, steps=2, lambdas="2.4, 60.5")
    header = export_checkpoint(train(settings, tmp_path / "run"), tmp_path / "m.safetensors", {})
    assert header.config.metric == "ms-ssim"
    assert header.config.lambdas == (2.4, 60.5)
    # Rates are those of MSE training with λ `METRICS["ms-ssim"]` times smaller, from the first step on.
    assert 0.05 < header.record["log"][-1]["points"][0][2] < header.record["log"][-1]["points"][1][2] < 8


def test_init_continues_from_weights_and_interpolates_lambdas(pictures: Path, tmp_path: Path) -> None:
    first = train(training_settings(pictures, steps=8), tmp_path / "first")
    export_checkpoint(first, tmp_path / "first.safetensors", {})
    trained = load_checkpoint(first / BEST)["average"]
    for source in (first, first / BEST, tmp_path / "first.safetensors"):
        network = initial_network(training_settings(pictures, network={}, init=str(source)))
        loaded = network.state_dict()
        for name in ("g_a.down.patch.weight", "entropy_bottleneck.quantiles", "gain_y.log_gain"):
            assert torch.allclose(loaded[name], trained[name], rtol=1e-3, atol=1e-4), name

    old = network.config.lambdas
    middle = (old[2] * old[3]) ** 0.5
    single = initial_network(training_settings(pictures, network={}, init=str(first), lambdas=[old[5], middle]))
    assert single.config.lambdas == (middle, old[5])
    gains = single.state_dict()["gain_y.log_gain"]
    assert torch.allclose(gains[1], trained["gain_y.log_gain"][5], atol=1e-5)
    assert torch.allclose(gains[0], trained["gain_y.log_gain"][2:4].mean(0), atol=1e-5)
    settings = training_settings(pictures, network={}, init=str(first), lambdas=old[0], steps=2)
    assert load_checkpoint(train(settings, tmp_path / "tuned") / CHECKPOINT)["config"]["lambdas"] == (old[0],)

    with pytest.raises(OptionError, match="does not have the shape"):
        initial_network(training_settings(pictures, network={"residual_width": 4}, init=str(first)))
    with pytest.raises(OptionError, match="is a lite model"):
        initial_network(training_settings(pictures, preset="paper", init=str(first)))
    with pytest.raises(ModelFileError, match="no such checkpoint"):
        initial_network(training_settings(pictures, init=str(tmp_path / "nothing.pt")))


def test_patch_sizes_follow_the_schedule(pictures: Path, tmp_path: Path) -> None:
    settings = training_settings(pictures, steps=4, patch=[64, 128], batch=[4, 1])
    assert [settings.phase(k / 4) for k in range(5)] == [(64, 4), (64, 4), (128, 1), (128, 1), (128, 1)]
    assert load_checkpoint(train(settings, tmp_path) / CHECKPOINT)["state"]["patches"] == 10


@pytest.mark.parametrize("recipe", recipes())
@pytest.mark.slow
def test_recipes_run(pictures: Path, tmp_path: Path, recipe: str) -> None:
    """A few steps of each, in a size that a test can afford."""
    options = {"data": str(pictures), "patch": 64, "batch": 1, "steps": 2, "compile": False, "validation_pictures": 1}
    options |= {"reference": ""}
    if read_recipe(recipe).get("metric") == "ms-ssim":  # which has five scales
        options |= {"data": str(tmp_path / "large"), "patch": 192}
        (tmp_path / "large").mkdir()
        for k in range(2):
            Image.open(pictures / "sub" / f"{k}.png").resize((256, 256)).save(tmp_path / "large" / f"{k}.png")
    config = effective_config(recipe, options)
    assert config.minutes is None
    run = train(config, tmp_path)
    assert load_checkpoint(run / CHECKPOINT)["state"]["step"] == 2
    assert load_checkpoint(run / CHECKPOINT)["train"]["optimizer"] == config.optimizer
    header = export_checkpoint(run, tmp_path / "model.safetensors", {})
    assert header.config.preset == config.preset


def test_tensorboard_has_the_curves_and_pictures(pictures: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(training_settings(pictures, steps=20), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = set(events.Tags()["scalars"])
    assert {
        "loss", "bpp/y", "bpp/z", "psnr", "auxiliary loss", "learning rate", "gradient norm", "patches per second",
        "waiting share", "validation/score", "validation/file bpp 1",
    } <= found  # fmt: skip
    assert "reconstruction/0" in events.Tags()["images"]
    assert events.Scalars("loss")[0].step == 20


def test_bad_input_is_one_clear_error(pictures: Path, tmp_path: Path) -> None:
    for data, message in ((tmp_path / "missing", "no such folder"), ("", "--data")):
        with pytest.raises(OptionError, match=message):
            train(TrainConfig(data=str(data)), tmp_path / "run")
    with pytest.raises(OptionError, match="no picture"):
        train(training_settings(pictures, patch=256), tmp_path / "run")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OptionError, match="not a folder that can be written into"):
        train(training_settings(pictures), tmp_path / "file")
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(OptionError, match="not available"):
            train(training_settings(pictures), tmp_path / "run", device)
    for content in (b"", b"nothing", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ModelFileError, match="not a checkpoint"):
            export_checkpoint(tmp_path / "x.pt", tmp_path / "m.safetensors", {})
        with pytest.raises(ModelFileError, match="not a checkpoint"):
            train(training_settings(pictures, init=str(tmp_path / "x.pt")), tmp_path / "run")
    for network in ({"widths": ["a", 2]}, {"widths": [16.5, 32]}, {"hyper_channels": "x"}, {"entropy_models": False}):
        with pytest.raises(OptionError):
            train(training_settings(pictures, network=TINY | network), tmp_path / "run")


def test_a_disk_too_full_for_tensorboard_does_not_end_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_image", full)
    with caplog.at_level(logging.WARNING):
        run = train(training_settings(pictures, steps=2), tmp_path)
    assert load_checkpoint(run / CHECKPOINT)["state"]["step"] == 2
    assert any("No space left" in message for message in caplog.messages)


def test_remaining_time_of_a_continued_run_counts_only_what_it_did_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from dcae.train import monitor

    assert monitor._remaining(0.5, 0.0, 0.6, 60.0) == "4 min"
    assert monitor._remaining(0.5, 0.0, 0.501, 60.0) == "8.3 h"
    assert monitor._remaining(0.5, 0.0, 0.5, 60.0) == "unknown time"


@pytest.mark.slow
def test_compiled_training_is_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured as graphs, but run as they are: generating C++ for them takes minutes here."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compile_(model, backend="eager"))
    losses = []
    for compiled in (False, True):
        settings = training_settings(pictures, steps=3, compile=compiled, optimizer="adam")
        saved = load_checkpoint(train(settings, tmp_path / str(compiled)) / CHECKPOINT)
        losses.append(saved["state"]["log"][-1]["train_loss"])
        assert not any("_orig_mod" in name for name in saved["network"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_checkpoints_come_between_validations(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at the end with its validation; with checkpoint_every, as short as can be, one before every step as well."""
    steps: list[int] = []
    monkeypatch.setattr("dcae.train.run.save_checkpoint", lambda path, content: steps.append(content["state"]["step"]))
    train(training_settings(pictures, steps=2, batch=1, validate_every=1000), tmp_path / "none")
    assert set(steps) == {2}
    steps.clear()
    train(training_settings(pictures, steps=2, batch=1, validate_every=1000, checkpoint_every=1e-9), tmp_path / "all")
    assert set(steps) == {0, 1, 2}


def test_exported_tables_are_fitted_to_the_training_pictures(pictures: Path, tmp_path: Path) -> None:
    run = train(training_settings(pictures, steps=2), tmp_path / "run")
    plain = export_checkpoint(run, tmp_path / "plain.safetensors", {})
    fitted = export_checkpoint(run, tmp_path / "fitted.safetensors", {}, settings={"table_pictures": 4})
    assert fitted.record["tables"] == "fitted to 4 pictures" and "tables" not in plain.record
    picture = Image.open(pictures / "sub" / "3.png")
    first, second = (Codec(tmp_path / f"{name}.safetensors").encode(picture, 4) for name in ("plain", "fitted"))
    assert len(second) < len(first)


def test_export_without_the_training_pictures(pictures: Path, tmp_path: Path) -> None:
    """As the run's tables are, and a sentence that says so; with another folder they are fitted."""
    run = train(training_settings(pictures, steps=2, table_pictures=3), tmp_path / "run")
    saved = load_checkpoint(run / BEST)
    saved["train"]["data"] = str(tmp_path / "gone")
    save_checkpoint(tmp_path / "moved.pt", saved)
    command = [sys.executable, "-m", "dcae", "export", str(tmp_path / "moved.pt"), "-o"]

    def exported(name: str, *options: str) -> tuple[int, str]:
        done = subprocess.run(
            [*command, str(tmp_path / name), *options], capture_output=True, text=True, cwd=tmp_path
        )  # fmt: skip
        return done.returncode, done.stderr

    code, said = exported("a.safetensors")
    assert code == 0 and "tables as they were trained" in said and "--pictures DIR" in said
    code, said = exported("b.safetensors", "--pictures", str(pictures), "--table-pictures", "2")
    assert code == 0 and "as they were trained" not in said
    assert read_model(tmp_path / "b.safetensors").header.record["tables"] == "fitted to 2 pictures"
    code, said = exported("c.safetensors", "--pictures", str(tmp_path / "gone"))
    assert code == 1 and "no such folder" in said and not (tmp_path / "c.safetensors").exists()
