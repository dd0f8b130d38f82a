"""The published network's outputs for known weights and a known picture, few enough of them to lie in the repository.

The weights, 119 million of them, follow from the names and shapes of the published state dict; the outputs are those of
the authors' code in float64. `tests/golden/paper.npz` holds a sample of them and is made by

    python tests/paper_golden.py ../shared/reference

from `paper-golden.npz`, which has all outputs, and `paper-state-dict.json`, which has the shapes.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).with_name("golden") / "paper.npz"
SIDE = 256
"""Height and width of the picture."""
_SAMPLES = 4096
"""Values kept of every output that has more."""

Array = NDArray[np.float64]


def _draw(name: str) -> np.random.RandomState:
    """The generator of one tensor; NumPy keeps the stream of this old kind the same for ever."""
    return np.random.RandomState(zlib.crc32(f"shared:{name}".encode()))


def picture() -> Array:
    """The network's input, (3, SIDE, SIDE) in [0, 1]: waves and noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = np.stack([0.5 + 0.35 * np.sin(x / 9.0 + c) * np.cos(y / 13.0 - c) for c in range(3)])
    return np.clip(waves + 0.05 * _draw("image").standard_normal(waves.shape), 0, 1)


def weights(shapes: dict[str, list[int]]) -> dict[str, Array]:
    """All tensors of a state dict but those that CompressAI fills with constants."""
    return {name: tensor for name, shape in shapes.items() if (tensor := _tensor(name, shape)) is not None}


def _tensor(name: str, shape: list[int]) -> Array | None:
    """The values of one tensor: weights of about unit gain, norms and scales near 1, small biases."""
    draw, part = _draw(name), name.rpartition(".")[2]
    if name.startswith("entropy_bottleneck.biases."):
        return draw.uniform(-0.5, 0.5, shape)
    if name == "entropy_bottleneck.quantiles":
        return draw.uniform(-0.4, 0.4, (shape[0], 1, 1)) + np.array([-10.0, 0.0, 10.0])
    if name.startswith(("entropy_bottleneck.", "gaussian_conditional.")):
        return None
    normal = draw.standard_normal(tuple(shape))
    if part == "bias" and len(shape) == 1:
        return 0.02 * normal
    if part == "scale" or len(shape) == 1:
        return 1 + 0.1 * normal
    if part == "relative_position_params" or name == "dt":
        return 0.5 * normal
    return normal / np.sqrt(np.prod(shape[1:], dtype=float))


def sample(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values at places that follow from the size, at most `_SAMPLES` of them; (n,)."""
    if values.size <= _SAMPLES:
        return values.reshape(-1)
    places = np.random.RandomState(values.size).randint(0, values.size, _SAMPLES)
    return values.reshape(-1)[places]


def read() -> tuple[dict[str, list[int]], dict[str, NDArray[np.floating]]]:
    """Shapes of the published state dict by name, and the samples of the outputs by name."""
    with np.load(GOLDEN) as file:
        outputs = {name: file[name] for name in file.files}
    return json.loads(outputs.pop("state_dict").tobytes()), outputs


def main(reference: Path) -> None:
    """Write `GOLDEN`."""
    shapes = json.loads((reference / "paper-state-dict.json").read_text())
    with np.load(reference / "paper-golden.npz") as file:
        outputs = {name: sample(file[name]) for name in file.files}
    np.savez_compressed(GOLDEN, state_dict=np.frombuffer(json.dumps(shapes).encode(), np.uint8), **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
