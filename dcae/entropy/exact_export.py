"""Preparing a trained `lite` for exact arithmetic: fractions from the range of every input, weights on their grids."""

from __future__ import annotations

import math
import statistics

import numpy as np
import torch
from torch import Tensor, nn

from dcae.entropy.exact_bounds import EXACT, LIMIT, QUERY, STATE, TABLE_BITS, WEIGHT_ONE, exponentials, streams
from dcae.entropy.exact_tensors import ExactTensors, maps, sites
from dcae.entropy.tables import Tables
from dcae.errors import ModelFileError
from dcae.networks.exact_ready import Depthwise, DictionaryAttention, ExactReady
from dcae.networks.scales import scale_table
from dcae.networks.steps import SlicePrior
from dcae.networks.walk import walk_slices

_MARGIN = 2.0
"""How much larger than in the sample an input may be before it is clamped; real pictures have rarer extremes."""
_OUTLIER = 4.0
"""How many times the median over the anchors of an input's largest value an anchor may have. A sample that is drawn
from the model can run away at a single position, where what was drawn predicts more of its kind, as no picture does."""
_SAMPLE = 8
"""Side of the sample in positions of z: a picture of 512x512 pixels for every anchor."""
_MOST_SHIFT = 16
_HALF = 2047
"""Largest integer weight, so that float16 holds all."""


@torch.no_grad()
def make_exact(network: ExactReady, tables_z: Tables, medians: Tensor) -> ExactTensors:
    """Round the weights of the entropy model in place, and say to what.

    The range of every input is seen on latents drawn from the entropy model itself: z from its prior, then slice by
    slice y from the predicted Gaussians, at every anchor. So no pictures are needed.
    """
    fractions = {site: _fraction(largest) for site, largest in _ranges(network, tables_z, medians).items()}
    shifts = []
    for name, module in maps(network).items():
        most = 24 - fractions[name] if name.endswith(".head") else _MOST_SHIFT
        shifts.append(_round_map(module, fractions[name], streams(name), most))
    keys, key_shifts = zip(*(_keys(network, k) for k in range(len(network.config.slices))), strict=True)
    largest = float(network.dictionary.abs().max())
    value_limit = min(EXACT / (WEIGHT_ONE + len(network.dictionary) / 2), _HALF)
    value_shift = min(math.floor(math.log2(value_limit / max(largest, 2.0**-20))), _MOST_SHIFT)
    network.dictionary.copy_((network.dictionary * 2.0**value_shift).round() / 2.0**value_shift)
    gains, gain_shifts = _gain_tables(network)
    return ExactTensors(
        torch.tensor([fractions[site] for site in sites(network)], dtype=torch.int8),
        torch.cat(shifts).to(torch.int8).cpu(),
        torch.stack(keys).to(torch.int16).cpu(),
        torch.stack(key_shifts).to(torch.int8).cpu(),
        torch.tensor(value_shift, dtype=torch.int8),
        torch.from_numpy(exponentials(len(network.dictionary))),
        gains,
        gain_shifts,
    )


def _fraction(largest: float) -> int:
    """Fractional bits with which inputs up to `largest` fit, with the margin."""
    return min(max(math.floor(math.log2(LIMIT / (_MARGIN * max(largest, 2.0**-6)))), 0), STATE)


