"""Making a bundle: folders that travel one per call, and the commands to type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kit.pictures import Listed, listed_pictures, manifest_of, write_shard
from kit.pieces import MIB, KitError, write_pieces

REPOSITORY = Path(__file__).resolve().parents[2]
_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
AT_HOME = ("archive", "docs/rd", "dcae/models/*.safetensors")
"""What of the checkout stays at home: some 55 MiB that no training needs but for one model, which the wheel has."""
_SPARE = MIB
"""Bytes left for names, folders and archives' heads."""


def make(options: Any) -> str:
    """Write the bundle that the command line asks for, and return the commands to type.

    Raises:
        KitError: something is missing or does not fit.
    """
    out: Path = options.output
    if out.exists() and any(out.iterdir()) and not (out / "1" / "call.json").is_file():
        raise KitError(f"{out}: not empty, and not a bundle; choose another folder")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        state, kind = _state(work / "state", options)
        always = [*_installables(work / "wheels", options), _recipe(work, options.recipe)]
        pictures = _chosen(listed_pictures(options.data, options.smallest), options.data_mib * MIB)
        (work / "MANIFEST.csv").write_text(manifest_of(pictures), encoding="utf-8")
        files = [*always, work / "MANIFEST.csv", *state]
        calls = fill([(p, p.stat().st_size) for p in files], [(p, p.size) for p in pictures], _room(options))
        shutil.rmtree(out, ignore_errors=True)
        for k, (carried, shard) in enumerate(calls, 1):
            _write_call(out / str(k), k, len(calls), carried, shard, kind)
    held = sum(p.held_out for p in pictures)
    return f"{len(pictures)} pictures, {held} of them held out\n" + commands(out, len(calls), options)


def fill(files: list[tuple[Path, int]], pictures: list[tuple[Listed, int]], room: int) -> list[Any]:
    """Files, then pictures, in their order, over as few calls as they need: [(files, pictures), ...].

    Raises:
        KitError: one that is larger than a call.
    """
    calls: list[tuple[list[Path], list[Listed]]] = [([], [])]
    left = room
    for place, items in enumerate((files, pictures)):
        for item, size in items:
            if size > room:
                raise KitError(
                    f"{item}: {size / MIB:.1f} MiB, more than the {room / MIB:.1f} MiB that a call can carry"
                )
            if size > left:
                calls.append(([], []))
                left = room
            calls[-1][place].append(item)  # type: ignore[arg-type]
            left -= size
    return calls


def commands(out: Path, calls: int, options: Any) -> str:
    """What to type, call by call."""
    rest = f"--work {options.work} --out $OUT --seconds {options.seconds} --device {options.device}"
    left_out = " ".join(f"'!/{pattern}'" for pattern in AT_HOME)
    lines = [
        "\nhere, before the first call: what no training needs stays at home (undone by git sparse-checkout disable)",
        f"  git sparse-checkout set --no-cone '/*' {left_out}",
    ]
    for k in range(1, calls + 1):
        lines.append(f"\ncall {k}, carry {out}/{k}: " + ("data, then training" if k == calls else "data, no training"))
        lines.append(f"  python3 {out}/{k}/gpu_kit.py run {out}/{k} {rest}")
    again = f"  python3 {options.work}/gpu_kit.py run {rest}"
    lines += ["\nfurther calls, carry nothing: training goes on", again]
    lines += [
        "\nlast call, carry nothing: the learning rate falls to zero",
        f"{again} --decay {max(0.5, options.seconds / 60 - 2.5):.1f}",
    ]
    lines += ["\nhere, after each call", f"  python {sys.argv[0]} collect FOLDER_THAT_CAME_BACK -o collected.pt"]
    return "\n".join(lines)


def _room(options: Any) -> int:
    """Bytes that a bundle's folder may have."""
    scripts = sum(p.stat().st_size for p in _scripts())
    room = options.call_mib * MIB - options.checkout_mib * MIB - scripts - _SPARE
    if options.checkout_mib == 0:
        room -= _checkout_size()
    if room < MIB:
        raise KitError(f"a call of {options.call_mib} MiB has no room beside the checkout; give more with --call-mib")
    return int(room)


def _checkout_size() -> int:
    """Bytes of tracked files and of others that are not ignored, which travel with every call, without `AT_HOME`."""
    return sum(p.stat().st_size for p in _checkout() if p.is_file() and not _at_home(p))


