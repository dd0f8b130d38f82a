"""The command `dcae train`: what a terminal shows, what is missing, and a model that encodes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("compressai", reason="training needs compressai")


@pytest.fixture
def pictures(training_pictures: Path) -> Path:
    """The folder of training pictures under a short name."""
    return training_pictures


@pytest.mark.slow
def test_a_terminal_gets_a_bar_and_a_pipe_plain_lines(pictures: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    options = ["train", "--lambda", "0.0018", "--data", str(pictures), "--steps", "3", "--batch", "1", "--patch", "64"]
    options += ["--validation-pictures", "1", "--reference", ""]
    code = "from dcae.train import monitor; monitor._LINE_EVERY = 0; from dcae.cli import main; main()"
    command = [sys.executable, "-c", code, *options, "-o"]
    ours, theirs = pty.openpty()
    # Not in the working directory: in a checkout, `dcae` there would hide the installed package.
    with subprocess.Popen(
        [*command, str(tmp_path / "a")], stderr=theirs, stdout=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end has gone
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"training" in shown and b"\r" in shown and b"100%" in shown and b"patches/s" in shown
    piped = subprocess.run([*command, str(tmp_path / "b")], capture_output=True, text=True, cwd=tmp_path)
    assert piped.returncode == 0, piped.stderr
    lines = piped.stderr
    assert "\r" not in lines
    assert "patches/s" in lines and "waiting" in lines and "left" in lines


def test_command_without_compressai_says_so(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from dcae import extras
    from dcae.cli import main

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "compressai" else find_spec(name))
    result = CliRunner().invoke(main, ["train", "--data", str(pictures), "-o", str(tmp_path / "run"), "--steps", "1"])
    assert result.exit_code == 1
    assert "compressai, which is not installed: pip install 'dcae[train]'" in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.slow
def test_command_trains_one_lambda_and_its_model_encodes(pictures: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dcae.cli import main

    run = CliRunner()
    options = ["--lambda", "0.0018", "--data", str(pictures), "--steps", "2", "--batch", "2", "--patch", "64"]
    options += ["--validation-pictures", "1", "--reference", "", "-o", str(tmp_path / "run")]
    assert run.invoke(main, ["train", *options]).exit_code == 0
    again = run.invoke(main, ["train", *options])
    assert again.exit_code == 1
    assert again.stderr.count("\n") == 1 and "--resume auto" in again.stderr
    assert run.invoke(main, ["train", *options, "--resume", "auto", "--steps", "3"]).exit_code == 0
    model = str(tmp_path / "run" / "model.safetensors")
    picture = str(pictures / "sub" / "1.png")
    encoded = run.invoke(main, ["encode", picture, "-o", "-", "--model", model, "-q", "1"])
    assert encoded.exit_code == 0
    decoded = run.invoke(main, ["decode", "-", "-o", "-", "--model", model], input=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    assert Image.open(io.BytesIO(decoded.stdout_bytes)).size == (192, 160)
    exported = run.invoke(main, ["export", str(tmp_path / "run"), "-o", str(tmp_path / "again.safetensors")])
    assert exported.exit_code == 0
    assert (tmp_path / "again.safetensors").stat().st_size > 10**6
