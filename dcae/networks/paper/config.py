"""Configuration of `paper`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dcae.errors import OptionError
from dcae.networks.config import DCAEConfig


@dataclass(frozen=True)
class PaperConfig(DCAEConfig):
    """The published network (CVPR 2025, arXiv 2504.00496), 119.4 M parameters. See `dcae/networks/paper/wiring.py`."""

    preset: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.lambdas) != 1:
            raise OptionError(f"the paper preset is a single-rate network, got {len(self.lambdas)} lambdas")
        # Its transforms are fixed; the context grows by every slice, and 20 heads attend to the dictionary.
        self._check_widest(max(4 * self.latent_channels, 20 * self.dictionary_entries) / 16**2)