def _at_home(path: Path) -> bool:
    name = path.relative_to(REPOSITORY).as_posix()
    return any(fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in AT_HOME)


def _checkout() -> list[Path]:
    listed = _run("git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [REPOSITORY / name for name in listed.split("\0") if name]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise KitError(f"{' '.join(command[:5])} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout


def _installables(folder: Path, options: Any) -> list[Path]:
    """A wheel of this checkout, and the wheels that the machine lacks in the versions that are installed here."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as copy:
        for path in wheel_sources(options.recipe):  # a copy, so that no build leaves anything behind
            target = Path(copy) / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), copy)
    platforms = [f"--platform={name}_x86_64" for name in _PLATFORMS]
    pinned = [f"{name}=={version(name)}" for name in options.wheel]
    if pinned:
        _run(
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--implementation=cp",
            f"--python-version={options.python_version}", *platforms, "-d", str(folder), *pinned,
        )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def wheel_sources(recipe: str) -> list[Path]:
    """Files of the checkout that the wheel is made of: of its models those alone that training by a recipe reads.

    Raises:
        KitError: no such recipe, or a model of it is not here.
    """
    from dcae.errors import DCAEError
    from dcae.models.installed import find_model
    from dcae.train.config import effective_config

    try:
        config = effective_config(recipe, {})
        names = [config.reference, config.perceptual_model if config.perceptual_weight else ""]
        models = {find_model(name).path.name for name in names if name}
    except DCAEError as error:
        raise KitError(str(error)) from error
    found = [
        path for path in _checkout()
        if path.is_file() and path.relative_to(REPOSITORY).parts[0] not in ("docs", "tests")
        and (not _at_home(path) or (path.parent.name == "models" and path.name in models))
    ]  # fmt: skip
    if missing := models - {path.name for path in found}:
        raise KitError(f"{', '.join(missing)}: not in this checkout; git sparse-checkout disable brings it back")
    return found


def _recipe(work: Path, recipe: str) -> Path:
    from dcae.train.config import RECIPES

    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    return Path(shutil.copy(path, work / "recipe.toml"))


def _state(folder: Path, options: Any) -> tuple[list[Path], str]:
    """Pieces of what training starts from, and which of `kit.weights.STATES` it is ("" for nothing)."""
    from kit.weights import from_model, packed

    if not options.start:
        return [], ""
    path = Path(options.start)
    checkpoint = path / "checkpoint.pt" if path.is_dir() else path
    if checkpoint.suffix == ".pt":
        if options.state != "weights":
            _check_continued(checkpoint, options.recipe)
        data, kind = packed(checkpoint, options.state)[0], options.state
    else:
        data, kind = from_model(options.start), "weights"
    return write_pieces(data, folder, "state", options.piece_mib * MIB), kind


def _check_continued(checkpoint: Path, recipe: str) -> None:
    """Refuse here what training there would refuse.

    Raises:
        KitError: a run whose settings the recipe would change, or no checkpoint.
    """
    from dcae.errors import DCAEError
    from dcae.train.checkpoint import load_checkpoint
    from dcae.train.config import effective_config
    from dcae.train.start import check_same_run

    try:
        saved = load_checkpoint(checkpoint)
        config = effective_config(recipe, {}, saved["train"])
        check_same_run(checkpoint, saved, config, config.fixed)
    except DCAEError as error:
        raise KitError(f"{error}; or let only its weights travel: --state weights") from error


def _chosen(pictures: list[Listed], most: int) -> list[Listed]:
    """The first of them that take at most so many bytes, those held out always; all if `most` is 0."""
    taken, chosen = 0, []
    for p in pictures:
        taken += p.size
        if not most or p.held_out or taken <= most:
            chosen.append(p)
    return chosen


def _scripts() -> list[Path]:
    return [REPOSITORY / "tools" / "gpu_kit.py", *sorted((REPOSITORY / "tools" / "kit").glob("*.py"))]


def _write_call(folder: Path, number: int, calls: int, files: list[Path], pictures: list[Listed], state: str) -> None:
    for name in ("kit", "files"):
        (folder / name).mkdir(parents=True)
    for script in _scripts():
        shutil.copy(script, folder / script.relative_to(REPOSITORY / "tools"))
    for path in files:
        shutil.copy(path, folder / "files" / path.name)
    if pictures:
        write_shard(folder / "files" / f"pictures-{number:03}.tar", pictures)
    call = {"number": number, "calls": calls, "state": state}
    (folder / "call.json").write_text(json.dumps(call))
