"""Networks without weights, no larger than what is going to fill them; importing this imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dcae.networks.config import NetworkConfig
from dcae.networks.registry import any_network_of

if TYPE_CHECKING:
    from torch import nn


def empty_network(config: NetworkConfig, numbers: int) -> nn.Module:
    """A network whose weights are to be loaded.

    Raises:
        ValueError: the configuration asks for much more than the `numbers` that are there to fill it.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    factories = (torch.empty, torch.zeros, torch.ones, torch.full, torch.randn)

    # Not on the meta device, whose first use imports half of torch (1.5 s).
    class Sparing(TorchFunctionMode):
        """Counts what is allocated before it is, and draws nothing at random."""

        left = 2 * numbers + 4096  # a few temporary tensors

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in factories:
                size = args[0] if isinstance(args[0], tuple | list | torch.Size) else [*args]
                self.left -= math.prod(n for n in size if isinstance(n, int))
                if self.left < 0:
                    raise ValueError(f"more weights than the {numbers} numbers in the file")
            if getattr(func, "__module__", "") == "torch.nn.init":
                return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
            if func is torch.randn:
                func = torch.empty
            return func(*args, **(kwargs or {}))

    with Sparing():
        return any_network_of(config)
