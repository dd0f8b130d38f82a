"""Degradations by name: what makes the small pictures that a network learns to enlarge."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcae.errors import OptionError
from dcae.extras import require_training
from dcae.models.installed import find_model
from dcae.networks.base import DCAE
from dcae.networks.registry import build_model
from dcae.resize import taps
from dcae.sr.protocol import resize
from dcae.sr.training.settings import PairSettings
from dcae.train.data import to_float
from dcae.train.init import load_weights


class Degradation:
    """A kernel that reduces pictures, and for "codec" the codec that codes what the bicubic one leaves.

    The codec is its network's forward pass in floating point, with rounded latents: what decoding a file gives but for
    the encoder's search and for arithmetic that is exact there.

    Args:
        settings: its name, the scale, and the codec's model and qualities.
        device: where pictures are.

    Raises:
        ModelNotFoundError, ModelFileError: no such codec.
        OptionError: qualities that it does not have.
        MissingDependencyError: a codec, and compressai is not installed.
    """

    def __init__(self, settings: PairSettings, device: str = "cpu") -> None:
        self.scale, self.name = settings.scale, settings.degradation
        self.kernel = "bicubic" if self.name == "codec" else self.name
        self._codec: DCAE | None = None
        if self.name == "codec":
            require_training()
            header = find_model(settings.codec)
            self._codec = _codec(settings.codec).to(device)
            low, high = header.config.qualities
            self._qualities = settings.codec_qualities or (low, high)
            if not low <= min(self._qualities) <= max(self._qualities) <= high:
                raise OptionError(f"codec_qualities must be within {low:g}..{high:g}, those of {settings.codec}")
            low, high = self._qualities
            self.name = f"codec {settings.codec} {header.short_id.hex()} {low:g}..{high:g}"

    def __call__(self, pictures: Tensor, draws: np.ndarray) -> Tensor:
        """Small pictures (B, 3, H / scale, W / scale) on the levels of 8 bits in [0, 1].

        Args:
            pictures: (B, 3, H, W) in [0, 1], sides multiples of the scale.
            draws: (B,) in [0, 1), where between the lowest and the highest quality each is coded.
        """
        small = reduced(pictures, self.scale, self.kernel)
        return small if self._codec is None else self._coded(small, draws)

    def picture(self, pixels: NDArray[np.uint8], draw: float) -> NDArray[np.uint8]:
        """One picture (H, W, 3), as the protocol reduces it; `draw` as above."""
        small = resize.reduced(pixels, self.scale, self.kernel)
        if self._codec is None:
            return small
        device = next(self._codec.parameters()).device
        planes = to_float(torch.from_numpy(small).to(device)).permute(2, 0, 1)[None]
        found = self._coded(planes, np.array([draw]))[0].permute(1, 2, 0)
        return (found * 255).round().to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def _coded(self, small: Tensor, draws: np.ndarray) -> Tensor:
        assert self._codec is not None
        low, high = self._qualities
        qualities = torch.from_numpy(low + (high - low) * draws).to(small.device, torch.float32)
        found = self._codec(small, qualities)["x_hat"]
        return (found.clamp(0, 1) * 255).round() / 255


def _codec(model: str) -> DCAE:
    """The network of a codec with the densities that its forward pass asks for, in evaluation mode."""
    config, weights = load_weights(model)
    network = build_model(config)
    network.load_state_dict(weights, strict=False)
    return network.eval().requires_grad_(False)


@lru_cache(maxsize=16)
def _matrix(length: int, scale: int, kernel: str, device: torch.device) -> Tensor:
    """(length / scale, length), the reduction of one dimension."""
    places, weights = taps(length, 1 / scale, kernel)
    matrix = np.zeros((len(places), length), np.float32)
    np.add.at(matrix, (np.arange(len(places))[:, None], places), weights.astype(np.float32))
    return torch.from_numpy(matrix).to(device)


def reduced(pictures: Tensor, scale: int, kernel: str) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] reduced as :func:`dcae.sr.protocol.resize.reduced` does it, float on the levels
    of 8 bits.

    Args:
        pictures: their sides are multiples of `scale`.
        kernel: name of a kernel.
    """
    rows = _matrix(pictures.shape[2], scale, kernel, pictures.device)
    columns = _matrix(pictures.shape[3], scale, kernel, pictures.device)
    small = rows @ pictures @ columns.T
    return (small.clamp(0, 1) * 255).round() / 255
