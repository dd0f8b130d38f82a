"""Seconds that tables take per megapixel of the enlarged picture, beside Pillow's bicubic; the numbers in
docs/sr-tables.md:

    python tools/table_speed.py [MODEL ...] [--methods mulut,spflut-dfc] [--side 512]

CPU seconds of one thread, the least of several runs. Models are files or installed names; methods are measured with
tables of random numbers over a smooth picture with noise, which look-up takes as long for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.sr.models import find_sr_model
from dcae.sr.tables.config import PUBLISHED, TableConfig, published_config
from dcae.sr.tables.engine import TableEngine
from dcae.sr.tables.layout import tensor_layouts
from dcae.sr.tables.tablefile import read_tables


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--methods", default=",".join(PUBLISHED))
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--side", type=int, default=512, help="of the small picture, in pixels")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    picture = test_picture(options.side)
    large = (options.side * options.scale,) * 2
    image, megapixels = Image.fromarray(picture), large[0] * large[1] / 1e6
    bicubic = least(lambda: image.resize(large, Image.Resampling.BICUBIC), 10 * options.runs) / megapixels
    print(f"{'':24s}    s/MP  times bicubic\n{'bicubic (Pillow)':24s} {bicubic:7.4f}")
    engines = {}
    for name in options.models:
        header, tensors = read_tables(find_sr_model(name, options.scale).path)
        engines[name] = TableEngine(header.config, tensors)
    for name in filter(None, options.methods.split(",")):
        config = published_config(name, options.scale)
        engines[name] = TableEngine(config, random_tensors(config))
    for name, engine in engines.items():
        engine(picture[:32])
        seconds = least(lambda engine=engine: engine(picture), options.runs) / megapixels  # type: ignore[misc]
        print(f"{name:24s} {seconds:7.4f} {seconds / bicubic:10.0f}", flush=True)


def least(work: Callable[[], object], runs: int) -> float:
    """Least CPU seconds of several runs."""
    found = []
    for _ in range(runs):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def test_picture(side: int) -> NDArray[np.uint8]:
    """(side, side, 3), as smooth as photographs are, with noise of four grey levels."""
    rows, columns = np.mgrid[0:side, 0:side] / 40
    waves = np.stack([np.sin(rows + k) * np.cos(columns - k) for k in range(3)], -1)
    noise = np.random.default_rng(0).normal(0, 4, waves.shape)
    return np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8)


def random_tensors(config: TableConfig) -> dict[str, NDArray[np.integer]]:
    """Tables of random numbers; samplers that see their windows about evenly."""
    rng, found = np.random.default_rng(1), {}
    for name, (dtype, shape) in tensor_layouts(config).items():
        found[name] = rng.integers(-127, 128, shape).astype(dtype)
        if not name.startswith("tables."):
            found[name] = np.full(
                shape, (1 << 24) // np.prod(shape[1:], dtype=int) // (1 if len(shape) > 1 else 4), dtype
            )
    return found


if __name__ == "__main__":
    main()
