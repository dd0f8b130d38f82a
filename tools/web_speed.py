"""What decoding costs in a browser, under Node.js and by `dcae decode`, in CPU seconds; and what a page loads.

    python tools/web_speed.py PICTURE... [--model lite] [--quality 4] [--runs 3]

Needs Node.js, Chromium and `npm install` in `serve/web`, as the tests do. Pictures are encoded first; of several runs
of one thread the fastest counts, on each picture. The first picture has everything that a page's first one takes:
fetching and compiling ONNX Runtime, the model and its graphs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
os.environ["OMP_NUM_THREADS"] = "1"

from chromium import browsing, serving  # noqa: E402
from PIL import Image  # noqa: E402
from web_cases import DIST, LACKING, NODE  # noqa: E402

from dcae.codec.codec import Codec  # noqa: E402
from dcae.serve.web_folder import MODULES, write_web_folder  # noqa: E402

_NODE = """
import { readFileSync } from "node:fs";
const [modules, runtime, folder, runs, ...files] = process.argv.slice(2);
const { Decoder } = await import(`${modules}/dcae.js`);
const ort = await import(`${runtime}/ort.wasm.bundle.min.mjs`);
ort.env.wasm.wasmPaths = `file://${runtime}/`;
const models = async (id) => new Uint8Array(readFileSync(`${folder}/${id}.dcaeweb`));
const decoder = new Decoder({ models, runtime: ort });
const seconds = {};
for (const file of files) {
  seconds[file] = [];
  for (let run = 0; run < runs; run++) {
    const before = process.cpuUsage();
    await decoder.decode(new Uint8Array(readFileSync(file)));
    const { user, system } = process.cpuUsage(before);
    seconds[file].push((user + system) / 1e6);
  }
}
console.log(JSON.stringify(seconds));
"""
_PAGE = '<!doctype html><meta charset="utf-8"><script type="module" src="dcae/dcae-img.js"></script>'
_SHOW = """new Promise((resolve, reject) => {
  const element = document.createElement("dcae-img");
  element.addEventListener("load", () => resolve());
  element.addEventListener("error", (event) => reject(event.detail));
  element.setAttribute("src", FILE);
  document.body.replaceChildren(element);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--quality", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if LACKING:
        sys.exit(LACKING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        sizes = write_web_folder(folder / "dcae", options.model, DIST)
        codec = Codec(options.model, engine="onnx")
        files: dict[Path, float] = {}
        for picture in options.pictures:
            files[folder / f"{picture.stem}.dcae"] = _pixels(picture) / 1e6
            (folder / f"{picture.stem}.dcae").write_bytes(codec.encode(picture, options.quality))
        rows = {
            "`dcae decode`, a process each": _command(files, options),
            "the same in one process": _python(codec, files, options.runs),
            "Node.js": _node(folder, files, options.runs),
            "Chromium": _chromium(folder, files, options.runs),
        }
        megapixels = sum(files.values())
        print(f"{len(files)} pictures, {megapixels:.2f} megapixels, quality {options.quality:g}, one thread")
        print("| CPU seconds | first picture | per megapixel |\n|---|---:|---:|")
        for name, seconds in rows.items():
            first = next(iter(seconds.values()))[0]
            print(f"| {name} | {first:.2f} | {sum(map(min, seconds.values())) / megapixels:.2f} |")
        print("\n| loaded once | bytes | by gzip -9 |\n|---|---:|---:|")
        groups: dict[str, list[Path]] = {}
        for path in sizes:
            groups.setdefault(path.name if path.suffix in (".wasm", ".mjs", ".dcaeweb") else "modules", []).append(path)
        for name, paths in groups.items():
            packed = sum(min(len(gzip.compress(path.read_bytes(), 9)), sizes[path]) for path in paths)
            print(f"| {name} | {sum(sizes[path] for path in paths):,} | {packed:,} |")


def _pixels(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width * picture.height


def _command(files: dict[Path, float], options: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for path in files:
        command = ["dcae", "decode", path, "-o", path.with_suffix(".png"), "--force", "--model", options.model]
        for _ in range(options.runs):
            before = _children()
            # Not in the folder of the files, which has one of the package's name.
            subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, cwd="/")
            found.setdefault(path.name, []).append(_children() - before)
    return found


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _python(codec: Codec, files: dict[Path, float], runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for path in files:
        for _ in range(runs):
            before = time.process_time()
            codec.decode(path.read_bytes())
            found.setdefault(path.name, []).append(time.process_time() - before)
    return found


def _node(folder: Path, files: dict[Path, float], runs: int) -> dict[str, list[float]]:
    script = folder / "speed.mjs"
    script.write_text(_NODE)
    command = [str(NODE), script, MODULES, DIST, folder / "dcae", str(runs), *files]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _chromium(folder: Path, files: dict[Path, float], runs: int) -> dict[str, list[float]]:
    (folder / "index.html").write_text(_PAGE)
    found: dict[str, list[float]] = {}
    with serving(folder) as url, browsing(folder / "profile") as page:
        page.open(f"{url}/index.html")
        for path in files:
            for _ in range(runs):
                before = page.cpu_seconds()
                page.run(_SHOW.replace("FILE", json.dumps(path.name)))
                found.setdefault(path.name, []).append(page.cpu_seconds() - before)
    return found


if __name__ == "__main__":
    main()
