"""What a run is judged by: estimated rate and distortion of held-out pictures, and real files of a few of them."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.errors import ModelFileError
from dcae.models.export import coding_model
from dcae.networks.base import DCAE
from dcae.train.config import TrainConfig
from dcae.train.data import to_float
from dcae.train.loss import balanced, rate_distortion

log = logging.getLogger(__name__)
CROP = 512
"""Validation looks at the centre of a picture, at most this many pixels a side."""
_FILES = 4
_TOLERATED = 0.02


def validation_crops(pictures: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Centre crops of the first `count` pictures, (H, W, 3) uint8, H and W at most `CROP`."""
    crops = []
    for picture in pictures[:count]:
        top, left = ((n - min(n, CROP)) // 2 for n in picture.shape[:2])
        crops.append(np.ascontiguousarray(picture[top : top + CROP, left : left + CROP]))
    return crops


@torch.no_grad()
def validate(network: DCAE, crops: list[np.ndarray], config: TrainConfig) -> dict[str, Any]:
    """Measure a network (its averaged weights loaded) in float32.

    Returns:
        `score`, the mean loss over all λ, each balanced as in training with power 1/2 (lower is better);
        `points`, one [quality, loss, bpp, PSNR in dB] per anchor of λ; `files`, one [quality, bpp of whole files,
        bpp of their coded symbols, estimated bpp of the same pictures] for the lowest, middle and highest quality.
    """
    training = network.training
    network.eval()
    low, high = network.config.qualities
    qualities = np.arange(low, high + 0.5).tolist()
    points, estimates, scores = [], {}, []
    for quality in qualities:
        lambdas = torch.tensor([network.config.lambda_of(quality)])
        rows = []
        for crop in crops:
            x = _tensor(crop, network)
            output = network(x, quality)
            output["x_hat"] = output["x_hat"].clamp(0, 1)
            terms = rate_distortion(x, output, lambdas.to(x.device), config.metric)
            bpp, psnr = (terms.bpp_y + terms.bpp_z).item(), -10 * math.log10(max(terms.mse.item(), 1e-10))
            rows.append([terms.loss.item(), bpp, psnr])
        estimates[quality] = [row[1] * crop.shape[0] * crop.shape[1] for row, crop in zip(rows, crops, strict=True)]
        points.append([quality, *np.mean(rows, 0).round(4).tolist()])
        scores.append(balanced(torch.tensor(points[-1][1]), lambdas, config.metric, 0.5).item())
    files = _files(network, crops[:_FILES], estimates, sorted({low, qualities[len(qualities) // 2], high}))
    network.train(training)
    return {"score": round(float(np.mean(scores)), 4), "points": points, "files": files}


def _files(
    network: DCAE, crops: list[np.ndarray], estimates: dict[float, list[float]], qualities: list[float]
) -> list[list[float]]:
    """Encode the crops for real; warn where the estimate is off, since then the model learns a wrong rate."""
    try:
        codec = Codec(coding_model(network), str(next(network.parameters()).device))
    except ModelFileError as error:  # the run goes on: later weights may do
        log.warning("no files in this validation: %s", error)
        return []
    pixels = sum(crop.shape[0] * crop.shape[1] for crop in crops)
    rows = []
    for quality in qualities:
        whole = coded = 0
        for crop in crops:
            data = codec.encode(Image.fromarray(crop), quality)
            container = read_container(data)
            whole += len(data)
            coded += len(container.z) + len(container.y)
        estimate = sum(estimates[quality][: len(crops)]) / pixels
        rows.append([quality, *(round(8 * n / pixels, 5) for n in (whole, coded)), round(estimate, 5)])
        # The range coder ends on whole words: a few bytes a section that are no fault of the estimate.
        if abs(8 * coded / pixels - estimate) > _TOLERATED * estimate + 8 * 8 * len(crops) / pixels:
            log.warning(
                "quality %g: files take %.4f bpp, the estimate says %.4f: more than %g %% apart",
                quality, 8 * coded / pixels, estimate, 100 * _TOLERATED,
            )  # fmt: skip
    return rows


@torch.no_grad()
def reconstructions(network: DCAE, crops: list[np.ndarray], quality: float) -> list[np.ndarray]:
    """Original and decoded side by side, (H, 2 W, 3) uint8 each."""
    training = network.training
    network.eval()
    shown = []
    for crop in crops:
        x_hat = network(_tensor(crop, network), quality)["x_hat"]
        decoded = (x_hat[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        shown.append(np.concatenate([crop, decoded], 1))
    network.train(training)
    return shown


def _tensor(crop: np.ndarray, network: DCAE) -> Tensor:
    device = next(network.parameters()).device
    return to_float(torch.from_numpy(crop).to(device).permute(2, 0, 1)[None])
