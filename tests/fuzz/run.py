"""Coverage-guided fuzzing of a target, from the repository's root:

    pip install atheris        # wheels for Linux and Python 3.12 to 3.14
    python tests/fuzz/run.py model --seconds 600

New inputs that reach new code are kept in --work (by default a folder under the temporary one, so that a later run
goes on from there). A finding ends the run with a traceback and leaves its input as `crash-*` in the same folder:
fix it, then put the input into tests/fuzz/corpus/TARGET, where tests/test_fuzz.py replays it for ever.
`--merge` writes the few inputs that reach all that was reached into that corpus.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CORPUS = TESTS / "fuzz" / "corpus"
LARGEST = {"model_bytes": 1 << 13, "picture": 1 << 12, "reader": 1 << 12}
"""Bytes of an input, where 512 are not enough."""


def main() -> None:
    """Parse the command line and hand over to libFuzzer, which does not return."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing needs atheris: pip install atheris (Linux, Python 3.12 to 3.14)")
    sys.path.insert(0, str(TESTS))
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["dcae"]):
        import dcae
        import dcae.codec.codec
        import dcae.entropy.exact
        import dcae.networks.lite.wiring
        import dcae.networks.paper.wiring
        import dcae.sr.find
    import torch
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=-1, help="end after so many inputs")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "dcae-fuzz")
    parser.add_argument("--merge", action="store_true", help="minimise what was found into the corpus")
    options, inner = parser.parse_known_args()
    torch.set_num_threads(1)
    print(
        f"fuzzing {Path(dcae.__file__).resolve().parent}", file=sys.stderr
    )  # with an older one installed, easily another

    work, corpus = options.work / options.target, CORPUS / options.target
    for folder in (work, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()) and not any(work.iterdir()):
        _seed(options.target, work)
    flags = [
        f"-max_len={LARGEST.get(options.target, 512)}",
        f"-artifact_prefix={work}/",
        "-timeout=60",
        "-rss_limit_mb=3000",
        "-print_final_stats=1",
    ]
    if options.merge:
        flags += ["-merge=1", str(corpus), str(work)]
    else:
        flags += [f"-max_total_time={options.seconds}", f"-runs={options.runs}", str(work), str(corpus)]
    # To merge, libFuzzer runs what it is given as its own name again, in a shell, with flags of its own.
    name = shlex.join([sys.executable, __file__, options.target])
    atheris.Setup([name, *(inner or flags)], TARGETS[options.target])
    atheris.Fuzz()


def _seed(target: str, folder: Path) -> None:
    """First inputs where none are kept."""
    import numpy as np
    from fuzz import models, targets

    seeds = [np.random.default_rng(k).bytes(40 * k) for k in range(8)]
    if target == "reader":
        seeds = list(targets._golden_files())
    if target == "picture":
        seeds = targets.pictures()
    if target == "model_bytes":
        seeds = models.small_models()
    for k, seed in enumerate(seeds):
        (folder / f"seed{k}").write_bytes(seed)


if __name__ == "__main__":
    main()
