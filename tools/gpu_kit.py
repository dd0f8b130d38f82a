"""A kit for a borrowed GPU: training on a machine without internet, in calls of some minutes; docs/gpu.md tells how.

python tools/gpu_kit.py make --data DIR --from RUN        writes a bundle and prints the commands of every call
python3 .../gpu_kit.py run ...                            on that machine: takes over the bundle, trains, stops
python3 .../gpu_kit.py send FILE --out OUT                on that machine: puts out a whole file in pieces
python tools/gpu_kit.py collect FOLDER... -o FILE         joins what came back into a checkpoint
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kit.pieces import MIB, KitError, newest_whole

WHEELS = ("compressai", "pytorch-msssim", "constriction")
"""What training imports that machines with PyTorch, NumPy, SciPy, Matplotlib and TensorBoard may lack."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)

    make = verbs.add_parser("make", help="write a bundle")
    make.add_argument("--data", type=Path, required=True, help="training pictures")
    make.add_argument("--recipe", default="lite-gpu", help="name or TOML file")
    make.add_argument("--from", dest="start", default="", help="run, checkpoint or model to start from; none: nothing")
    make.add_argument("--state", choices=("weights", "moments", "full"), default="weights",
                      help="of a run: averaged weights; all, the optimiser in bfloat16; all as it is")  # fmt: skip
    make.add_argument("-o", "--output", type=Path, default=Path(".kit"), help="folder of the bundle, ignored by git")
    make.add_argument("--data-mib", type=int, default=0, help="pictures to take along, in MiB; 0: all")
    make.add_argument("--smallest", type=int, default=256, help="smallest side of a picture; the recipe's patch")
    make.add_argument("--call-mib", type=int, default=64, help="what one call may carry, the checkout included")
    make.add_argument("--checkout-mib", type=float, default=0, help="size of the checkout; 0: measured")
    make.add_argument("--seconds", type=int, default=570, help="length of a call")
    make.add_argument("--work", default="/tmp/dcae-kit", help="folder on that machine's disk, kept between calls")
    make.add_argument("--device", default="cuda")
    make.add_argument("--python-version", default="3.12", help="of that machine's python3")
    make.add_argument("--wheel", nargs="*", default=list(WHEELS), help="packages that machine lacks")
    make.add_argument("--piece-mib", type=int, default=16, help="largest piece of the state")

    run = verbs.add_parser("run", help="on the machine: one call")
    run.add_argument("bundle", nargs="?", type=Path, help="folder that this call carries; none: what has arrived")
    run.add_argument("--work", type=Path, required=True)
    run.add_argument("--out", type=Path, required=True, help="folder whose files come back")
    run.add_argument("--seconds", type=float, default=570, help="length of the call, all included")
    run.add_argument("--device", default="cuda")
    run.add_argument("--every", type=float, default=2, help="minutes between checkpoints")
    run.add_argument("--piece-mib", type=int, default=16, help="largest file that comes back")
    run.add_argument("--decay", type=float, default=0, metavar="MINUTES", help="a decay of this length instead")
    run.add_argument("--train", nargs=argparse.REMAINDER, default=[], help="further options of dcae train, last")

    send = verbs.add_parser("send", help="on the machine: a file in pieces")
    send.add_argument("file", type=Path)
    send.add_argument("--out", type=Path, required=True)
    send.add_argument("--first", type=int, default=0, help="number of the first piece")
    send.add_argument("--count", type=int, default=4, help="pieces that may come back from one call")
    send.add_argument("--piece-mib", type=int, default=16)

    collect = verbs.add_parser("collect", help="join what came back")
    collect.add_argument("folders", nargs="+", type=Path)
    collect.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write")

    pack = verbs.add_parser("pack", help="(used by run) a checkpoint's averaged weights in pieces")
    pack.add_argument("file", type=Path)
    pack.add_argument("--out", type=Path, required=True)
    pack.add_argument("--piece-mib", type=int, default=16)
    restore = verbs.add_parser("restore", help="(used by run) a packed checkpoint in float32")
    restore.add_argument("file", type=Path)
    restore.add_argument("-o", "--output", type=Path, required=True)
    return parser


def collect(folders: list[Path], output: Path) -> str:
    """Join the newest whole set of pieces into a checkpoint, or the file that was sent.

    Raises:
        KitError: nothing whole there, or the output exists.
    """
    if output.exists():
        raise KitError(f"{output} exists; choose another name")
    index, data = newest_whole(folders)
    if index["kind"] == "weights":
        from kit.weights import restored

        data = restored(data)
    part = output.with_name(output.name + ".part")
    part.write_bytes(data)
    part.replace(output)
    return f"{output}: {index['name']}, {len(data) / MIB:.1f} MiB"


def main() -> None:
    options = _parser().parse_args()
    try:
        if options.verb == "make":
            from kit.bundle import make

            print(make(options))
        elif options.verb == "collect":
            print(collect(options.folders, options.output))
        elif options.verb == "restore":
            from kit.weights import restored

            options.output.write_bytes(restored(options.file.read_bytes()))
        else:
            from kit import remote

            options.piece = options.piece_mib * MIB
            if options.verb == "run":
                options.out.mkdir(parents=True, exist_ok=True)
                remote.run(options)
            elif options.verb == "send":
                print(remote.send(options.file, options.out, options.first, options.count, options.piece))
            else:
                print(remote.pack(options.file, options.out, options.piece))
    except KitError as error:
        sys.exit(f"gpu_kit: {error}")


if __name__ == "__main__":
    main()
