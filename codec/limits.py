"""Limits of what is coded: how large a picture may be by default, what fits into memory, how short a stream."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path

from dcae.codec.fields import MAX_SIDE
from dcae.errors import DCAEError, OptionError

MAX_PIXELS = 100 << 20
"""Largest number of pixels, padded to whole blocks, of a picture that is coded unless the caller says otherwise."""
BYTES_PER_PIXEL = 40
"""Memory that encoding or decoding with `lite` takes at most, per padded pixel; `FIXED_BYTES` come to it."""
FIXED_BYTES = 256 << 20
"""Memory that it takes at most whatever the picture: that of a band, and what a process's first picture loads. The
encoder's search takes half a gigabyte more."""
_CGROUP = Path("/sys/fs/cgroup")


def check_limit(max_pixels: int) -> int:
    """A limit on padded pixels, if it is one.

    Raises:
        OptionError: no integer, or less than 1.
    """
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, Integral) or max_pixels < 1:
        raise OptionError(f"max_pixels must be an integer of at least 1, got {max_pixels!r:.60}")
    return int(max_pixels)


def check_size(width: int, height: int, stride: int, max_pixels: int, error: type[DCAEError]) -> None:
    """Refuse a picture that is too large.

    What the networks see, and memory and time follow, is the picture padded to multiples of `stride`: one row of
    pixels costs as much as 64.

    Raises:
        error: more than `max_pixels` padded pixels, or a side that the format does not have.
    """
    padded = -(-width // stride) * -(-height // stride) * stride**2
    if padded > max_pixels:
        counted = f", {padded} when padded to multiples of {stride}," if stride > 1 else ""
        raise error(
            f"{width}x{height} pixels{counted} are more than the limit of {max_pixels}",
            "raise max_pixels (--max-pixels) if you trust the file and have the memory",
        )
    if max(width, height) > MAX_SIDE:
        raise error(f"{width}x{height} pixels: no side can be longer than {MAX_SIDE}")


def affordable_pixels() -> int:
    """The limit of the command line: `MAX_PIXELS`, or more if decoding then fits into half of the free memory."""
    free = free_memory()
    return MAX_PIXELS if free is None else max(MAX_PIXELS, (free // 2 - FIXED_BYTES) // BYTES_PER_PIXEL)


def free_memory() -> int | None:
    """Bytes that the machine, or what this process is confined to of it, has left; None where nobody says."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    except (OSError, ValueError):
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:  # a container; without a limit the file says "max"
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(limit - used, 0))
    except (OSError, ValueError):
        pass
    return min(found, default=None)
