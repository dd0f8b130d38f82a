"""Search for the quality that gives a wanted number of bytes, of any codec."""

from __future__ import annotations

import math
from collections.abc import Callable


def nearest_size(encode: Callable[[float], bytes], small: float, large: float, target: int) -> tuple[float, bytes]:
    """Quality whose file comes nearest to `target` bytes, as a ratio, and that file; found by halving.

    Args:
        encode: a quality -> the file of a picture.
        small: quality that gives small files, one end of the search.
        large: quality that gives large files, the other end; below `small` where a quality is a quantiser. Tried are
            the ends and, between them, whole qualities.
        target: bytes, at least 1.
    """
    files: dict[float, bytes] = {}

    def size(quality: float) -> int:
        if quality not in files:
            files[quality] = encode(quality)
        return len(files[quality])

    while abs(large - small) > 1 and (middle := float(round((small + large) / 2))) not in (small, large):
        if size(middle) <= target:
            small = middle
        else:
            large = middle
    best = min((small, large), key=lambda quality: abs(math.log(size(quality) / target)))
    return best, files[best]
