"""Search over a codec's qualities, for a wanted number of bytes or a wanted error, in few encodings."""

from __future__ import annotations

import math
from collections.abc import Callable


def crossing(
    value: Callable[[int], float], low: int, high: int, first: int, slope: float = 0.0, near: float = 0.0
) -> None:
    """Search on a rising function of integers for the place where it becomes positive.

    It ends when the function was asked at both neighbours of that place, at an end of the range behind which the place
    lies, or at a value in [-near, 0]; what was found is for `value` to remember. The nearer the function is to a
    straight line, the fewer steps it takes (secants, with a halving where they get stuck).

    Args:
        value: the function, asked once at each place.
        low, high: ends of the range, both included.
        first: place to begin at.
        slope: growth per step that is expected until two values are known; 0 if nothing is known.
        near: values that are near enough; sought is the middle of them.
    """
    below: tuple[int, float] | None = None
    above: tuple[int, float] | None = None
    last: tuple[int, float] | None = None
    at, width, slow, outside = min(max(first, low), high), high - low, 0, 0
    while True:
        found = (at, value(at))
        if -near <= found[1] <= 0:
            return
        if last and (rise := (found[1] - last[1]) / (found[0] - last[0])) > 0:
            slope = rise
        last = found
        if found[1] <= 0:
            below = found
        else:
            above = found
        guess = at + (-near / 2 - found[1]) / slope if slope > 0 else math.inf
        if below and above:
            if (left := above[0] - below[0]) <= 1:
                return
            slow, width = (slow + 1 if left > width / 2 else 0), left
            if slow > 2:
                guess = (below[0] + above[0]) / 2
            elif not below[0] < guess < above[0]:
                guess = below[0] + left * (-near / 2 - below[1]) / (above[1] - below[1])
            at = min(max(round(guess), below[0] + 1), above[0] - 1)
        else:
            if at == (end := high if below else low):
                return
            outside += 1
            if outside > 3 or guess == math.inf:  # the line leads nowhere
                guess = (at + end) / 2
            # Rounded away from what is known, so that the place comes to lie between two known ones.
            at = min(max(math.ceil(guess), at + 1), high) if below else max(min(math.floor(guess), at - 1), low)


def nearest_size(encode: Callable[[float], bytes], small: float, large: float, target: int) -> tuple[float, bytes]:
    """Quality whose file comes nearest to `target` bytes, as a ratio, and that file.

    Args:
        encode: a quality -> the file of a picture.
        small: quality that gives small files, one end of the search.
        large: quality that gives large files, the other end; below `small` where a quality is a quantiser. Tried are
            whole steps from `small` on, and the end.
        target: bytes, at least 1.
    """
    files: dict[float, bytes] = {}
    sign, steps = (1 if large > small else -1), math.ceil(abs(large - small))

    def value(step: int) -> float:
        quality = large if step == steps else small + sign * step
        if quality not in files:
            files[quality] = encode(quality)
        return math.log(len(files[quality]) / target)

    crossing(value, 0, steps, steps // 2)
    best = min(files, key=lambda quality: abs(math.log(len(files[quality]) / target)))
    return best, files[best]
