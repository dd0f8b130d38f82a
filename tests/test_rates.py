"""The search for the quality that gives a wanted number of bytes."""

from __future__ import annotations

from collections.abc import Callable

from helpers import synthetic_picture

from dcae.codec.rates import nearest_size
from dcae.eval.rivals import rival


def test_the_nearest_of_the_whole_qualities_is_found_in_few_steps() -> None:
    asked = []

    def encode(quality: float) -> bytes:
        asked.append(quality)
        return bytes(round(100 * quality))

    quality, data = nearest_size(encode, 10, 40, 2718)
    assert (quality, len(data)) == (27, 2700)
    assert len(asked) == len(set(asked)) < 8
    assert nearest_size(encode, 10, 40, 50)[0] == 10 and nearest_size(encode, 10, 40, 9999)[0] == 40
    assert nearest_size(encode, 10, 10, 2718)[0] == 10


def test_qualities_may_be_quantisers() -> None:
    falling: Callable[[float], bytes] = lambda q: bytes(round(5000 - 100 * q))  # noqa: E731
    assert nearest_size(falling, 40, 10, 2718)[0] == 23


def test_nearness_is_a_ratio() -> None:
    sizes = {1.0: 80, 2.0: 121}
    assert nearest_size(lambda q: bytes(sizes[q]), 1.0, 2.0, 100)[0] == 2


def test_sizes_of_a_real_codec_are_found_again() -> None:
    image, codec = synthetic_picture(200, 150), rival("jpeg")
    for quality in (0, 37, 100):
        size = len(codec.encode(image, quality))
        assert len(nearest_size(lambda q: codec.encode(image, int(q)), 0, 100, size)[1]) == size
