"""Discriminators of adversarial training: logits of how real a picture (B, 3, H, W) in [0, 1] looks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2


class VGGDiscriminator(nn.Module):
    """SRGAN's discriminator: one logit for a picture, (B, 1).

    Args:
        side: of the pictures in pixels, a multiple of 16; 96 in the paper.
        channels: of the first layer.
    """

    def __init__(self, side: int = 96, channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (channels, 2 * channels, 4 * channels, 8 * channels):
            for stride in (1, 2):
                first = not layers
                layers.append(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=first))
                layers += [] if first else [nn.BatchNorm2d(outputs)]
                layers.append(nn.LeakyReLU(_SLOPE))
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * (side // 16) ** 2, 16 * channels), nn.LeakyReLU(_SLOPE), nn.Linear(16 * channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator (Wang et al. 2021): a logit for every pixel, (B, 1, H, W), with spectral norm.

    Args:
        channels: of the first layer.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, side, stride, 1, bias=False))

        pairs = [(channels << k, channels << k + 1) for k in range(3)]
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(layer(a, b, 4, 2) for a, b in pairs)
        self.up = nn.ModuleList(layer(b, a) for a, b in reversed(pairs))
        self.last = nn.ModuleList(layer(channels, channels) for _ in range(2))
        self.logits = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; sides are any numbers of at least 8."""
        seen = [F.leaky_relu(self.first(x), _SLOPE)]
        for layer in self.down:
            seen.append(F.leaky_relu(layer(seen[-1]), _SLOPE))
        y = seen.pop()
        for layer in self.up:
            skip = seen.pop()
            y = F.interpolate(y, skip.shape[-2:], mode="bilinear", align_corners=False)
            y = F.leaky_relu(layer(y), _SLOPE) + skip
        for layer in self.last:
            y = F.leaky_relu(layer(y), _SLOPE)
        out: Tensor = self.logits(y)
        return out
