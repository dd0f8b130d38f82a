"""What happens on the machine with the GPU: a bundle arrives, training starts or goes on, weights are put out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from kit.pieces import INDEX, MIB, KitError, join_pieces, read_index, write_pieces

_STOPPING = 45
"""Seconds before the end of a call at which training is asked to stop; most of it is to spare."""
_LOG_TAIL = 2000
_AVERAGE = "average"


def run(options: Any) -> None:
    """One call on the machine.

    Raises:
        KitError: the bundle is incomplete, or training failed.
    """
    end = time.monotonic() + options.seconds
    work: Path = options.work.resolve()
    for name in ("site", "state", "pictures", "run"):
        (work / name).mkdir(parents=True, exist_ok=True)
    if options.bundle:
        arrive(options.bundle.resolve(), work)
    facts = _read(work / "arrived.json") or {"there": [], "calls": 1}
    missing = sorted(set(range(1, facts["calls"] + 1)) - set(facts["there"]))
    if missing:
        print(f"calls {missing} have not arrived yet; no training")
        return
    _unpack_state(work, facts["state"])
    _train(command(work, facts["state"], options), work, options, end)


def arrive(bundle: Path, work: Path) -> None:
    """Take over what a call carries; harmless when repeated.

    Raises:
        KitError: not a bundle's folder, or pip fails.
    """
    call = _read(bundle / "call.json")
    if call is None:
        raise KitError(f"{bundle}: not a call's folder of a bundle")
    files = bundle / "files"
    shutil.copy(bundle / "gpu_kit.py", work)
    shutil.copytree(bundle / "kit", work / "kit", dirs_exist_ok=True)
    wheels = sorted(files.glob("*.whl"))
    if wheels:
        # Not a virtual environment: one made by the Python of another would not see that one's packages.
        _checked(
            sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile",
            "--disable-pip-version-check", "--upgrade", "--target", str(work / "site"), *map(str, wheels),
        )  # fmt: skip
    for shard in files.glob("*.tar"):
        with tarfile.open(shard) as archive:
            archive.extractall(work / "pictures", filter="data")
    for path in files.iterdir():
        if path.name.startswith("state."):
            shutil.copy(path, work / "state")
        elif path.name in ("MANIFEST.csv", "recipe.toml"):
            shutil.copy(path, work / "pictures" if path.suffix == ".csv" else work)
    facts = _read(work / "arrived.json") or {"there": []}
    facts |= {"calls": call["calls"], "state": call["state"], "there": sorted({*facts["there"], call["number"]})}
    (work / "arrived.json").write_text(json.dumps(facts))
    print(f"call {call['number']} of {call['calls']} has arrived")


def _unpack_state(work: Path, kind: str) -> None:
    """The state as a checkpoint: to start from (weights), or in the run's folder to be continued."""
    target = work / "start.pt" if kind == "weights" else work / "run" / "checkpoint.pt"
    if not kind or target.exists():
        return
    packed = work / "state" / "packed"
    packed.write_bytes(join_pieces(read_index(work / "state" / f"state{INDEX}"), [work / "state"]))
    _checked(
        sys.executable, str(work / "gpu_kit.py"), "restore", str(packed), "-o", str(target), env=_environment(work)
    )


def command(work: Path, state: str, options: Any) -> list[str]:
    """The command line of training in this call."""
    base = [sys.executable, "-m", "dcae", "train", "--device", options.device, "--resume", "auto", "--processes", "1"]
    every = ["--checkpoint-every", str(options.every)]
    if options.decay:
        length = ["--minutes", str(options.decay)]
        return [*base, *every, "--decay", str(work / "run"), *length, "-o", str(work / "decay"), *options.train]
    start = ["--init", str(work / "start.pt")] if state == "weights" else []
    # A trunk has no end of its own; this kit ends it, and every call has at least one validation.
    trunk = ["--schedule", "constant", "--minutes", "1000000"]
    return [
        *base, *every, *trunk, *start, "--recipe", str(work / "recipe.toml"), "--data", str(work / "pictures"),
        "-o", str(work / "run"), *options.train,
    ]  # fmt: skip


