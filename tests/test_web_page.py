"""The decoder for browsers in a browser: a page with the element, under a strict content security policy."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_decoder as reference
from chromium import BROWSER, Page, browsing, serving
from helpers import screen, synthetic_picture
from numpy.typing import NDArray
from PIL import Image
from web_cases import DIST, LACKING, NODE, Cases, environment, file_of

from dcae.codec.codec import Codec
from dcae.serve.web_folder import web_model_name, write_web_folder

pytestmark = pytest.mark.skipif(not BROWSER or bool(LACKING), reason=LACKING or "no chromium")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
TINY = GOLDEN / "tiny.safetensors"
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'"
"""What docs/web/README.md says that the decoder needs."""
EMPTY = "<!doctype html><html lang=en><meta charset=utf-8><title>Test</title><body>"
SHOW = """new Promise((resolve) => {
  const element = document.createElement("dcae-img");
  const told = [];
  let ticks = 0;
  const ticking = setInterval(() => ticks++);
  const done = (found) => {
    clearInterval(ticking);
    resolve({ ...found, told, ticks, busy: element.ariaBusy, role: element.getAttribute("role") });
  };
  element.addEventListener("progress", (event) => told.push(event.detail));
  element.addEventListener("load", () => {
    const canvas = element.shadowRoot.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (const byte of data) text += String.fromCharCode(byte);
    const { x, y, width, height } = canvas.getBoundingClientRect();
    done({ size: [element.naturalWidth, element.naturalHeight], data: btoa(text), box: [x, y, width, height] });
  });
  element.addEventListener("error", (event) => {
    done({ error: event.detail.name, message: element.shadowRoot.querySelector("p:not([hidden])")?.textContent });
  });
  for (const [name, value] of Object.entries(ATTRIBUTES)) element.setAttribute(name, value);
  document.body.replaceChildren(element);
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty page, the decoder, a small model, and the golden files."""
    folder = tmp_path_factory.mktemp("site")
    write_web_folder(folder / "dcae", TINY, DIST)
    (folder / "index.html").write_text(f'{EMPTY}<script type="module" src="dcae/dcae-img.js"></script>')
    (folder / "favicon.ico").touch()
    for path in GOLDEN.glob("*.dcae"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """That page in a browser."""
    with (
        serving(site, Content_Security_Policy=POLICY) as url,
        browsing(tmp_path_factory.mktemp("profile")) as page,
    ):
        page.open(f"{url}/index.html")
        page.run("customElements.whenDefined('dcae-img').then(() => {})")
        yield page


def _shown(page: Page, **attributes: str) -> dict[str, Any]:
    """What becomes of an element; its pixels as an array (rows, columns, 4)."""
    names = {name.replace("_", "-"): value for name, value in attributes.items()}
    found: dict[str, Any] = page.run(SHOW.replace("ATTRIBUTES", repr(names)))
    if "data" in found:
        width, height = found["size"]
        found["pixels"] = np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(height, width, 4)
    return found


def _levels(pixels: NDArray[np.uint8], expected: Image.Image) -> int:
    return int(np.abs(pixels.astype(int) - np.asarray(expected.convert("RGBA"), int)).max())


def test_golden_files(page: Page) -> None:
    for path in sorted(GOLDEN.glob("*.dcae")):
        found = _shown(page, src=path.name, alt=path.stem)
        with Image.open(path.with_suffix(".png")) as expected:
            assert _levels(found["pixels"], expected) <= 1
        assert (found["role"], found["busy"]) == ("img", None)
        assert found["told"][-1] == 1
    assert not page.said


_NODE = """
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
const [support, ...files] = process.argv.slice(1);
const decoder = (await import(support)).decoder();
for (const file of files) {
  const { data } = await decoder.decode(new Uint8Array(readFileSync(file)));
  console.log(createHash("sha256").update(data).digest("hex"));
}
"""


@pytest.mark.skipif(NODE is None, reason="no node")
def test_pixels_are_those_under_node(page: Page, tmp_path: Path) -> None:
    Cases(tmp_path, [TINY]).write()
    files = sorted(GOLDEN.glob("*.dcae"))
    support = (ROOT / "tests" / "web" / "support.mjs").as_uri()
    command = [str(NODE), "--input-type=module", "-e", _NODE, support, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    shown = [_shown(page, src=path.name, alt="")["pixels"].tobytes() for path in files]
    assert done.stdout.split() == [hashlib.sha256(pixels).hexdigest() for pixels in shown]


def test_what_lies_in_a_file_in_another_format(page: Page, site: Path) -> None:
    """Alpha, and whole pictures in colour, gray and 16 bits, as PNG and as WebP; and as AVIF."""
    codec = Codec(TINY, engine="onnx")
    rng = np.random.default_rng(1)
    coloured = np.asarray(synthetic_picture(70, 50))
    flat = np.repeat(np.uint8(rng.integers(0, 256, (5, 7, 3))), 8, 0).repeat(8, 1)
    mask = np.uint8(np.indices((50, 70)).sum(0) * 2)
    deep = np.uint16(np.indices((40, 56)).sum(0)[..., None] * 257 % 65536)
    pictures: dict[str, tuple[NDArray[Any], bool]] = {
        "alpha": (np.dstack([coloured, mask]), False),
        "noisy-alpha": (np.dstack([coloured, rng.integers(0, 256, (50, 70), np.uint8)]), False),
        "lossless": (flat, True),
        "lossless-alpha": (np.dstack([flat, mask[:40, :56]]), True),
        "lossless-gray": (np.uint8(np.indices((40, 56)).sum(0)), True),
        "lossless-deep": (deep, True),
        "deep": (deep.repeat(3, 2), False),
        "avif": (np.asarray(screen()), True),
        "avif-gray": (np.asarray(screen("L")), True),
        "avif-alpha": (np.dstack([np.asarray(screen()), np.uint8(np.indices((160, 200)).sum(0) // 2)]), True),
    }
    for name, (array, stored) in pictures.items():
        data = codec.encode(array, 4, fallback=stored)
        letters = [letter for letter, _ in reference.read_sections(data)]
        kind = ("V" if "avif" in name else "P") if stored else "Z"
        assert (kind in letters, "A" in letters) == (True, "alpha" in name), name
        (site / f"{name}.dcae").write_bytes(data)
        found = _shown(page, src=f"{name}.dcae", alt=name)
        expected = codec.decode_picture(data)
        alpha = 255 if expected.alpha is None else expected.at_depth(8).alpha
        assert (found["pixels"][..., 3] == alpha).all(), name
        opaque = found["pixels"][..., 3] == 255  # a canvas multiplies colours with alpha, and forgets some of them
        colours = np.broadcast_to(expected.at_depth(8).pixels, (*opaque.shape, 3))
        error = np.abs(found["pixels"][..., :3].astype(int) - colours)[opaque]
        assert error.max(initial=0) <= (0 if kind == "P" and "deep" not in name else 1), name
    (_, header), stream = reference.read_sections((site / "lossless.dcae").read_bytes())
    wrong = header[:-2] + bytes([header[-2] ^ 1]) + header[-1:]  # the check value
    (site / "check.dcae").write_bytes(file_of([("H", wrong), stream], 2))
    found = _shown(page, src="check.dcae", alt="")
    assert (found["error"], found["message"]) == (
        "FileFormatError", "the lossless picture fails its check value; the file is damaged"
    )  # fmt: skip
    (_, header), (_, avif) = reference.read_sections((site / "avif.dcae").read_bytes())
    assert header.startswith(bytes((0xC8, 1, 0xA0, 1)))
    hidden = [("H", bytes((64, 64)) + header[4:]), ("V", avif)]  # whose stream has 200x160 pixels
    (site / "hidden.dcae").write_bytes(file_of(hidden, 2))
    assert "another size (200x160)" in _shown(page, src="hidden.dcae", alt="")["message"]
    buffer = BytesIO()
    Image.new("L", (71, 50)).save(buffer, "PNG")
    sections = reference.read_sections((site / "alpha.dcae").read_bytes())
    other = [(letter, buffer.getvalue() if letter == "A" else payload) for letter, payload in sections]
    (site / "size.dcae").write_bytes(file_of(other, 2))
    assert "another size (71x50)" in _shown(page, src="size.dcae", alt="")["message"]


def test_what_is_refused_is_said(page: Page, site: Path) -> None:
    good = (site / "wide.dcae").read_bytes()
    (site / "cut.dcae").write_bytes(good[:200])
    (_, header), *streams = reference.read_sections(good)
    other = header.replace(bytes.fromhex("6899f2b85092469e"), bytes(range(8)))
    (site / "other.dcae").write_bytes(file_of([("H", other), *streams]))
    for attributes, error, words in (
        ({"src": "cut.dcae"}, "FileFormatError", "the file ends too early; it is truncated or damaged"),
        ({"src": "index.html"}, "FileFormatError", "not a .dcae file (or its first bytes are damaged)"),
        ({"src": "nowhere.dcae"}, "DCAEError", "HTTP 404"),
        ({"src": "other.dcae"}, "ModelNotFoundError", "needs model 0001020304050607"),
        ({"src": "wide.dcae", "max_pixels": "4096"}, "FileFormatError", "more than the limit of 4096"),
        ({"src": "wide.dcae", "max_pixels": "many"}, "OptionError", "maxPixels must be an integer"),
        ({"src": "wide.dcae", "runtime": "nowhere.mjs"}, "DCAEError", "ONNX Runtime cannot be loaded"),
    ):
        found = _shown(page, alt="a picture", **attributes)
        assert found["error"] == error and words in found["message"], found
        assert (found["role"], found["busy"]) == ("group", None)
        assert found["message"] in str(page.call("Accessibility.getFullAXTree"))
    found = _shown(page, src="wide.dcae", alt="a picture")
    assert found["size"] == [130, 33]  # and what is good is shown as before


def test_as_people_meet_it(page: Page) -> None:
    """Name, role and size; and another picture in its place."""
    found = _shown(page, src="tall.dcae", alt="A tall one", width="100", height="194")
    assert found["box"][2:] == [100, 194]
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    assert [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "image"] == ["A tall one"]
    assert _shown(page, src="tall.dcae", alt="")["role"] == "none"
    assert _shown(page, src="tall.dcae", alt="x", height="194")["box"][2:] == [100, 194]
    size = page.run("""new Promise((resolve) => {
      const element = document.querySelector("dcae-img");
      element.setAttribute("src", "wide.dcae");   // is left for the next one at once
      element.setAttribute("src", "gray.dcae");
      element.removeAttribute("height");
      element.addEventListener("load", () => resolve([element.naturalWidth, element.naturalHeight]));
    })""")
    assert size == [64, 64]
    left = page.run("""new Promise((resolve) => {
      const element = document.createElement("dcae-img");
      element.setAttribute("src", "wide.dcae");
      for (const name of ["load", "error"]) element.addEventListener(name, () => resolve(name));
      document.body.append(element);
      element.remove();                            // nobody waits for it
      setTimeout(() => resolve("nothing"), 1000);
    })""")
    assert left == "nothing"
    emptied = page.run("""new Promise((resolve) => {
      const element = document.querySelector("dcae-img");
      const now = () => [element.naturalWidth, element.hasAttribute("aria-busy")];
      const shown = now();
      element.setAttribute("src", "wide.dcae");
      element.removeAttribute("src");              // before it is there
      setTimeout(() => resolve([shown, now()]), 500);
    })""")
    assert emptied == [[64, False], [0, False]]


_THREADS = """(async () => {
  const [{ Decoder }, ort] = await Promise.all([import("./dcae/dcae.js"), import("./dcae/ort.wasm.bundle.min.mjs")]);
  const { data } = await new Decoder({ threads: 2 }).decode(await (await fetch("FILE")).arrayBuffer());
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return [crossOriginIsolated, ort.env.wasm.numThreads, btoa(text)];
})()"""


def test_threads(site: Path, tmp_path: Path) -> None:
    """The same pixels, and so the same check value, by two threads, where the page may have them."""
    isolated = {"Cross_Origin_Opener_Policy": "same-origin", "Cross_Origin_Embedder_Policy": "require-corp"}
    found = []
    with browsing(tmp_path) as page:
        for headers in ({}, isolated):
            with serving(site, Content_Security_Policy=POLICY, **headers) as url:
                page.open(f"{url}/index.html")
                found.append(page.run(_THREADS.replace("FILE", "colour3.dcae")))
    (alone, _, expected), (together, count, pixels) = found
    assert (alone, together, count) == (False, True, 2)
    assert pixels == expected


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_photograph_on_the_page_of_the_documents(tmp_path: Path, shared: Path, width: int) -> None:
    """What the canvas holds is what the package decodes, and what is seen is that."""
    folder = tmp_path / "web"
    write_web_folder(folder / "dcae", "lite", DIST)
    shutil.copy(ROOT / "docs" / "web" / "index.html", folder)
    codec = Codec("lite", engine="onnx")
    data = codec.encode((shared / "data/kodak/kodim05.png").read_bytes(), 4)
    (folder / "photo.dcae").write_bytes(data)
    with serving(folder, Content_Security_Policy=POLICY) as url, browsing(tmp_path / "profile") as page:
        page.open(f"{url}/index.html", width)
        alive = page.run(
            "new Promise((done) => { let ticks = 0; setInterval(() => ticks++);"
            "const element = document.querySelector('dcae-img');"
            "const look = () => (element.naturalWidth ? done(ticks) : setTimeout(look, 20)); look(); })"
        )
        assert alive > 10  # the page has lived on meanwhile
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(tmp_path / "page.png")
        rectangle = page.run("document.querySelector('dcae-img').getBoundingClientRect().toJSON()")
        expected = codec.decode(data)
        assert _levels(_shown(page, src="photo.dcae", alt="The photograph")["pixels"], expected) <= 1
    x, y, across, down = (rectangle[name] for name in ("x", "y", "width", "height"))
    assert across <= width and round(down) == round(across * 512 / 768)
    with Image.open(tmp_path / "page.png") as screen:
        seen = screen.convert("RGB").crop((round(x), round(y), round(x + across), round(y + down)))
    shown = np.asarray(seen.resize((192, 128), Image.Resampling.BOX), float)
    close = np.asarray(expected.resize((192, 128), Image.Resampling.BOX), float)
    assert np.abs(shown - close).mean() < 4
    assert web_model_name() in {path.name for path in (folder / "dcae").iterdir()}
