"""Bytes of drawings and screens beside AVIF's at equal PSNR; the numbers in docs/pictures.md:

    python tools/drawings.py [--model lite] [--effort 0] [--qualities 1,3,5,7,8] [--side 512]

One picture of each kind that `dcae.train.drawn` draws, by the typeface of Pillow, so that they are the same everywhere,
and of a seed that no training has. Each file, as `dcae.encode` makes it, is divided by what AVIF (speed 6, 4:4:4,
tune=psnr) takes for the same PSNR, between its qualities by the logarithm of bytes. Where a file is without loss AVIF's
largest is taken, which is not.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from PIL import Image

import dcae
from dcae.errors import PictureWarning
from dcae.eval.metrics import METRICS
from dcae.eval.rivals import rival
from dcae.train.drawn import KINDS, drawn_picture

_RIVAL, _SETTINGS = "avif-psnr", (2, 8, 14, 20, 30, 45, 60, 75, 85, 92, 97)
_SEED = 77


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--qualities", default="1,3,5,7,8")
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    warnings.simplefilter("ignore", PictureWarning)
    qualities = [float(quality) for quality in options.qualities.split(",")]
    print(f"| quality | {' | '.join(f'{quality:g}' for quality in qualities)} |\n|---|{'---:|' * len(qualities)}")
    shares = []
    for k, kind in enumerate(sorted(KINDS.keys() - {"photograph"})):
        picture = drawn_picture(
            np.random.default_rng((_SEED, k)), options.side, options.side, kind=kind, installed=False
        )
        row = shares_of(picture, options.model, options.effort, qualities)
        print(f"| {kind} | {' | '.join(f'{share:.2f}{stored}' for share, stored in row)} |", flush=True)
        shares += [share for share, _ in row]
    print(f"\n{np.exp(np.mean(np.log(shares))):.3f} as a geometric mean, at most {max(shares):.2f}")


def shares_of(picture: np.ndarray, model: str, effort: int, qualities: list[float]) -> list[tuple[float, str]]:
    """Bytes beside AVIF's at equal PSNR, and "A" where the file holds AVIF, "L" where it has no loss."""
    psnr, image = METRICS["psnr"].measure, Image.fromarray(picture)
    theirs = []
    for setting in _SETTINGS:
        data = rival(_RIVAL).encode(image, setting)
        theirs.append((psnr(picture, np.asarray(rival(_RIVAL).decode(data))), len(data)))
    theirs.sort()
    levels, sizes = np.array(theirs).T
    found = []
    for quality in qualities:
        data = dcae.encode(image, quality, model=model, effort=effort)
        reached, said = psnr(picture, np.asarray(dcae.decode(data))), dcae.info(data)
        equal = np.exp(np.interp(min(reached, levels[-1]), levels, np.log(sizes)))
        found.append((len(data) / equal, " L" if said.lossless else " A" if said.avif else ""))
    return found


if __name__ == "__main__":
    main()
