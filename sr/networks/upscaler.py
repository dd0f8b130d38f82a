"""Networks as upscalers of arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.sr.networks.base import SRNetwork
from dcae.sr.tiles import in_tiles
from dcae.sr.upscalers import Cost, Upscaler

TILE = 256
"""Side of a tile in pixels of the small picture, without its halo."""


class NetworkUpscaler(Upscaler):
    """A network, run over tiles.

    Args:
        network: in evaluation mode.
        name: for tables.
        tile: side of a tile in pixels of the small picture; 0: the picture as a whole.

    Calls raise:
        ModelFileError: samples that are not finite, of weights that nobody has trained.
    """

    def __init__(self, network: SRNetwork, name: str, tile: int = TILE) -> None:
        self.network, self.name, self.tile = network, name, tile
        self.scale = network.config.scale

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        colours = x.shape[2]
        # Gray is enlarged as colour, and colours each as gray, where the network knows nothing else.
        rows = np.broadcast_to(x, (*x.shape[:2], max(colours, self.network.colours)))
        found = in_tiles(self._enlarged, rows, self.scale, self.tile, self.network.halo, self.network.grid)
        if not np.isfinite(found).all():
            raise ModelFileError(f"{self.name}: its weights make samples that are not finite; get another model")
        return found if found.shape[2] == colours else found.mean(2, keepdims=True)

    @torch.inference_mode()
    def _enlarged(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        device = next(self.network.parameters()).device
        planes = torch.from_numpy(np.array(x)).to(device).permute(2, 0, 1)
        batch = planes.unflatten(0, (-1, self.network.colours))
        with torch.autocast(device.type, enabled=False):
            found = self.network(batch.contiguous(memory_format=torch.channels_last))
        return found.flatten(0, 1).permute(1, 2, 0).cpu().numpy()

    def cost(self) -> Cost:
        return self.network.cost()