def _train(arguments: list[str], work: Path, options: Any, end: float) -> None:
    checkpoint = work / ("decay" if options.decay else "run") / "checkpoint.pt"
    log = work / "train.log"
    print(" ".join(arguments), flush=True)
    with open(log, "a") as file:
        trainer = subprocess.Popen(arguments, stdout=file, stderr=file, env=_environment(work), cwd=work)
    before = seen = _changed(checkpoint)
    asked = False
    while trainer.poll() is None:
        time.sleep(1)
        left = end - time.monotonic()
        if left < _STOPPING and not asked:
            trainer.send_signal(signal.SIGTERM)
            asked = True
        if left < 5:
            trainer.kill()
        elif not asked and _changed(checkpoint) != seen:
            seen = _changed(checkpoint)
            _put_out(checkpoint, work, options)
    if _changed(checkpoint) != seen:
        _put_out(checkpoint, work, options)
    tail = log.read_text(errors="replace")[-_LOG_TAIL:]
    print(tail)
    if trainer.returncode and not asked:
        raise KitError(f"training ended with code {trainer.returncode}; what it said is above")
    if _changed(checkpoint) == before:
        raise KitError("training had no time to write a checkpoint; give the call more --seconds")


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _put_out(checkpoint: Path, work: Path, options: Any) -> None:
    """Averaged weights and the log into the folder that comes back; the set before is removed after."""
    done = subprocess.run(
        [sys.executable, str(work / "gpu_kit.py"), "pack", str(checkpoint), "--out", str(options.out),
         "--piece-mib", str(options.piece_mib)],
        env=_environment(work), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:  # the run is worth more than this set
        print(f"weights were not put out: {done.stderr.strip()[-300:]}", flush=True)
        return
    print(done.stdout.strip(), flush=True)
    tail = (work / "train.log").read_bytes()[-MIB:]
    (options.out / "train.log").write_bytes(tail)


def pack(checkpoint: Path, out: Path, piece: int) -> str:
    """Write a checkpoint's averaged weights into `out`, and remove those of an earlier step."""
    from kit.weights import packed

    data, step = packed(checkpoint, "weights")
    written = write_pieces(data, out, f"{_AVERAGE}-{step:08}", piece, step, "weights")
    for old in set(out.glob(f"{_AVERAGE}-*")) - set(written):
        old.unlink()
    return f"step {step}: {len(data) / MIB:.1f} MiB in {len(written) - 1} pieces"


def send(path: Path, out: Path, first: int, count: int, piece: int) -> str:
    """Put a file of the machine (a whole checkpoint, say) into `out`, `count` pieces of it from number `first`.

    Raises:
        KitError: no such file.
    """
    if not path.is_file():
        raise KitError(f"{path}: no such file")
    written = write_pieces(path.read_bytes(), out, path.name, piece)
    pieces = written[:-1]
    for other in pieces[:first] + pieces[first + count :]:
        other.unlink()
    last = min(first + count, len(pieces))
    rest = f"go on with --first {last}" if last < len(pieces) else "that was the last"
    return f"pieces {first} to {last - 1} of {len(pieces)}; {rest}"


def _environment(work: Path) -> dict[str, str]:
    """Environment with the bundle's packages before all others, and compiled code kept between calls."""
    path = os.pathsep.join(p for p in (str(work / "site"), os.environ.get("PYTHONPATH", "")) if p)
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "TRITON_CACHE_DIR": str(work / "triton")}
    return os.environ | caches | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _checked(*arguments: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, env=env)
    if done.returncode:
        raise KitError(f"{' '.join(arguments[1:4])} failed: {done.stderr.strip()[-500:]}")


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.is_file() else None
