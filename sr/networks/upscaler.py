"""Networks as upscalers of arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.sr.memory import Limits, TiledUpscaler
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.live import peak_bytes
from dcae.sr.tiles import in_tiles
from dcae.sr.upscalers import Cost

TILE = 256
"""Side of a tile in pixels of the small picture, without its halo; larger ones are not faster."""
_TRIED = 32
"""Side in pixels of the picture that shows how much memory a network takes."""
_WORKSPACE = 2
"""Memory over that of the tensors: convolutions copy their inputs into another order, allocators keep some."""


class NetworkUpscaler(TiledUpscaler):
    """A network, run over tiles.

    Args:
        network: in evaluation mode.
        name: for tables.
        tile: side of a tile in pixels of the small picture; 0: the picture as a whole; None: `TILE`, or less where
            memory has no room for it.
        limits: on memory, where no tile is given.

    Calls raise:
        ModelFileError: samples that are not finite, of weights that nobody has trained.
    """

    def __init__(self, network: SRNetwork, name: str, tile: int | None = None, limits: Limits | None = None) -> None:
        self.network, self.name, self.scale = network, name, network.config.scale
        super().__init__(self._affordable(limits or Limits()) if tile is None else tile)

    def _affordable(self, limits: Limits) -> int:
        """Side of a tile that memory has room for."""
        tried = np.zeros((_TRIED, _TRIED, self.network.colours), np.float32)
        per_pixel = _WORKSPACE * peak_bytes(lambda: self._enlarged(tried)) / _TRIED**2
        device = self._device()
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        return limits.side(per_pixel, self.network.halo or 0, TILE, free)

    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def release(self) -> None:
        if self._device().type == "cuda":
            torch.cuda.empty_cache()

    def in_tiles_of(self, x: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        colours = x.shape[2]
        # Gray is enlarged as colour, and colours each as gray, where the network knows nothing else.
        rows = np.broadcast_to(x, (*x.shape[:2], max(colours, self.network.colours)))
        found = in_tiles(self._enlarged, rows, self.scale, tile, self.network.halo, self.network.grid)
        if not np.isfinite(found).all():
            raise ModelFileError(f"{self.name}: its weights make samples that are not finite; get another model")
        return found if found.shape[2] == colours else found.mean(2, keepdims=True)

    @torch.inference_mode()
    def _enlarged(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        device = self._device()
        planes = torch.from_numpy(np.array(x)).to(device).permute(2, 0, 1)
        batch = planes.unflatten(0, (-1, self.network.colours))
        with torch.autocast(device.type, enabled=False):
            found = self.network(batch.contiguous(memory_format=torch.channels_last))
        return found.flatten(0, 1).permute(1, 2, 0).cpu().numpy()

    def cost(self) -> Cost:
        return self.network.cost()
