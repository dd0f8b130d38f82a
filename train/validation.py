"""What a run is judged by: rate and distortion of held-out pictures beside those of a reference model, errors of
brightness, and real files of a few pictures."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcae.networks.base import DCAE
from dcae.networks.config import METRICS, DCAEConfig
from dcae.train.config import TrainConfig
from dcae.train.data import to_float
from dcae.train.loss import Distortion, rate_distortion
from dcae.train.processes import Group, agreed, sum_over
from dcae.train.real_files import real_files
from dcae.train.reference import Reference, load_reference
from dcae.train.task import Validation

log = logging.getLogger(__name__)
BLOCK = 64
"""Side in pixels of the blocks whose mean error is the error of brightness."""
_QUALITIES = 4
_SHOWN = 4
LOSS, BPP, PSNR, BRIGHTNESS = range(4)
"""What is measured: J = λ·distortion + bpp; bits per pixel; dB; mean square of :func:`brightness_errors`."""


class Validator:
    """Fixed pictures and a reference model's results on them; `validator(network, stopping)` measures a network.

    Args:
        pictures: (H, W, 3) uint8 each, the same on every process; each process measures its share of them.
        network: configuration of the networks to be measured.
        saved: what :meth:`content` returned, to measure the reference only once in a run's life.
    """

    def __init__(
        self, pictures: list[np.ndarray], network: DCAEConfig, config: TrainConfig, group: Group,
        saved: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.pictures, self.config, self.group = pictures, config, group
        self.qualities = validated_qualities(network)
        self._distortion = Distortion(config.metric, pixel_share=config.pixel_share)
        reference = load_reference(config.reference) if config.reference else None
        name = reference.name if reference else "none"
        digest = 0
        for picture in pictures:
            digest = zlib.crc32(picture.tobytes(), zlib.crc32(repr(picture.shape).encode(), digest))
        self.measure = f"pictures {digest:08x}, qualities {self.qualities}, λ {network.lambdas}, reference {name}"
        if config.pixel_share:
            self.measure += f", pixel share {config.pixel_share:g}"
        if saved and saved["measure"] == self.measure:
            self.reference = np.array(saved["losses"])
        else:
            self.reference = self._measured_reference(reference, network)

    def _measured_reference(self, reference: Reference | None, network: DCAEConfig) -> np.ndarray:
        """J of the reference at the same λ, (pictures, qualities); 1 where it has none, so that J itself is judged."""
        losses = np.ones((len(self.pictures), len(self.qualities)))
        if reference is None:
            return losses
        log.info("measuring %s on the %d pictures of validation", reference.name, len(self.pictures))
        matching = [reference.quality_at(network.mse_lambda_of(quality)) for quality in self.qualities]
        there = [k for k, quality in enumerate(matching) if quality is not None]
        found = measured(
            reference.network.to(self.group.device), self.pictures, [matching[k] or 0.0 for k in there],
            self._distortion, self.group, lambda: False,
        )  # fmt: skip
        assert found is not None
        losses[:, there] = found[..., LOSS]
        return losses

    def __call__(self, network: DCAE, stopping: Callable[[], bool]) -> Validation | None:
        """Measure a network (its averaged weights loaded) in float32; None if `stopping` said so."""
        training = network.training
        network.eval()
        try:
            found = measured(network, self.pictures, self.qualities, self._distortion, self.group, stopping)
            if found is None:
                return None
            row = summary(found, self.reference, self.qualities)
            first = self.group.rank == 0
            row["files"] = real_files(network, self.pictures, found[..., BPP], self.qualities) if first else []
            shown = self.pictures[:_SHOWN] if first else []
            pictures = reconstructions(network, shown, network.config.default_quality)
        finally:
            network.train(training)
        return Validation(row["score"], self.measure, row, _curves(row), pictures, _line(row))

    def content(self) -> dict[str, Any]:
        """What the checkpoint keeps of the reference."""
        return {"measure": self.measure, "losses": self.reference.tolist()}


def validated_qualities(network: DCAEConfig) -> list[float]:
    """The lowest, the highest, and two between, of those trained for."""
    low, high = network.qualities
    return sorted({float(round(quality)) for quality in np.linspace(low, high, _QUALITIES)})


@torch.no_grad()
def measured(
    network: DCAE, pictures: list[np.ndarray], qualities: list[float], kind: Distortion, group: Group,
    stopping: Callable[[], bool],
) -> np.ndarray | None:  # fmt: skip
    """Estimates for every picture at every quality, shared out over the processes; None if any of them is stopping.

    Args:
        network: in evaluation mode.

    Returns:
        (pictures, qualities, 4), last LOSS, BPP, PSNR, BRIGHTNESS.
    """
    found = torch.zeros(len(pictures), len(qualities), 4, dtype=torch.float64)
    for place in range(group.rank, len(pictures), group.world):
        x = _tensor(pictures[place], network)
        for k, quality in enumerate(qualities):
            if not stopping():
                found[place, k] = _estimates(network, x, quality, kind)
    if agreed((float(stopping()),), group.world)[0]:
        return None
    return sum_over(found, group.world).numpy()


def _estimates(network: DCAE, x: Tensor, quality: float, kind: Distortion) -> Tensor:
    output = network(x, quality)
    output["x_hat"] = output["x_hat"].clamp(0, 1)
    lambdas = torch.tensor([network.config.mse_lambda_of(quality) * METRICS[kind.metric]], device=x.device)
    terms = rate_distortion(x, output, lambdas, kind)
    psnr = -10 * math.log10(max(terms.mse.item(), 1e-10))
    brightness = brightness_errors(x, output["x_hat"]).square().mean().item()
    return torch.tensor([terms.loss.item(), (terms.bpp_y + terms.bpp_z).item(), psnr, brightness])


def brightness_errors(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean error x̂ - x of every block of 64x64 pixels and channel, in levels of 255, once x̂ is an 8-bit picture.

    Args:
        x, x_hat: (B, 3, H, W) in [0, 1]; blocks at the right and lower edge may be smaller.
    """
    error = (255 * x_hat.clamp(0, 1)).round() - 255 * x
    return F.avg_pool2d(error, BLOCK, ceil_mode=True)


