"""The machine and the software that measured, for reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from dcae import __version__

_PACKAGES = ("torch", "onnxruntime", "pillow", "constriction")
"""What coding a picture depends on."""


def environment(others: Iterable[str] = ()) -> dict[str, str]:
    """Processor, cores and versions, by name, for reports; of packages those that are installed, `others` as well."""
    values = {"processor": _processor(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    versions = {}
    for name in (*_PACKAGES, *others):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return values | {"dcae": __version__} | versions


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
