"""Shapes of the weights of `lite`, which follow from the configuration; without torch."""

from __future__ import annotations

from dcae.networks.bounds import KERNEL
from dcae.networks.lite.config import LiteConfig

Shapes = dict[str, tuple[int, ...]]
PATCHES = (8, 2, 16)
"""Strides of the lapped transforms: from pixels to H/8, from there to H/16, and of the skip latents."""


def weight_shapes(config: LiteConfig) -> Shapes:
    """Name -> shape of every weight that a model file has, but for the densities that training needs."""
    anchors, latents, c = len(config.lambdas), config.latent_channels, config.context_width
    found: Shapes = {"dictionary": (config.dictionary_entries, config.dictionary_width)}
    found["scale_offset"] = (anchors, latents)
    for name in ("gain_y", "inverse_y", "mean_gain", "context_gain"):
        found[f"{name}.log_gain"] = (anchors, latents)
    for name in ("gain_z", "inverse_z"):
        found[f"{name}.log_gain"] = (anchors, config.hyper_channels)
    found |= _transforms(config) | _hyper(config)
    for k, channels in enumerate(config.slices):
        name, hidden, width = f"slice_networks.{k}", config.residual_width, config.dictionary_width
        found |= _linear(f"{name}.attention.query", c, width) | _linear(f"{name}.attention.out", width, c)
        found[f"{name}.attention.key.weight"] = (width, width)
        found |= _conv_layer(f"{name}.layer", c, 2, norm=False)
        found |= _linear(f"{name}.head", c, 2 * channels + hidden) | _linear(f"{name}.residual_out", hidden, channels)
        found[f"{name}.residual_in.weight"] = (hidden, channels)
        if k + 1 < len(config.slices):
            found |= _linear(f"{name}.extend", channels, c)
    if config.skip_channels:
        found |= {"left_over.mean_scale": (anchors, 3), "left_over.mean_step": (anchors,)}
        found |= _lapped_down("left_over.down", 3, config.skip_channels, PATCHES[2])
        found |= _lapped_up("left_over.up", config.skip_channels, 3, PATCHES[2])
    return found


def _transforms(config: LiteConfig) -> Shapes:
    wide, deep = config.widths
    found = _lapped_down("g_a.embed", 3, wide, PATCHES[0]) | _lapped_down("g_a.down", wide, deep, PATCHES[1])
    found |= _linear("g_a.head", deep, config.transform_channels) | _linear(
        "g_s.embed", config.transform_channels, deep
    )
    found |= _lapped_up("g_s.up", deep, wide, PATCHES[1]) | _lapped_up("g_s.head", wide, 3, PATCHES[0])
    for level, stage in enumerate(("stage8", "stage16")):
        width, expansion = config.widths[level], config.expansions[level]
        for transform, letters in (("g_a", config.layers[level]), ("g_s", config.layers[level][::-1])):
            found |= _modulation(config, f"{transform}.{stage}.modulation", width)
            for position, letter in enumerate(letters):
                name = f"{transform}.{stage}.layers.{position}"
                if letter == "C":
                    found |= _conv_layer(name, width, expansion, norm=True)
                else:
                    found |= _attention(config, f"{name}.attention", width)
                    found |= _gated_unit(f"{name}.unit", width, expansion, norm=True)
    return found


def _hyper(config: LiteConfig) -> Shapes:
    c, e = config.hyper_width, config.context_width
    found = _linear("h_a.embed", config.transform_channels, c) | _modulation(config, "h_a.modulation", c)
    found |= _linear("h_a.down1", 4 * c, c) | _linear("h_a.down2", 4 * c, config.hyper_channels)
    found |= _linear("h_s.embed", config.hyper_channels, c) | _linear("h_s.up1", c, 4 * c)
    found |= _linear("h_s.up2", c, 4 * e) | _modulation(config, "h_s.modulation", e)
    for name in ("h_a.layer", "h_a.layer1", "h_s.layer1", "h_s.layer2"):
        found |= _conv_layer(name, c, 2, norm=False)
    return found


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _modulation(config: LiteConfig, name: str, channels: int) -> Shapes:
    return {f"{name}.{leaf}": (len(config.lambdas), channels) for leaf in ("scale", "shift")}


def _gated_unit(name: str, channels: int, expansion: int, norm: bool) -> Shapes:
    found = _linear(f"{name}.fc1", channels, 2 * expansion * channels)
    found |= _linear(f"{name}.fc2", expansion * channels, channels)
    return found | (_norm(f"{name}.norm", channels) if norm else {})


def _conv_layer(name: str, channels: int, expansion: int, norm: bool) -> Shapes:
    found = _linear(f"{name}.fc1", channels, channels) | _linear(f"{name}.fc2", channels, channels)
    found |= {f"{name}.depthwise.weight": (channels, 1, KERNEL, KERNEL), f"{name}.depthwise.bias": (channels,)}
    found |= _norm(f"{name}.norm", channels) if norm else {}
    return found | _gated_unit(f"{name}.unit", channels, expansion, norm)


def _attention(config: LiteConfig, name: str, channels: int) -> Shapes:
    found = _norm(f"{name}.norm", channels) | _linear(f"{name}.qkv", channels, 3 * channels)
    found[f"{name}.position_bias"] = (channels // config.head_channels, (2 * config.window - 1) ** 2)
    return found | _linear(f"{name}.out", channels, channels)


def _lapped_down(name: str, inputs: int, outputs: int, factor: int) -> Shapes:
    return _linear(f"{name}.patch", 4 * factor**2 * inputs, outputs)


def _lapped_up(name: str, inputs: int, outputs: int, factor: int) -> Shapes:
    return {f"{name}.patch.weight": (4 * factor**2 * outputs, inputs), f"{name}.bias": (factor**2 * outputs,)}
