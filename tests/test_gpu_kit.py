"""The kit for a borrowed GPU: pieces, what travels in which call, command lines, and one training by the bundle."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
import sys
import tarfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY_LOOP, training_settings
from PIL import Image

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def kit() -> Any:
    """The modules of tools/kit."""
    sys.path.insert(0, str(TOOLS))
    try:
        from kit import bundle, pictures, pieces, remote, weights

        yield SimpleNamespace(bundle=bundle, pictures=pictures, pieces=pieces, remote=remote, weights=weights)
    finally:
        sys.path.remove(str(TOOLS))


def _tool(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "gpu_kit.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def checkpoint(training_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of a few steps."""
    from dcae.train.loop import train

    out = tmp_path_factory.mktemp("runs") / "run"
    train(training_settings(training_pictures, network=TINY_LOOP, steps=3, batch=2), out)
    return out / "checkpoint.pt"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_pieces_make_the_file_again(kit: Any, tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    *pieces, index = kit.pieces.write_pieces(data, tmp_path, "file", 100)
    assert len(pieces) == max(1, -(-size // 100)) and all(p.stat().st_size <= 100 for p in pieces)
    assert kit.pieces.join_pieces(kit.pieces.read_index(index), [tmp_path]) == data


def test_damaged_and_missing_pieces_are_told_apart(kit: Any, tmp_path: Path) -> None:
    *pieces, index = kit.pieces.write_pieces(bytes(250), tmp_path / "a", "file", 100)
    found = kit.pieces.read_index(index)
    pieces[1].write_bytes(bytes(99) + b"x")
    with pytest.raises(kit.pieces.KitError, match=r"file\.001 of file is damaged"):
        kit.pieces.join_pieces(found, [tmp_path / "a"])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file.001").write_bytes(bytes(100))  # of another call's folder
    assert kit.pieces.join_pieces(found, [tmp_path / "a", tmp_path / "b"]) == bytes(250)
    pieces[2].unlink()
    with pytest.raises(kit.pieces.KitError, match=r"file\.002 of file is missing"):
        kit.pieces.join_pieces(found, [tmp_path / "a", tmp_path / "b"])
    index.write_text('{"pieces": [{"file": "../../etc/passwd"}]}')
    with pytest.raises(kit.pieces.KitError, match="not an index"):
        kit.pieces.read_index(index)


def test_the_newest_whole_set_is_collected(kit: Any, tmp_path: Path) -> None:
    for step in (9, 10, 11):
        kit.pieces.write_pieces(bytes([step]) * 30, tmp_path / "x", f"average-{step}", 20, step)
    (tmp_path / "x" / "average-11.001").unlink()  # the call ended while it was written
    assert kit.pieces.newest_whole([tmp_path])[1] == bytes([10]) * 30
    with pytest.raises(kit.pieces.KitError, match="nothing whole"):
        kit.pieces.newest_whole([tmp_path / "elsewhere"])


def test_calls_are_filled_in_order_and_never_above_their_size(kit: Any) -> None:
    files, pictures = [(Path(str(k)), 30) for k in range(4)], [(f"p{k}", 25) for k in range(5)]
    calls = kit.bundle.fill(files, pictures, 70)
    assert [[str(f) for f in call[0]] for call in calls] == [["0", "1"], ["2", "3"], [], [], []]
    assert [call[1] for call in calls] == [[], [], ["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert all(30 * len(call[0]) + 25 * len(call[1]) <= 70 for call in calls)
    with pytest.raises(kit.pieces.KitError, match="more than the"):
        kit.bundle.fill([(Path("big"), 71)], [], 70)


def test_the_wheel_and_a_piece_of_the_state_fit_beside_the_checkout(kit: Any) -> None:
    if not (TOOLS.parent / ".git").exists():
        pytest.skip("not a checkout")
    sources = {p.relative_to(TOOLS.parent).as_posix(): p.stat().st_size for p in kit.bundle.wheel_sources("lite-gpu")}
    models = [name for name in sources if name.endswith(".safetensors")]
    assert len(models) == 1 and models[0].startswith("dcae/models/lite-"), "the reference of validations alone"
    assert {"pyproject.toml", "setup.cfg", "train/recipes/lite-gpu.toml", "tools/gpu_kit.py"} <= set(sources)
    # Models do not get smaller in a wheel; the rest is text.
    room = kit.bundle._room(Namespace(call_mib=64, checkout_mib=0))
    assert max(sources[models[0]] + 8 * kit.pieces.MIB, 16 * kit.pieces.MIB) < room < 64 * kit.pieces.MIB


def test_held_out_photographs_stay_held_out_where_only_some_pictures_arrive(kit: Any, tmp_path: Path) -> None:
    """130 pictures of which 7 arrive: without the marks of the list, training would hold out another one."""
    from dcae.train.data import load_folder, split

    home, there = tmp_path / "home", tmp_path / "there"
    for k in range(130):
        (home / f"part-{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (k, 0, 0)).save(home / f"part-{k % 2}" / f"{k:03}.png")
    Image.new("RGB", (60, 64)).save(home / "small.png")
    pictures = kit.pictures.listed_pictures(home, 64)
    at_home = {int(p.pixels[0, 0, 0]) for p in split(load_folder(home))[1]}
    assert len(pictures) == 130 and len(at_home) == 2
    assert [p.held_out for p in pictures[:3]] == [True, True, False]
    kit.pictures.write_shard(tmp_path / "shard.tar", pictures[:7])
    with tarfile.open(tmp_path / "shard.tar") as archive:
        archive.extractall(there, filter="data")
    arrived = load_folder(there)
    assert {int(p.pixels[0, 0, 0]) for p in split(arrived)[1]} != at_home
    (there / "MANIFEST.csv").write_text(kit.pictures.manifest_of(pictures))
    training, held = split(load_folder(there))
    assert {int(p.pixels[0, 0, 0]) for p in held} == at_home
    assert len(training) == 5 and not {p.source for p in training} & {p.source for p in held}


def test_the_list_keeps_the_sources(kit: Any, tmp_path: Path) -> None:
    (tmp_path / "part-1").mkdir()
    for name in "ab":
        Image.new("RGB", (64, 64)).save(tmp_path / "part-1" / f"{name}.png")
    rows = [{"part": "part-1", "file": f"{n}.png", "source_repo": "r/s", "source_path": f"x/{n}.tif"} for n in "ab"]
    with open(tmp_path / "MANIFEST.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    listed = kit.pictures.listed_pictures(tmp_path, 64)
    (tmp_path / "MANIFEST.csv").write_text(kit.pictures.manifest_of(listed))
    again = kit.pictures.listed_pictures(tmp_path, 64)
    assert {p.source for p in again} == {"r/s/x/a.tif", "r/s/x/b.tif"} == {p.source for p in listed}
    (tmp_path / "other" / "part-1").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "other" / "part-1" / "a.png")
    with pytest.raises(kit.pieces.KitError, match="two pictures of one name"):
        kit.pictures.listed_pictures(tmp_path, 64)


def test_packed_checkpoints_are_small_and_nearly_the_same(kit: Any, checkpoint: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    sizes = {}
    for state in kit.weights.STATES:
        data, step = kit.weights.packed(checkpoint, state)
        sizes[state] = len(data)
        again = torch.load(io.BytesIO(kit.weights.restored(data)), weights_only=True)
        assert step == 3 and again["config"] == saved["config"] and again["state"] == saved["state"]
        tolerance = 0.0 if state == "full" else 1e-3
        for name in ("average",) if state == "weights" else ("average", "network"):
            for key, value in saved[name].items():
                assert again[name][key].dtype == value.dtype
                assert torch.allclose(again[name][key], value, rtol=tolerance, atol=1e-6 * bool(tolerance)), key
        assert len(again["optimizers"]) == (0 if state == "weights" else len(saved["optimizers"]))
        for new, old in zip(again["optimizers"], saved["optimizers"], strict=False):
            for key, moments in old["state"].items():
                for name, value in moments.items():
                    new_value = new["state"][key][name]
                    assert new_value.dtype == value.dtype
                    assert torch.allclose(new_value, value, rtol=0 if state == "full" else 1e-2), name
    assert sizes["weights"] < sizes["moments"] < sizes["full"]


def test_command_lines_of_training(kit: Any) -> None:
    options = Namespace(device="cuda", every=2.0, decay=0, train=["--batch", "64"])
    work = Path("/w")
    plain = shlex.join(kit.remote.command(work, "", options))
    assert "--schedule constant" in plain and "--resume auto" in plain and "--init" not in plain
    assert plain.endswith("-o /w/run --batch 64") and "--recipe /w/recipe.toml --data /w/pictures" in plain
    assert "--init /w/start.pt" in shlex.join(kit.remote.command(work, "weights", options))
    assert "--init" not in shlex.join(kit.remote.command(work, "moments", options))
    options.decay = 6.5
    decay = shlex.join(kit.remote.command(work, "weights", options))
    assert "--decay /w/run --minutes 6.5 -o /w/decay" in decay
    assert not {"--init", "--recipe", "--schedule"} & set(decay.split())


def test_a_bundle_trains_stops_and_comes_back(training_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Two folders as `make` writes them, an empty machine, a call that ends before training does, a model."""
    sys.path.insert(0, str(TOOLS))
    try:
        from kit.bundle import _write_call
        from kit.pictures import listed_pictures, manifest_of
        from kit.pieces import write_pieces
        from kit.weights import packed
    finally:
        sys.path.remove(str(TOOLS))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(_TINY_RECIPE)
    pictures = listed_pictures(training_pictures, 64)
    (tmp_path / "MANIFEST.csv").write_text(manifest_of(pictures))
    state = write_pieces(packed(checkpoint, "weights")[0], tmp_path / "state", "state", 100_000)
    half = len(pictures) // 2
    _write_call(tmp_path / "1", 1, 2, [recipe, tmp_path / "MANIFEST.csv", *state], pictures[:half], "weights")
    _write_call(tmp_path / "2", 2, 2, [], pictures[half:], "weights")
    work, out = tmp_path / "work", tmp_path / "out"

    def call(script: Path, *arguments: object) -> str:
        command = [sys.executable, script, "run", *arguments, "--work", work, "--out", out, "--device", "cpu"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "calls [2] have not arrived" in call(tmp_path / "1" / "gpu_kit.py", tmp_path / "1")
    assert not (work / "run" / "checkpoint.pt").exists()
    # Training would go on for ever; the watch is told to end it as soon as there is a checkpoint.
    first = _until_a_checkpoint(tmp_path / "2" / "gpu_kit.py", work, out, tmp_path / "2")
    joined = _tool("collect", out, "-o", tmp_path / "first.pt")
    assert joined.returncode == 0, joined.stderr
    average = torch.load(tmp_path / "first.pt", weights_only=True)
    assert average["state"]["step"] == first and average["train"]["batch"] == [2]
    assert len(list((work / "pictures").rglob("*.png"))) == len(pictures)
    again = _tool("collect", out, "-o", tmp_path / "first.pt")
    assert again.returncode == 1 and "exists; choose another name" in again.stderr and "Traceback" not in again.stderr

    second = _until_a_checkpoint(work / "gpu_kit.py", work, out)
    assert second > first
    done = _tool("send", work / "run" / "checkpoint.pt", "--out", tmp_path / "sent", "--count", 1)
    assert done.returncode == 0 and "that was the last" in done.stdout
    done = _tool("collect", tmp_path / "sent", "-o", tmp_path / "whole.pt")
    assert done.returncode == 0 and (tmp_path / "whole.pt").read_bytes() == (work / "run/checkpoint.pt").read_bytes()

    from dcae.codec.codec import Codec
    from dcae.train.export import export_checkpoint

    export_checkpoint(tmp_path / "first.pt", tmp_path / "model.safetensors", {})
    codec = Codec(str(tmp_path / "model.safetensors"))
    image = Image.open(sorted(training_pictures.rglob("*.png"))[0])
    assert codec.decode(codec.encode(image, 2.0)).size == image.size


_TINY_RECIPE = f"""
lambda = "0.0009..0.1152"
patch = 64
batch = 2
cutting = "batched"
drawn_pool = 2
validation_pictures = 1
reference = ""
precision = "float32"
validate_every = 1000
checkpoint_every = 0.01
[network]
{chr(10).join(f"{k} = {list(v) if isinstance(v, tuple) else v}" for k, v in TINY_LOOP.items())}
""".replace("'", '"')


def _until_a_checkpoint(script: Path, work: Path, out: Path, *bundle: Path) -> int:
    """One call, whose training is stopped by the signal that the end of the call sends; returns the last step."""
    before = _stamp(work / "run" / "checkpoint.pt")
    arguments = ["run", *map(str, bundle), "--work", str(work), "--out", str(out), "--device", "cpu"]
    program = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1]); from kit import remote; import os, time\n"
        "from pathlib import Path\n"
        f"path, before = Path({str(work / 'run' / 'checkpoint.pt')!r}), {before}\n"
        "class Clock:\n"
        "    monotonic = staticmethod(lambda: 1000.0 if path.exists() and path.stat().st_mtime_ns != before else 0.0)\n"
        "    sleep = staticmethod(time.sleep)\n"
        "remote.time = Clock\n"
        "sys.argv = ['gpu_kit.py', *sys.argv[2:]]\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    arguments += ["--seconds", "1040", "--every", "0.01"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(script.parent), *arguments], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = (work / "train.log").read_text()
    assert "can be continued with --resume auto" in log
    return int(torch.load(work / "run" / "checkpoint.pt", weights_only=True)["state"]["step"])


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_errors_are_one_line(checkpoint: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("collect", tmp_path, "-o", tmp_path / "x.pt"), "nothing whole"),
        (("run", tmp_path, "--work", tmp_path / "w", "--out", tmp_path / "o"), "not a call's folder"),
        (("send", tmp_path / "no", "--out", tmp_path / "o"), "no such file"),
        (("make", "--data", tmp_path, "-o", tmp_path / "b", "--recipe", "nothing", "--wheel"), "no recipe named"),
        (
            ("make", "--data", tmp_path, "-o", tmp_path / "b", "--from", checkpoint, "--state", "full", "--wheel"),
            "of a run with",
        ),
    ):
        done = _tool(*arguments)
        assert done.returncode == 1 and words in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "b").exists()
