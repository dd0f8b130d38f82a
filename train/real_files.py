"""Real files of a few validation pictures: does the estimate that training minimises equal what is written?"""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.errors import ModelFileError
from dcae.models.export import coding_model
from dcae.networks.base import DCAE

log = logging.getLogger(__name__)
FILES = 4
"""Pictures that are encoded."""
_TOLERATED = 0.02
"""Share by which files may differ from the estimate without a warning."""


def real_files(
    network: DCAE, pictures: list[np.ndarray], estimates: np.ndarray, qualities: list[float]
) -> list[list[float]]:
    """Encode the first pictures at the lowest, a middle and the highest quality; warn where the estimate is off.

    Without the encoder's correction of brightness, of which the estimate knows nothing.

    Args:
        pictures: (H, W, 3) uint8 each.
        estimates: (pictures, qualities), bits per pixel.

    Returns:
        One [quality, bpp of whole files, bpp of their coded symbols, estimated bpp of the same pictures] each; none
        where these weights cannot code.
    """
    try:
        codec = Codec(coding_model(network), str(next(network.parameters()).device))
    except ModelFileError as error:  # the run goes on: later weights may do
        log.warning("no files in this validation: %s", error)
        return []
    chosen = pictures[:FILES]
    areas = [picture.shape[0] * picture.shape[1] for picture in chosen]
    pixels = sum(areas)
    rows = []
    for place in sorted({0, len(qualities) // 2, len(qualities) - 1}):
        quality, whole, coded = qualities[place], 0, 0
        for picture in chosen:
            data = codec.encode(Image.fromarray(picture), quality, correct_means=False)
            container = read_container(data)
            whole += len(data)
            coded += len(container.z) + len(container.y)
        estimate = float(estimates[: len(chosen), place] @ areas) / pixels
        rows.append([quality, *(round(8 * n / pixels, 5) for n in (whole, coded)), round(estimate, 5)])
        # The range coder ends on whole words: a few bytes a section that are no fault of the estimate.
        if abs(8 * coded / pixels - estimate) > _TOLERATED * estimate + 8 * 8 * len(chosen) / pixels:
            log.warning(
                "quality %g: files take %.4f bpp, the estimate says %.4f: more than %g %% apart",
                quality, 8 * coded / pixels, estimate, 100 * _TOLERATED,
            )  # fmt: skip
    return rows
