"""Golden outputs of the published DRCT: weights that follow from their names, and our names of its settings."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import torch

from dcae.sr.models import new_network
from dcae.sr.networks.base import SRNetwork


def uniform(tag: str, count: int) -> np.ndarray:
    """Numbers in [0, 1): 53 bits of the words of NumPy's Philox, its key from the SHA-256 of the tag."""
    key = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:16], "little")
    return (np.random.Philox(key=key).random_raw(count) >> np.uint64(11)) * 2.0**-53


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The parameter of that name, float32."""
    signed = 2 * uniform(f"{seed}|{name}", math.prod(shape)) - 1
    if name.endswith("relative_position_bias_table"):
        signed = 0.5 * signed
    elif len(shape) > 1:
        signed = (0.5 if name == "conv_last.weight" else 1.0) * np.sqrt(3 / math.prod(shape[1:])) * signed
    else:
        signed = 1 + 0.25 * signed if name.endswith("weight") else 0.1 * signed
    return signed.reshape(shape).astype(np.float32)


def golden_network(published: dict[str, Any], seed: int) -> SRNetwork:
    """Our network of the published constructor's arguments, with those weights."""
    network = new_network({
        "preset": "drct", "scale": published["upscale"], "colours": published["in_chans"],
        "width": published["embed_dim"], "growth": published["gc"], "groups": len(published["depths"]),
        "heads": published["num_heads"][0], "window": published["window_size"],
        "mlp_ratio": float(published["mlp_ratio"]), "shifted": published["img_size"] > published["window_size"],
        "last_convolution": published["resi_connection"] == "1conv", "img_range": published["img_range"],
    })  # fmt: skip
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(weight(name, shape, seed)) for name, shape in shapes.items()})
    return network.eval()


def check_case(golden: Any, case: str) -> SRNetwork:
    """Compare our network's output with the golden one of a case, within ten times what float32 costs the original."""
    network = golden_network(json.loads(str(golden[f"{case}/config_json"])), int(golden[f"{case}/seed"]))
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + b"\0" + value.numpy().astype("<f4").tobytes())
    assert digest.hexdigest() == str(golden[f"{case}/weights_sha256"])
    assert sum(value.numel() for value in network.parameters()) == int(golden[f"{case}/n_params"])
    with torch.inference_mode():
        found = network(torch.from_numpy(golden[f"{case}/input"])).numpy()
    wanted = golden[f"{case}/output"]
    tolerance = max(10 * float(golden[f"{case}/float32_deviation"]), 2e-6 * np.abs(wanted).max())
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance
    return network
