"""What exact arithmetic costs: bytes and time of `lite` against the same network in float32, side by side in one run.

    python tools/exact_cost.py PICTURES [--checkpoint RUN] [--threads N] [-o docs/exact_cost.json]

Every picture is encoded and decoded at all whole qualities with the entropy model in exact arithmetic and in float32;
printed are the BD-rate of exact over float32 (means over the pictures, Akima) and the ratio of the times spent in the
entropy model (hyper synthesis, slice networks), the fastest of three walks of each, taken in turns. With the
checkpoint of the training the float32 network has the weights as they were trained; without it, those of the model
file, which are already rounded to the grids of exact arithmetic.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcae.codec.codec import Codec
from dcae.errors import DCAEError
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import psnr
from dcae.eval.pictures import find_pictures, load_pixels
from dcae.files import write_bytes
from dcae.models.installed import find_model
from dcae.models.modelfile import CodingModel, load_model
from dcae.networks.base import pad_to_multiple
from dcae.networks.steps import EntropyModel, SlicePrior
from dcae.networks.walk import walk_slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="of the run that the model was exported from")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("-o", "--output", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        paths = find_pictures(options.pictures.resolve(), None, print)
    except DCAEError as error:
        sys.exit(str(error))

    models = {
        "exact": load_model(find_model(options.model).path),
        "float32": _in_float32(options.model, options.checkpoint),
    }
    exact, floating = (Codec(model) for model in models.values())
    low, high = exact.config.qualities
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    times = {"exact": 0.0, "float32": 0.0}
    for quality in np.arange(low, high + 1):
        points = defaultdict(list)
        for path in paths:
            pixels = load_pixels(path)
            image = Image.fromarray(pixels)
            for name, codec in (("exact", exact), ("float32", floating)):
                data = codec.encode(image, float(quality))
                bpp = 8 * len(data) / (image.width * image.height)
                points[name].append((bpp, psnr(pixels, np.asarray(codec.decode(data)))))
        for name, found in points.items():
            curves[name].append(tuple(np.mean(found, 0)))  # type: ignore[arg-type]
    for path in paths:
        fastest = _times(models, path)
        times = {name: times[name] + fastest[name] for name in times}
    result = bd_rate(curves["float32"], curves["exact"])
    print(f"BD-rate of exact over float32: {result.percent:+.3f} % ({result.low:.1f} to {result.high:.1f} dB)")
    print(
        f"time in the entropy model, {options.threads} threads: exact {times['exact'] / len(paths):.4f} s per picture, "
        f"{times['exact'] / times['float32']:.2f} times float32"
    )
    if options.output:
        facts = {
            "name": find_model(options.model).path.stem,
            "model": exact.header.short_id.hex(),
            "pictures": len(paths),
            "threads": options.threads,
            "float32_weights": "as trained" if options.checkpoint else "rounded to the grids",
            "bd_rate_percent": result.percent,
            "seconds_per_picture": times["exact"] / len(paths),
            "time_ratio": times["exact"] / times["float32"],
        }
        write_bytes(str(options.output), (json.dumps(facts, indent=1) + "\n").encode())


def _in_float32(model: str, checkpoint: Path | None) -> CodingModel:
    loaded = load_model(find_model(model).path)
    if checkpoint:
        from dcae.train.checkpoint import best_checkpoint, load_checkpoint

        average = load_checkpoint(best_checkpoint(checkpoint))["average"]
        loaded.network.load_state_dict({k: average[k] for k in loaded.network.state_dict()})
        loaded.network.prepare_for_coding()
    return replace(loaded, prior=loaded.network)


@torch.inference_mode()
def _times(models: dict[str, CodingModel], path: Path) -> dict[str, float]:
    """Seconds of one walk of the entropy model over a picture's own latents, quality 4, without coding."""
    network = models["exact"].network
    x = torch.from_numpy(load_pixels(path)).permute(2, 0, 1)[None].float() / 255
    q = network.conditioning(4.0)
    y = network.analysis(pad_to_multiple(x, network.config.stride), q)
    # Of a closed loop, which the time does not depend on.
    skip = torch.zeros(1, network.config.latent_channels - y.shape[1], *y.shape[2:])
    median = models["exact"].z_median
    z_hat = torch.round(network.hyper_analysis(y, q) - median) + median
    fastest = dict.fromkeys(models, float("inf"))
    for _ in range(3):
        for name, model in models.items():
            started = time.perf_counter()
            _walk(model.prior, z_hat, torch.cat([y, skip], 1).split(network.config.slices, 1))
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    return fastest


def _walk(prior: EntropyModel, z_hat: torch.Tensor, slices: tuple[torch.Tensor, ...]) -> None:
    with prior.arithmetic():
        q = prior.conditioning(4.0)

        def quantised(k: int, found: SlicePrior, _: list[torch.Tensor]) -> torch.Tensor:
            prior.scale_index(found.scale)
            return torch.round(slices[k] - found.mean) + found.mean

        walk_slices(prior, len(slices), prior.hyper_synthesis(z_hat, q), q, quantised)


if __name__ == "__main__":
    main()