def summary(found: np.ndarray, reference: np.ndarray, qualities: list[float]) -> dict[str, Any]:
    """What is recorded of a validation.

    Args:
        found: as :func:`measured` returns it.
        reference: (pictures, qualities), J of the reference, or 1.

    Returns:
        `score`: mean over the qualities of the logarithm of the median ratio: -0.01 is 1 % less J than the reference;
        neither one odd picture nor one quality with large J can carry it. `points`: one [quality, J, bpp, PSNR in dB]
        per quality, means over the pictures. `ratios`: one [quality, median, worst] of the pictures' J over the
        reference's. `brightness`: one [quality, all pictures, worst picture] per quality, the root mean square of
        :func:`brightness_errors`.
    """
    ratios = found[..., LOSS] / reference
    medians = np.median(ratios, 0)
    squares = found[..., BRIGHTNESS]
    return {
        "score": round(float(np.log(medians).mean()), 5),
        "points": [
            [q, *point] for q, point in zip(qualities, found[..., :BRIGHTNESS].mean(0).round(4).tolist(), strict=True)
        ],
        "ratios": _by_quality(qualities, medians, ratios.max(0)),
        "brightness": _by_quality(qualities, np.sqrt(squares.mean(0)), np.sqrt(squares.max(0))),
    }


def _by_quality(qualities: list[float], *columns: np.ndarray) -> list[list[float]]:
    return [[quality, *row] for quality, row in zip(qualities, np.stack(columns, 1).round(4).tolist(), strict=True)]


def _curves(row: dict[str, Any]) -> dict[str, float]:
    curves = {f"validation/file bpp {quality:g}": whole for quality, whole, _, _ in row["files"]}
    for quality, _, bpp, psnr in row["points"]:
        curves |= {f"validation/bpp {quality:g}": bpp, f"validation/psnr {quality:g}": psnr}
    for name, column in (("ratio", "ratios"), ("brightness error", "brightness")):
        for quality, middle, worst in row[column]:
            curves |= {f"validation/{name} {quality:g}": middle, f"validation/worst {name} {quality:g}": worst}
    return curves


def _line(row: dict[str, Any]) -> str:
    parts = [
        f"quality {quality:g}: {bpp:.4f} bpp, {psnr:.2f} dB, J {median:.4f} (worst {worst:.3f}), brightness {error:.2f}"
        for (quality, _, bpp, psnr), (_, median, worst), (_, error, _) in zip(
            row["points"], row["ratios"], row["brightness"], strict=True
        )
    ]
    return "; ".join(parts)


@torch.no_grad()
def reconstructions(network: DCAE, pictures: list[np.ndarray], quality: float) -> list[np.ndarray]:
    """Original and decoded side by side, (H, 2 W, 3) uint8 each."""
    shown = []
    for picture in pictures:
        x_hat = network(_tensor(picture, network), quality)["x_hat"]
        decoded = (x_hat[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        shown.append(np.concatenate([picture, decoded], 1))
    return shown


def _tensor(picture: np.ndarray, network: DCAE) -> Tensor:
    device = next(network.parameters()).device
    return to_float(torch.from_numpy(picture).to(device).permute(2, 0, 1)[None])
