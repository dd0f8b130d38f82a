"""Optimisers by name: Adam as published, and SOAP for the matrices beside Adam for everything else."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from dcae.networks.base import DCAE
from dcae.train.soap import Soap

_FAST = 5.0
"""Factor on Adam's step size for parameters on a logarithmic scale, which would get nowhere otherwise."""
_SURPRISE = 3.0
"""Largest norm of a parameter's gradient, in units of what Adam remembers of it."""
_REMEMBERED = 100
"""Steps after which Adam's memory is worth comparing with."""


def build_optimizers(network: DCAE, name: str, learning_rate: float) -> list[torch.optim.Optimizer]:
    """The main optimisers and, last, the auxiliary one for the quantiles of the factorised prior.

    SOAP takes the weights of the linear maps, all but those of the factorised prior; convolutions stay with Adam.
    """
    quantiles = [p for n, p in network.named_parameters() if n.endswith("quantiles")]
    main = [p for n, p in network.named_parameters() if not n.endswith("quantiles")]
    fast = [p for n, p in network.named_parameters() if any(part in n for part in network.fast_parameters)]
    matrices = {id(m.weight) for m in network.modules() if isinstance(m, nn.Linear)} if name == "soap" else set()
    matrices -= {id(p) for p in fast}
    others = matrices | {id(p) for p in fast}
    groups: list[dict[str, Any]] = [{"params": [p for p in main if id(p) not in others]}]
    if fast:
        groups.append({"params": fast, "lr": _FAST * learning_rate})
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups, lr=learning_rate, fused=True)]
    if matrices:
        chosen = [p for p in main if id(p) in matrices]
        if dist.is_initialized():
            # Turning costs half as much as a small batch; every process does its share of the matrices.
            optimizers.append(ZeroRedundancyOptimizer(chosen, Soap, parameters_as_bucket_view=True, lr=learning_rate))
        else:
            optimizers.append(Soap(chosen, lr=learning_rate))
    optimizers.append(torch.optim.Adam(quantiles, lr=1e-3))
    return optimizers


@torch.no_grad()
def limit_surprises(optimizer: torch.optim.Optimizer) -> Tensor:
    """Scale down, parameter by parameter, gradients far above those that Adam remembers.

    Adam divides by the root of its second moment, which follows slowly: after one batch unlike all others, every
    parameter whose gradients used to be small moves by three times the learning rate for some ten steps, all at once
    and all in that batch's direction. The norm of all gradients together does not show it. Compare the update clipping
    of Adafactor (Shazeer and Stern 2018) and StableAdamW (Wortsman et al. 2023), which shorten the step alone and let
    the moments take the batch in as it is.

    Returns:
        How many parameters' gradients were scaled; none for optimisers without second moments, or at their first steps.
    """
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if parameter.grad is not None and "exp_avg_sq" in state:
                found.append((parameter.grad, state["exp_avg_sq"], state["step"], group["betas"][1]))
    # All at once: a fused Adam counts on the device, and every look at it is waited for.
    steps = torch.stack([step for _, _, step, _ in found]).tolist() if found else []
    known = [(g, m, 1 - beta**n) for (g, m, _, beta), n in zip(found, steps, strict=True) if n >= _REMEMBERED]
    if not known:
        return torch.tensor(0)
    gradients, moments, corrections = map(list, zip(*known, strict=True))
    usual = torch.stack(torch._foreach_norm(moments, 1)) / torch.tensor(corrections).to(moments[0])
    ratio = torch.stack(torch._foreach_norm(gradients)) / usual.sqrt().clamp(min=1e-20)
    factors = (_SURPRISE / ratio).clamp(max=1)
    torch._foreach_mul_(gradients, list(factors.unbind()))
    return (factors < 1).sum()


def gathered_states(optimizers: list[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """State dicts of the optimisers, whole on process 0; called by all, since each holds a share of the matrices'."""
    states = []
    for optimizer in optimizers:
        if isinstance(optimizer, ZeroRedundancyOptimizer):
            optimizer.consolidate_state_dict(0)
            states.append(optimizer.state_dict() if dist.get_rank() == 0 else {})
        else:
            states.append(optimizer.state_dict())
    return states
