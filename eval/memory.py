"""Peak memory of processes, each measurement in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dcae.errors import DCAEError


def peak_mib() -> float | None:
    """The most memory that this process has had resident so far, in MiB; None where the system does not tell."""
    # On Linux ru_maxrss starts at what the parent had at the fork, which a benchmark would then report for every
    # child. The high-water mark in /proc belongs to the program itself.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def reset_peak() -> None:
    """Begin the peak anew, where the system allows it (Linux); elsewhere it remains that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def import_peak_mib(module: str) -> float | None:
    """Peak memory in MiB of a Python that has only imported `module`."""
    code = f"import {module}\nfrom dcae.eval.memory import peak_mib\nprint(peak_mib())"
    output = run_python(["-c", code]).strip()
    return None if output == "None" else float(output)


def run_python(arguments: list[str], standard_input: str = "", environment: Mapping[str, str] | None = None) -> str:
    """What another Python, of the same installation, writes to stdout.

    Paths among the arguments must be absolute.

    Args:
        environment: variables beside, or instead of, those of this process.

    Raises:
        DCAEError: it failed; the message is the last line that it wrote to stderr.
    """
    # Not in the working directory: in a checkout, `dcae` there would hide the installed package.
    result = subprocess.run(
        [sys.executable, *arguments],
        input=standard_input,
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        env=os.environ | dict(environment or {}),
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}, perhaps out of memory"])[-1]
        raise DCAEError(f"measuring in another process failed ({last})")
    return result.stdout
