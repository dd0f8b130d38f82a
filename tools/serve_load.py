"""`dcae serve` under load and faults, with figures: seconds to an answer by size, memory, what was refused.

    python tools/serve_load.py [--requests 200] [--clients 16] [--workers 2] [--model lite] [--queue 16]

The service is started, gets pictures of 0.1 to 12 megapixels (encoded, as jobs too, and decoded) of which as many more
are sent as they are smaller, a tenth of the requests being hostile: bombs, truncated and damaged files, senders that
are slow or hang up. Once half of the answers are there, a worker is killed. Every answer is checked. The exit code is 1
if one is wrong. Run it on a machine that is otherwise quiet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from service import PATIENCE, served  # noqa: E402
from service_load import SIDES, Load, Report, example  # noqa: E402

MIB = 1 << 20


def main() -> int:
    """Do it; gives the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=200)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--queue", type=int, default=16)
    arguments.add_argument("--model", default="lite")
    given = arguments.parse_args()
    examples = [example(size, seed, given.model, "JPEG") for seed, size in enumerate([*[0.1] * 3, 0.4, 0.4, *SIDES])]
    limits = f"--workers={given.workers}", f"--queue={given.queue}", "--body-seconds=10", "--max-seconds=900"
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with served(Path(folder, "service"), *limits, model=given.model) as service:
            listening = time.monotonic() - began
            service.patience = 6 * PATIENCE
            while not service.get("/healthz").json["workers"]:
                time.sleep(0.05)
            ready = time.monotonic() - began
            report = Load(service, examples, given.requests, given.clients, kill=sys.platform == "linux").run()
            counted = service.get("/metrics").data.decode()
    print(f"listens after {listening:.1f} s, a worker is ready after {ready:.1f} s")
    say(report, given.requests)
    print("\n".join(line for line in counted.splitlines() if line.startswith("dcae_worker_restarts_total")))
    return 1 if report.wrong else 0


def say(report: Report, requests: int) -> None:
    """Print what became of a load."""
    print(f"{requests} requests in {report.wall:.0f} s, {report.again} sent away by a full queue and sent again")
    print(f"{report.killed} worker killed; {len(report.wrong)} wrong answers", *report.wrong, sep="\n  ")
    print("\n| request | answer | times |\n|---|---|---:|")
    for name, times in sorted(report.answers.items()):
        kind, _, answer = name.partition(" ")
        print(f"| {kind} | {answer} | {times} |")
    print("\n| megapixels | answers | median (s) | slowest (s) |\n|---:|---:|---:|---:|")
    for megapixels, seconds in sorted(report.seconds.items()):
        print(f"| {megapixels} | {len(seconds)} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    print(
        f"\npeak memory: server {report.server / MIB:.0f} MiB, a worker {report.worker / MIB:.0f} MiB, all together "
        f"{report.together / MIB:.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
