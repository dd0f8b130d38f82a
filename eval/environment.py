"""On what times were measured."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from dcae import __version__


def environment() -> dict[str, str]:
    """Processor, cores and versions, by name, for reports."""
    values = {"processor": _processor(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    versions = {name: metadata.version(name) for name in ("torch", "pillow", "constriction")}
    return values | {"dcae": __version__} | versions


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
