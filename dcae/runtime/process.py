"""What is asked of a process before its arithmetic is trusted: rounding to nearest, and all of its threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dcae.errors import DCAEError

GRAIN = 1 << 15
"""Elements that torch gives to one thread, at least."""


class ProcessCheck:
    """Refuses to code where the result would be wrong or never come. One for each library that has threads.

    Args:
        ones: makes arrays of `count` ones in float32 and in float64, of the library that computes.
        cure: what else can be done in a forked process; "" for nothing.
    """

    def __init__(self, ones: Callable[[int], tuple[Any, Any]], cure: str = "") -> None:
        self._ones, self._cure = ones, cure
        self._worked_in: int | None = None
        """The process that has started the library's threads."""
        self._tested: set[int] = set()
        """Numbers of threads whose rounding was tested: every thread has a mode of its own, inherited when it is
        started."""

    def check(self, threads: int) -> None:
        """Look at this process, whose library computes with so many threads.

        Raises:
            DCAEError: floating-point numbers are not rounded to nearest, or the process was forked off one that had
                coded with several threads, whose threads it lacks.
        """
        if threads > 1:
            if self._worked_in not in (None, os.getpid()):
                raise DCAEError(
                    "this process was forked off one that had coded with several threads, and would wait for them for "
                    f'ever; start it with multiprocessing.get_context("spawn"){self._cure}'
                )
            self._worked_in = os.getpid()
        if not rounds_to_nearest(*self._ones(64 if threads in self._tested else threads * GRAIN)):
            raise DCAEError(
                "this process does not round floating-point numbers to nearest (a library has changed the processor's "
                "mode), so that files would not decode; set it back with fesetround(FE_TONEAREST), or code in a "
                "process of its own"
            )
        self._tested.add(threads)


def keep_memory() -> None:
    """Have this process keep the memory of its arrays for the next ones, where the C library is glibc.

    By default glibc gives that of every large array back to the system at once, and takes new, empty pages for the next
    one, which is up to half of the time of a large picture's transforms. It is a setting of the whole process: for
    commands, not for a library's functions.
    """
    import ctypes

    with suppress(AttributeError, OSError, TypeError):  # another C library, or another system
        set_option = ctypes.CDLL(None).mallopt
        for option, size in ((-3, 32 << 20), (-1, 256 << 20)):  # M_MMAP_THRESHOLD, its largest; M_TRIM_THRESHOLD
            set_option(option, size)


def rounds_to_nearest(singles: Any, doubles: Any) -> bool:
    """Whether sums, quotients and roundings to integers of arrays of ones come out as IEEE 754 says.

    Every other mode (up, down, towards zero) fails at least one of them, with either sign.
    """
    for one, bits in ((singles, 24), (doubles, 53)):
        half = 2.0**-bits  # half of the last place of 1: a tie, which goes to the even neighbour
        pairs = [(one + half, 1.0), (-one - half, -1.0)]
        pairs += [(one + 3 * half, 1.0 + 4 * half), (-one - 3 * half, -1.0 - 4 * half)]
        third = (2 ** (bits + 1) + (1 if bits % 2 == 0 else -1)) // 3  # the integer nearest to 2**(bits + 1) / 3
        pairs += [(one / 3 * 2.0 ** (bits + 1), float(third))]
        pairs += [((one * (k + 0.5)).round(), float(k + k % 2)) for k in (-3, -2, -1, 0, 1, 2)]
        if not all(bool((found == expected).all()) for found, expected in pairs):
            return False
    return True
