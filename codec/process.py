"""What is asked of a process before its arithmetic is trusted: rounding to nearest, and all of its threads."""

from __future__ import annotations

import os

import torch

from dcae.errors import DCAEError

_GRAIN = 1 << 15
"""Elements that torch gives to one thread, at least."""
_worked_in: int | None = None
"""The process that has started torch's threads."""
_tested: set[int] = set()
"""Numbers of threads whose rounding was tested: every thread has a mode of its own, inherited when it is started."""


def check_process() -> None:
    """Refuse to code where the result would be wrong or never come.

    Raises:
        DCAEError: floating-point numbers are not rounded to nearest, or the process was forked off one that had
            coded with several threads, whose threads it lacks.
    """
    global _worked_in
    threads = torch.get_num_threads()
    if threads > 1:
        if _worked_in not in (None, os.getpid()):
            raise DCAEError(
                "this process was forked off one that had coded with several threads, and would wait for them for "
                'ever; start it with multiprocessing.get_context("spawn"), or call torch.set_num_threads(1) in it'
            )
        _worked_in = os.getpid()
    if not _rounds_to_nearest(64 if threads in _tested else threads * _GRAIN):
        raise DCAEError(
            "this process does not round floating-point numbers to nearest (a library has changed the processor's "
            "mode), so that files would not decode; set it back with fesetround(FE_TONEAREST), or code in a process "
            "of its own"
        )
    _tested.add(threads)


def _rounds_to_nearest(count: int) -> bool:
    """Whether `count` sums, quotients and roundings to integers, in float32 and float64, come out as IEEE 754 says.

    Every other mode (up, down, towards zero) fails at least one of them, with either sign.
    """
    for kind, bits in ((torch.float32, 24), (torch.float64, 53)):
        one = torch.ones(count, dtype=kind, device="cpu")
        half = 2.0**-bits  # half of the last place of 1: a tie, which goes to the even neighbour
        pairs = [(one + half, 1.0), (-one - half, -1.0)]
        pairs += [(one + 3 * half, 1.0 + 4 * half), (-one - 3 * half, -1.0 - 4 * half)]
        third = (2 ** (bits + 1) + (1 if bits % 2 == 0 else -1)) // 3  # the integer nearest to 2**(bits + 1) / 3
        pairs += [(one / 3 * 2.0 ** (bits + 1), float(third))]
        pairs += [((one * (k + 0.5)).round(), float(k + k % 2)) for k in (-3, -2, -1, 0, 1, 2)]
        if not all(bool((found == expected).all()) for found, expected in pairs):
            return False
    return True
