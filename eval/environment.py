"""The machine and the software that measured, for reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from dcae import __version__

_PACKAGES = ("torch", "onnxruntime", "pillow", "constriction")
"""What coding a picture depends on."""


def environment(others: Iterable[str] = ()) -> dict[str, str]:
    """Processor, cores and versions, by name, for reports; of packages those that are installed, `others` as well."""
    values = {
        "processor": processor().partition(" (family")[0],
        "instructions": _instructions(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    versions = {}
    for name in (*_PACKAGES, *others):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return values | {"dcae": __version__} | versions


def _instructions() -> str:
    """The sets of wide instructions that the processor has, where the system tells."""
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
        known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_tile": "AMX"}
        return ", ".join(name for flag, name in known.items() if flag in flags) or "none of AVX2 and later"
    return "unknown"


@cache
def processor() -> str:
    """Name of the processor, with its family and model where the system tells: names alone hide them."""
    facts = {}
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {facts['cpu family']} model {facts['model']})" if "cpu family" in facts else name
