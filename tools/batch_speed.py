"""Pictures per second of a batch, by `--jobs` at equal cores and by Ray, side by side in one run.

    python tools/batch_speed.py PICTURES [--cores N] [--pictures 24] [--rounds 2] [-o docs/batches.md]

The cores are divided: with `--jobs J` each process has N/J threads. Measured are whole commands, from their start to
their end, in turns; of each the fastest round counts. Ray is measured where it is installed. The table replaces what
stands between the markers in the output.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from dcae.codec.options import cores
from dcae.errors import DCAEError
from dcae.eval.environment import environment
from dcae.eval.markdown import seconds, table
from dcae.eval.pictures import find_pictures, pixel_count
from dcae.files import write_bytes
from dcae.models.installed import DEFAULT_MODEL, find_model

BEGIN, END = "<!-- batches: begin -->\n", "<!-- batches: end -->"


class Way(NamedTuple):
    """A way to run a batch."""

    name: str
    options: list[str]
    threads: int
    """Of each process."""


def ways(cores: int) -> Iterator[Way]:
    """`--jobs` from 1 to the number of cores, in powers of two, and Ray with an actor for each core."""
    jobs = 1
    while jobs < cores:
        yield Way(f"`--jobs {jobs}`", ["--jobs", str(jobs)], cores // jobs)
        jobs *= 2
    yield Way(f"`--jobs {cores}`", ["--jobs", str(cores)], 1)
    if find_spec("ray") and find_spec("pyarrow"):
        yield Way(f"`--runner ray --jobs {cores}`", ["--runner", "ray", "--jobs", str(cores)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--cores", type=int, default=cores())
    parser.add_argument("--pictures", dest="count", type=int, default=24, help="pictures in a batch")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="a page with the markers; by default the table is printed")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    try:
        paths = find_pictures(options.pictures.resolve(), options.count, print)
    except DCAEError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for number, path in enumerate(islice(cycle(paths), options.count)):  # names of their own, if there are too few
            (source / f"{number:04}{path.suffix}").symlink_to(path)
        found = _measured(Path(folder), list(ways(options.cores)), options.rounds)
    megapixels = sum(pixel_count(path) for path in islice(cycle(paths), options.count)) / 1e6
    text = report(found, options.count, megapixels, options.cores)
    if options.output is None:
        print(text)
    else:
        write_bytes(str(options.output), replaced(options.output.read_text("utf-8"), text).encode(), force=True)


def _measured(folder: Path, todo: list[Way], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of encoding and decoding by name of the way, the least of the rounds."""
    best: dict[str, dict[str, float]] = {way.name: {} for way in todo}
    for number in range(rounds):
        for way in todo:
            packed, unpacked = (folder / f"{kind}-{number}-{way.name.strip('`')}" for kind in ("packed", "unpacked"))
            for command, here, there in (("encode", folder / "in", packed), ("decode", packed, unpacked)):
                took = _run(command, here, there, way)
                best[way.name][command] = min(best[way.name].get(command, took), took)
                print(f"{command} {way.name}: {took:.1f} s", file=sys.stderr)
    return best


def _run(command: str, here: Path, there: Path, way: Way) -> float:
    """Seconds of a whole command.

    Raises:
        SystemExit: it failed.
    """
    arguments = [sys.executable, "-m", "dcae", command, str(here), "-o", str(there), "--quiet", *way.options]
    started = time.perf_counter()
    done = subprocess.run(arguments, env=os.environ | {"OMP_NUM_THREADS": str(way.threads)}, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return time.perf_counter() - started


def report(found: dict[str, dict[str, float]], count: int, megapixels: float, cores: int) -> str:
    """A table of pictures per second, and a sentence that says what was measured."""
    first = next(iter(found.values()))
    rows = []
    for name, took in found.items():
        cells = [
            [f"{count / took[c]:.2f}", f"{first[c] / took[c]:.2f}", seconds(took[c])] for c in ("encode", "decode")
        ]
        rows.append([name, *cells[0], *cells[1]])
    machine = environment()
    header = ["", "encode, pictures/s", "ratio", "s", "decode, pictures/s", "ratio", "s"]
    ray = " Ray was not installed."
    if any("ray" in name for name in found):
        ray = " Ray's start a cluster of this machine first."
    model = find_model(DEFAULT_MODEL).path.stem
    said = (
        f"{count} pictures of {megapixels / count:.2f} megapixels on average, {model} at its default effort, "
        f"{cores} cores ({machine['processor']}), {date.today()}, `tools/batch_speed.py`: whole "
        "commands with the start of their processes, each process with "
        f"an equal share of the cores.{ray}"
    )
    return f"{table(header, rows)}\n\n{fill(said, 118)}\n"


def replaced(page: str, text: str) -> str:
    """A page with what stands between the markers replaced.

    Raises:
        SystemExit: they are missing.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"the markers {BEGIN.strip()} and {END} are missing in the page")
    return head + begin + text + end + tail


if __name__ == "__main__":
    main()
