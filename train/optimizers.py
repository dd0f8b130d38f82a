"""Optimisers by name: Adam as published, and Muon for the matrices beside Adam for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dcae.network import DCAE

_LOGARITHMIC = ("log_gain", "scale_offset")


def build_optimizers(network: DCAE, name: str, learning_rate: float) -> list[torch.optim.Optimizer]:
    """The main optimisers and, last, the auxiliary one for the quantiles of the factorised prior.

    Muon (Jordan et al. 2024) with step sizes matched to Adam's root mean square takes the weights of the linear
    maps, all but those of the factorised prior; doubled, as `../shared/reference/lite-pilot.md` found best.
    """
    quantiles = [p for n, p in network.named_parameters() if n.endswith("quantiles")]
    matrices = {id(m.weight) for m in network.modules() if isinstance(m, nn.Linear)} if name == "muon" else set()
    main = [p for n, p in network.named_parameters() if not n.endswith("quantiles")]
    # Parameters on a logarithmic scale, whose steps must be larger to get anywhere.
    scales = [p for n, p in network.named_parameters() if n.endswith(_LOGARITHMIC) or ".matrices." in n]
    fast = {id(p) for p in scales}
    rest = [p for p in main if id(p) not in matrices and id(p) not in fast]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": scales, "lr": 5 * learning_rate}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups, lr=learning_rate)]
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                [p for p in main if id(p) in matrices],
                lr=2 * learning_rate,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    optimizers.append(torch.optim.Adam(quantiles, lr=1e-3))
    return optimizers