def _ranges(network: ExactReady, tables_z: Tables, medians: Tensor) -> dict[str, float]:
    """The largest input seen, by site, but for outliers."""
    seen: dict[str, list[float]] = {site: [] for site in sites(network)}  # by anchor

    def see(name: str, x: Tensor) -> None:
        seen[name][-1] = max(seen[name][-1], float(x.abs().max()))

    def hook(name: str, module: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        handles = [module.register_forward_pre_hook(lambda _, inputs: see(name, inputs[0]))]
        if f"{name}.value" in seen:
            handles.append(module.register_forward_hook(lambda _, __, y: see(f"{name}.value", y.chunk(2, -1)[1] / 2)))
        return handles

    handles = [handle for name, module in maps(network).items() for handle in hook(name, module)]
    training = network.training
    try:
        network.eval()
        for anchor in range(len(network.config.lambdas)):
            for largest in seen.values():
                largest.append(0.0)
            _walk(network, tables_z, medians, anchor)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return {site: min(max(found), _OUTLIER * statistics.median(found)) for site, found in seen.items()}


def _walk(network: ExactReady, tables_z: Tables, medians: Tensor, anchor: int) -> None:
    """The entropy model over latents drawn from itself."""
    draw = np.random.default_rng(anchor)
    device = network.dictionary.device
    channels = []
    for row, (begin, end) in enumerate(zip(tables_z.starts[:-1], tables_z.starts[1:], strict=True)):
        share = tables_z.frequencies[begin:end] / tables_z.frequencies[begin:end].sum()
        channels.append(draw.choice(end - begin, (_SAMPLE, _SAMPLE), p=share) + tables_z.offsets[row])
    z = torch.from_numpy(np.stack(channels)).to(device, torch.float32) + medians.to(device).reshape(-1, 1, 1)
    sigma = torch.tensor(scale_table(), device=device)
    q = network.conditioning(float(anchor + 1))

    def drawn(k: int, prior: SlicePrior, _: list[Tensor]) -> Tensor:
        spread = sigma[network.scale_index(prior.scale)]
        noise = torch.from_numpy(draw.standard_normal(tuple(spread.shape))).to(device, torch.float32)
        return (noise * spread).round() + prior.mean

    walk_slices(network, len(network.config.slices), network.hyper_synthesis(z[None], q), q, drawn)


def _round_map(module: nn.Linear | Depthwise, fraction: int, to_stream: bool, most: int) -> Tensor:
    """Put weights and bias on the finest grids on which sums stay exact; (rows,) shifts."""
    weight = module.weight.double().flatten(1)
    bias = torch.zeros(len(weight)).to(weight) if module.bias is None else module.bias.double()
    shifts = torch.full((len(weight),), min(_MOST_SHIFT, most), device=weight.device)
    while True:
        scale = torch.ldexp(torch.ones_like(bias), shifts)
        rounded = (weight * scale[:, None]).round()
        offset = (bias * scale * 2.0**fraction).round()
        too_large = (rounded.abs().sum(1) * LIMIT + offset.abs() > EXACT) | (rounded.abs().amax(1) > _HALF)
        if not too_large.any():
            break
        shifts = shifts - too_large.long()
    if to_stream and int(shifts.min()) + fraction < STATE + 1:
        raise ModelFileError("weights of the entropy model are too large for exact arithmetic; train with clipping")
    module.weight.copy_((rounded / scale[:, None]).reshape(module.weight.shape))
    if module.bias is not None:
        module.bias.copy_(offset / scale / 2.0**fraction)
    return shifts


def _keys(network: ExactReady, k: int) -> tuple[Tensor, Tensor]:
    """(entries, width) integers, (heads, entries) their shifts; 1/sqrt(head channels) is part of them."""
    attention = network.slice_network(k).attention
    keys = attention.key(network.dictionary).double()
    keys = keys.reshape(len(keys), attention.heads, -1).transpose(0, 1)  # heads, entries, channels
    keys = keys / math.sqrt(keys.shape[-1])
    most = EXACT / (DictionaryAttention.CLAMP * 2**QUERY)
    shifts = torch.full(keys.shape[:2], _MOST_SHIFT, device=keys.device)
    while True:
        rounded = (keys * torch.ldexp(torch.ones_like(keys[..., 0]), shifts)[..., None]).round()
        too_large = (rounded.abs().sum(-1) > most) | (rounded.abs().amax(-1) > 32767)
        if not too_large.any():
            return rounded.transpose(0, 1).reshape(len(network.dictionary), -1), shifts
        shifts = shifts - too_large.long()


def _gain_tables(network: ExactReady) -> tuple[Tensor, Tensor]:
    modulation = network.h_s.modulation
    tables = [
        network.inverse_z.log_gain.double().exp(),
        network.mean_gain.log_gain.double().exp(),
        network.context_gain.log_gain.double().exp(),
        network.scale_offset.double(),
        modulation.scale.double(),
        modulation.shift.double(),
    ]
    if network.closed_loop:
        tables.append(network.left_over.mean_scale.double())
    shifts = [min(TABLE_BITS - 1 - math.frexp(max(float(t.abs().max()), 2.0**-8))[1], 24) for t in tables]
    shifts[4] = shifts[5] = min(shifts[4:])  # they are added up
    rows = [(t * 2.0**s).round() for t, s in zip(tables, shifts, strict=True)]
    return torch.cat(rows, 1).to(torch.int32).cpu(), torch.tensor(shifts, dtype=torch.int8)
