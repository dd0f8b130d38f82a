"""For sceptics: are the integers that decide a file's symbols the same under everything that changes float sums?

    python tools/exactness.py PICTURES [--model NAME|PATH] [--device cuda] [--keep FOLDER]

Encodes every picture of a folder at qualities 1, 4.5 and 8. Then processes of their own, by both engines, with one and
two threads, and of torch with and without oneDNN, with the instruction sets that ATen, oneDNN and MKL can be held to,
decode these files up to the latents and hash (SHA-256) the table row and the mean of every latent and every decoded
latent. Prints the hashes and
fails unless all are equal; instruction sets that this processor lacks are named and left out. To compare machines,
devices or versions of torch, keep the files and hash them there:

    python tools/exactness.py --files FOLDER [--model NAME|PATH] [--device cuda]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

ONNX = {"DCAE_EXACTNESS_ENGINE": "onnx"}
VARIANTS: dict[str, dict[str, str]] = {
    "ONNX Runtime": ONNX,
    "ONNX, 1 thread": ONNX | {"OMP_NUM_THREADS": "1"},
    "ONNX, 2 threads": ONNX | {"OMP_NUM_THREADS": "2"},
    "torch": {},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "without oneDNN": {"DCAE_EXACTNESS_ONEDNN": "0"},
    "bfloat16 allowed": {"DCAE_EXACTNESS_PRECISION": "medium"},
    "AVX-512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
QUALITIES = (1.0, 4.5, 8.0)
LEVELS = ("default", "avx2", "avx512")
"""What ATen can be held to on x86-64, each containing the ones before."""


def missing(settings: dict[str, str], capability: str) -> bool:
    """Whether settings ask for more than the processor has: code for an instruction set that it lacks kills a process.

    Args:
        capability: the processor's, as `torch.backends.cpu.get_cpu_capability` names it.
    """
    wanted = settings.get("ATEN_CPU_CAPABILITY")
    has = capability.lower()
    return wanted is not None and LEVELS.index(wanted) > (LEVELS.index(has) if has in LEVELS else 0)


def processor() -> str:
    """The instruction set that ATen chooses by itself, in a process that nothing holds to another."""
    unset = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    run = subprocess.run([sys.executable, "-c", code], env=unset, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def encode(pictures: Path, folder: Path, model: str) -> int:
    """Files for all pictures and qualities; their number."""
    from dcae import Codec
    from dcae.files import PICTURE_SUFFIXES

    paths = sorted(p for p in pictures.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        sys.exit(f"{pictures}: no pictures in it; give a folder of some")
    codec = Codec(model)
    for path in paths:
        for quality in QUALITIES:
            quality = min(quality, codec.config.qualities[1])
            (folder / f"{path.stem}-{quality:g}.dcae").write_bytes(codec.encode(path, quality))
    return len(paths) * len(QUALITIES)


def digest(folder: Path, model: str, device: str) -> str:
    """SHA-256 over all integer parameters of all files, in the order of their names."""
    import numpy as np
    import torch

    from dcae import Codec

    engine = os.environ.get("DCAE_EXACTNESS_ENGINE", "torch")
    if os.environ.get("DCAE_EXACTNESS_ONEDNN") == "0":
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    torch.set_float32_matmul_precision(os.environ.get("DCAE_EXACTNESS_PRECISION", "highest"))
    codec = Codec(model, device="cpu" if engine == "onnx" else device, engine=engine)
    sha = hashlib.sha256()

    def add(values: NDArray[Any]) -> None:
        sha.update(np.ascontiguousarray(values).astype("<i4").tobytes())

    entropy_model = codec.engine.entropy_model("integer")
    slice_prior = entropy_model.slice_prior

    def recording(k, context, q):  # type: ignore[no-untyped-def]
        found = slice_prior(k, context, q)
        add(found.rows)
        add(found.mean * 64)
        return found

    entropy_model.slice_prior = recording  # type: ignore[method-assign]
    for file in sorted(folder.glob("*.dcae")):
        add(codec.decode_latents(file.read_bytes()).y_hat * 64)
    return sha.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--files", type=Path, help="only hash these .dcae files, as the process runs")
    parser.add_argument("--keep", type=Path, help="leave the encoded files in this folder")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.files:
        print(digest(options.files, options.model, options.device))
        return
    if not options.pictures:
        parser.error("a folder of pictures, or --files")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        print(f"{encode(options.pictures, folder, options.model)} files")
        found = set()
        capability = processor()
        command = [sys.executable, __file__, "--files", str(folder.resolve()), "--model", options.model]
        for name, settings in VARIANTS.items():
            if missing(settings, capability):
                print(f"{name:18} left out: the processor has {capability}", flush=True)
                continue
            run = subprocess.run(
                [*command, "--device", options.device], env=os.environ | settings, capture_output=True, text=True
            )
            printed = (run.stdout if run.returncode == 0 else run.stderr).strip().splitlines()
            last = printed[-1] if printed else f"the process died (exit code {run.returncode})"
            found.add(last if run.returncode == 0 else None)
            print(f"{name:18} {last}", flush=True)
    if len(found) > 1 or None in found:
        sys.exit("NOT the same")
    print("the same")


if __name__ == "__main__":
    main()
