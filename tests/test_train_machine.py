"""Training chooses by what the machine has: precision, number of processes; and processes form one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from dcae.errors import DCAEError, OptionError
from dcae.train import machine, processes
from dcae.train.config import TrainConfig


@pytest.mark.parametrize(
    ("features", "precision", "expected"),
    [
        (set(), "auto", torch.float32),
        ({"avx2", "avx512_f"}, "auto", torch.float32),
        ({"avx512_bf16"}, "auto", torch.bfloat16),
        ({"amx_bf16"}, "auto", torch.bfloat16),
        ({"bf16"}, "auto", torch.bfloat16),
        (set(), "bf16", torch.bfloat16),
        ({"avx512_bf16"}, "float32", torch.float32),
    ],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(
    features: set[str], precision: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "processor_features", lambda: frozenset(features))
    assert machine.compute_type(precision, "cpu") == expected
    assert machine.compute_type("auto", "meta") == torch.float32


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the features are read from /proc/cpuinfo")
def test_torch_and_the_system_name_the_same_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.processor_features.cache_clear()
    by_torch = machine.processor_features()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    machine.processor_features.cache_clear()
    by_system = machine.processor_features()
    machine.processor_features.cache_clear()
    assert by_system
    assert by_torch & machine._BF16_INSTRUCTIONS == by_system & machine._BF16_INSTRUCTIONS


def test_settings_of_older_checkpoints_and_recipes_still_say_which_precision() -> None:
    assert TrainConfig.from_dict({"bf16": True}).precision == "auto"
    assert TrainConfig.from_dict({"bf16": False}).precision == "float32"
    assert TrainConfig.from_dict({"bf16": False, "precision": "bf16"}).precision == "bf16"
    assert TrainConfig().precision == "auto"


def test_processes_are_counted_by_cores_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    assert [machine.process_count(asked, "cpu") for asked in ("auto", "1", "9")] == [6, 1, 9]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [machine.process_count(asked, "cuda") for asked in ("auto", "2")] == [2, 2]
    for asked, device in (("0", "cpu"), ("-1", "cpu"), ("two", "cpu"), ("3", "cuda")):
        with pytest.raises(OptionError, match="process"):
            machine.process_count(asked, device)


@pytest.mark.slow
def test_processes_find_each_other_and_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from group_tasks import write_ranks

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processes.launch(2, write_ranks, tmp_path)
    threads = max(1, machine.cores() // 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("0", "1"), f"2 (1.0, 1.0) {threads}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "message"), [("error", "the second one failed"), ("killed", "early.*SIGKILL")])
def test_one_failing_process_ends_all_with_one_message(kind: str, message: str) -> None:
    from group_tasks import fail_in_one

    with pytest.raises(DCAEError, match=message):
        processes.launch(2, fail_in_one, kind)


@pytest.mark.slow
def test_signals_reach_every_process(tmp_path: Path) -> None:
    from group_tasks import sleep

    def interrupt_when_they_are_there() -> None:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt_when_they_are_there).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(DCAEError, match=r"early.*SIGTERM"):
        processes.launch(2, sleep, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.slow
def test_command_trains_in_two_processes_until_it_is_told_to_stop(training_pictures: Path, tmp_path: Path) -> None:
    from dcae.train.checkpoint import CHECKPOINT, load_checkpoint

    run = tmp_path / "run"
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(_TINY_RECIPE)
    options = ["train", "--recipe", str(recipe), "--data", str(training_pictures), "-o", str(run), "--processes", "2"]
    command = [sys.executable, "-c", "from dcae.cli import main; main()", *options]
    # Not in the working directory: in a checkout, `dcae` there would hide the installed package.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        deadline = time.monotonic() + 240
        while not (run / CHECKPOINT).exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        message = process.communicate()[1]
    assert process.returncode == 1
    assert message.count("dcae: ") == 1 and "Traceback" not in message, message
    assert "can be continued with --resume auto" in message.splitlines()[-1]
    state = load_checkpoint(run / CHECKPOINT)["state"]
    assert state["patches"] == 2 * 2 * state["step"]
    assert state["hardware"].startswith("2 x CPU")
    assert not (run / "model.safetensors").exists()


_TINY_RECIPE = """
steps = 1000000
batch = 2
patch = 64
validate_every = 1e-9
validation_pictures = 1
reference = ""
[network]
widths = [16, 32]
layers = ["C", "S"]
expansions = [1, 1]
head_channels = 16
hyper_width = 16
hyper_channels = 16
latent_channels = 32
slices = [8, 24]
context_width = 16
dictionary_width = 16
dictionary_entries = 8
residual_width = 8
"""
