"""The page of `dcae serve` in a browser: pictures go in, both sides and their files come out."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import BROWSER, Page, browsing
from helpers import synthetic_picture
from numpy.typing import NDArray
from page_of_serve import REFUSED, select, serve, wait
from PIL import Image
from web_cases import LACKING

import dcae
from dcae.extras import missing

_MISSING = missing("the page needs", "serve", "fastapi", "uvicorn", "prometheus_client")
pytestmark = pytest.mark.skipif(not BROWSER or bool(_MISSING), reason=_MISSING or "no chromium")
ROOT = Path(__file__).resolve().parents[1]

DROP = """(() => {
  const bytes = Uint8Array.from(atob(DATA), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], NAME));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
})()"""
PASTE = DROP.replace('DragEvent("drop", { dataTransfer,', 'ClipboardEvent("paste", { clipboardData: dataTransfer,')
TABLE = "[...document.querySelectorAll('#numbers tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
RECORD = """(() => {
  window.jobs = [];
  const asked = fetch;
  window.fetch = (url, options) => {
    const job = String(url).match(/.*jobs\\/[^/]+/)?.[0];
    if (job && !jobs.includes(job)) jobs.push(job);
    return asked(url, options);
  };
})()"""
JOBS = "window.jobs"
"""URLs of jobs, in the order in which they were first asked for."""
CANVAS = """new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const canvas = document.querySelector("#canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  resolve([canvas.width, canvas.height, btoa(text)]);
})))"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The page's address."""
    with serve("--max-bytes", "1MiB") as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser."""
    with browsing(tmp_path_factory.mktemp("profile"), patience=1500) as page:
        yield page


@pytest.fixture
def page(url: str, browser: Page, tmp_path: Path) -> Iterator[Page]:
    """The page, opened; what it writes to the console, as what its policy forbids, fails a test."""
    browser.save_into(tmp_path)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.call("Network.enable")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.said.clear()
    browser.open(url)
    browser.run(RECORD)
    wait(browser, "document.querySelectorAll('#examples button').length")
    yield browser
    harmless = re.compile(r"readback operations|responded with a status of 4|ERR_BLOCKED")  # of the tests; refusals
    assert not [line for line in browser.said if not harmless.search(line)]


def _give(page: Page, data: bytes, name: str = "drawn.png", script: str = DROP) -> None:
    text = json.dumps(base64.b64encode(data).decode())
    page.run(script.replace("DATA", text).replace("NAME", json.dumps(name)))


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture(width: int = 192, height: int = 176) -> Image.Image:
    return synthetic_picture(width, height)


def _text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({json.dumps(selector)}).innerText"))


def _table(page: Page) -> dict[str, list[str]]:
    rows: list[list[str]] = page.run(TABLE)
    return {row[0]: row[1:] for row in rows}


def _shown(page: Page) -> NDArray[np.uint8]:
    """The stage (rows, columns, 4)."""
    width, height, data = page.run(CANVAS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


def _picture_shown(page: Page, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture in the middle of the stage, one to one (rows, columns, 3)."""
    page.run("document.querySelector('#pixels').click()")
    stage = _shown(page)
    width, height = size
    x, y = (round(stage.shape[k] / 2 - size[1 - k] / 2) for k in (1, 0))
    assert (stage[y : y + height, x : x + width, 3] == 255).all()
    return stage[y : y + height, x : x + width, :3]


def _saved(page: Page, label: str, path: Path) -> bytes:
    """What a button of the table saves."""
    page.run(f"document.querySelector('#numbers button[aria-label={json.dumps(label)}]').click()")
    until = time.monotonic() + 30
    while not (path.is_file() and path.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    return path.read_bytes()


def _pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _box(page: Page, selector: str) -> dict[str, float]:
    found: dict[str, float] = page.run(
        f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
    )
    return found


def test_a_picture_beside_a_rival(page: Page, tmp_path: Path) -> None:
    """Both sides are what the files hold that are offered for saving, and the command decodes ours to the same."""
    image = _picture()
    _give(page, _file(image))
    wait(page)
    table = _table(page)
    assert table[""] == ["Original", "DCAE", "AVIF"]
    packed = _saved(page, "Save the .dcae file", tmp_path / "drawn.dcae")
    ours = _pixels(_saved(page, "Save what it decodes to as PNG", tmp_path / "drawn-dcae.png"))
    avif = _saved(page, "Save the AVIF file", tmp_path / "drawn.avif")
    assert [int(text.replace(",", "")) for text in table["Bytes"]][1:] == [len(packed), len(avif)]
    assert len(avif) <= len(packed) and _pixels(avif).shape == ours.shape
    done = subprocess.run(
        [sys.executable, "-m", "dcae", "decode", tmp_path / "drawn.dcae", "-o", tmp_path / "out.png"], cwd="/"
    )
    assert done.returncode == 0
    assert np.abs(_pixels((tmp_path / "out.png").read_bytes()).astype(int) - ours).max() <= 1
    squares = np.square(np.asarray(image).astype(float) - ours).mean()
    assert abs(float(table["PSNR, dB"][1]) - 10 * np.log10(255**2 / squares)) < 0.006
    assert f"At {len(packed):,} bytes DCAE has " in _text(page, "#status")

    shown = _picture_shown(page, image.size)
    half = image.width // 2
    assert (shown[:, : half - 2] == np.asarray(image)[:, : half - 2]).all()
    assert (shown[:, half + 2 :] == ours[:, half + 2 :]).all()
    page.screenshot(tmp_path / "wide.png")
    for side, choice in (("left", "dcae-difference"), ("right", "rival")):
        select(page, f"#{side}", choice)
    shown = _picture_shown(page, image.size)
    error = np.minimum(8 * np.abs(np.asarray(image).astype(int) - ours), 255)
    assert (shown[:, : half - 2] == error[:, : half - 2]).all()
    theirs = _pixels(_saved(page, "Save what AVIF decodes to as PNG", tmp_path / "drawn-avif.png"))
    assert (shown[:, half + 2 :] == theirs[:, half + 2 :]).all()


def test_the_last_setting_counts(page: Page, url: str) -> None:
    """By the keyboard: a setting that is left for another has its job cancelled, and its answer never appears."""
    _give(page, _file(_picture(128, 128)), script=PASTE)
    wait(page, f"{JOBS}.length")
    select(page, "#effort", "4")
    wait(page, f"{JOBS}.length > 1")
    page.run("(() => { document.querySelector('#effort').value = '0'; document.querySelector('#quality').focus(); })()")
    page.press("Home")
    page.press("ArrowRight", 5)
    assert _text(page, "#quality-text") == "1.5"
    wait(page)
    assert _table(page)["Setting"][1] == "quality 1.5"
    *others, last = map(_state, page.run(JOBS))
    assert last == "done" and others and set(others) <= {"cancelled", "gone"}
    assert _table(page)["Setting"][1] == "quality 1.5"
    page.run("document.querySelector('[name=aim][value=size]').click()")
    wait(page, "document.querySelector('#size-text').innerText")
    wait(page)
    aim = page.run("document.querySelector('#size').getAttribute('aria-valuetext')")
    kilobytes = float(aim.split(" kB")[0])
    assert 0.97 * kilobytes - 0.05 <= int(_table(page)["Bytes"][1].replace(",", "")) / 1000 <= kilobytes + 0.05


def _state(url: str) -> str:
    try:
        with urllib.request.urlopen(url) as answer:
            return str(json.load(answer)["state"])
    except urllib.error.HTTPError as error:
        return "gone" if error.code == 404 else str(error)


def test_cancelling(page: Page) -> None:
    page.run("document.querySelector('#effort').value = '4'")
    _give(page, _file(_picture(256, 256)))
    wait(page, f"{JOBS}.length")
    page.run("document.querySelector('#cancel').click()")
    wait(page, "document.querySelector('#working').hidden")
    assert _text(page, "#status").startswith("Cancelled.")
    assert page.run("document.querySelector('#numbers').hidden && document.querySelector('#refusal').hidden")
    (job,), until = page.run(JOBS), time.monotonic() + 30
    while (state := _state(job)) not in ("cancelled", "gone") and time.monotonic() < until:
        time.sleep(0.05)
    assert state in ("cancelled", "gone")


def test_what_is_refused_is_said(page: Page) -> None:
    good = _file(_picture(96, 96))
    packed = dcae.encode(_picture(96, 96), 4, effort=0)
    for name, data, words in (
        ("text.png", b"no picture at all", "text.png: "),
        ("cut.png", good[: len(good) // 2], "cut.png: "),
        ("empty.png", b"", "it is empty"),
        ("large.png", bytes(1 << 20) + b"x", "this server takes at most 1.0 MB"),
        ("cut.dcae", packed[:-40], "damaged"),
        ("text.dcae", b"no picture at all", " .dcae file"),  # the browser says it, or the server
    ):
        _give(page, data, name)
        wait(page, f"{REFUSED} && document.querySelector('#refusal').innerText.startsWith({json.dumps(name)})")
        assert words in (said := _text(page, "#refusal")) and "\n" not in said, (name, said)
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        assert any(node.get("role", {}).get("value") == "alert" for node in nodes)
        assert page.run("!document.querySelector('#start').hidden && document.querySelector('#work').hidden")
    _give(page, good, "good.png")
    wait(page)
    assert page.run("document.querySelector('#refusal').hidden")
    _give(page, b"", "empty.png")
    wait(page, REFUSED)  # and the picture before is still there, as are its settings
    page.run("""(() => {
      const slice = () => ({ arrayBuffer: () => Promise.reject(new Error("gone")) });
      const files = [{ name: "folder", size: 4096, slice }];
      const drop = Object.assign(new Event("drop", { bubbles: true }), { dataTransfer: { files, types: ["Files"] } });
      document.body.dispatchEvent(drop);
    })()""")
    wait(page, f"{REFUSED} && document.querySelector('#refusal').innerText.startsWith('folder: it cannot be read')")
    select(page, "#rival", "jpeg")
    wait(page, "document.querySelector('#numbers thead').innerText.includes('JPEG')")


@pytest.mark.parametrize(("kind", "here"), [("lossy", True), ("lossless", True), ("lossy", False)])
def test_a_dcae_file(page: Page, tmp_path: Path, kind: str, here: bool) -> None:
    """What the browser decodes, where it can load the decoder, and else the server."""
    image = _picture(100, 60) if kind == "lossy" else Image.new("RGB", (100, 60), (200, 30, 90))
    page.call("Network.setBlockedURLs", urls=[] if here else ["*/web/*"])
    packed = dcae.encode(image, 4, effort=0)
    path = tmp_path / "given.dcae"
    path.write_bytes(packed)
    page.choose("#file", path)
    wait(page)
    expected = np.asarray(dcae.decode(packed).convert("RGB"))
    assert np.abs(_picture_shown(page, image.size).astype(int) - expected).max() <= 1
    saved = _pixels(_saved(page, "Save it as PNG", tmp_path / "given.png"))
    assert np.abs(saved.astype(int) - expected).max() <= 1
    assert _text(page, "#status") == f"Decoded {'in this browser' if here and not LACKING else 'by the server'}."
    assert _table(page)["Bytes"] == [f"{len(packed):,}"]
    assert page.run("document.querySelector('#settings').hidden && document.querySelector('#divider').hidden")


def test_upright(page: Page) -> None:
    """A picture that lies on its side by its EXIF stands, before the server's answer and after it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    _give(page, _file(_picture(176, 96), "JPEG", exif=exif, quality=95), "camera.jpg")
    wait(page, "document.querySelector('#name').innerText.includes('×')")
    assert _text(page, "#name") == "camera.jpg, 96 × 176"
    wait(page)
    assert _text(page, "#name") == "camera.jpg, 96 × 176"


def test_keyboard_and_names(page: Page) -> None:
    """Everything can be done by keys, and has a name, a role and a state for assistive technology."""
    _give(page, _file(_picture()))
    wait(page)
    page.run("document.querySelector('#divider').focus()")
    line = "document.querySelector('#divider').getAttribute('aria-valuenow')"
    scale = "document.querySelector('#scale').innerText"
    settled = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(VALUE))))"
    for key, expected in (("ArrowRight", "52"), ("ArrowLeft", "50"), ("End", "100"), ("PageDown", "90"), ("Home", "0")):
        page.press(key)
        assert page.run(settled.replace("VALUE", line)) == expected
    page.press("Escape")
    assert page.run(settled.replace("VALUE", line)) == "50"
    whole = page.run(scale)
    page.run("document.querySelector('#stage').focus()")
    page.press("+", 4)
    assert page.run(settled.replace("VALUE", scale)) != whole
    before = _shown(page)
    page.press("ArrowDown")
    assert (_shown(page) != before).any()
    page.press("-")
    page.press("Escape")
    assert page.run(settled.replace("VALUE", scale)) == whole
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node["name"]["value"]) for node in nodes if node.get("name", {}).get("value")}
    assert {
        ("slider", "Line between the two pictures"), ("slider", "Quality"), ("combobox", "Effort"),
        ("combobox", "Beside"), ("combobox", "Left of the line"), ("button", "Larger"), ("columnheader", "DCAE"),
        ("rowheader", "PSNR, dB"), ("button", "Save the .dcae file"), ("button", "Another picture"),
    } <= named  # fmt: skip
    assert any(role == "image" and name.startswith("Original, and right of the line DCAE, at ") for role, name in named)
    wanting = {"button", "slider", "combobox", "radio", "textbox"}
    assert all(node.get("name", {}).get("value") for node in nodes if node.get("role", {}).get("value") in wanting)


def test_mouse(page: Page) -> None:
    image = _picture(128, 96)
    _give(page, _file(image))
    wait(page)
    box = _box(page, "#divider")
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    page.drag((x, y), (x + 30, y), (x + 100, y))
    moved = _box(page, "#divider")
    assert abs(moved["x"] - box["x"] - 100) < 2
    before = _shown(page)
    page.run("document.querySelector('#larger').click(), document.querySelector('#larger').click()")
    enlarged = _shown(page)
    assert (enlarged != before).any()
    left = enlarged[40:, : int(x) - 5].reshape(-1, 4)  # pixels keep their colours, whatever the scale
    assert {*map(bytes, left[left[:, 3] == 255, :3])} <= {*map(bytes, np.asarray(image).reshape(-1, 3))}
    page.drag((x - 200, y + 100), (x - 150, y + 100))
    assert (_shown(page) != enlarged).any() and _box(page, "#divider") == moved


CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const { backgroundColor } = getComputedStyle(element);
      if (!backgroundColor.endsWith(", 0)")) return backgroundColor;
    }
  };
  const says = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.checkVisibility() && says(one))
    .map((one) => {
      const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.tagName, one.textContent.slice(0, 40)];
    });
})()"""


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_readable(page: Page, url: str, tmp_path: Path, width: int, scheme: str) -> None:
    """Nothing is wider than the screen, all text has contrast (AA), and what is pressed is large enough to be hit."""
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(url, width)
    wait(page, "[...document.images].every((image) => image.complete) && document.images.length")
    page.screenshot(tmp_path / "start.png")
    for step in ("start", "work"):
        if step == "work":
            if width == 390:
                page.run("document.querySelector('#examples button').click()")
            else:
                _give(page, _file(_picture()))
            wait(page)
            page.screenshot(tmp_path / "work.png")
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), step
        ratios = page.run(CONTRAST)
        assert len(ratios) > 8 and min(ratios)[0] >= 4.5, min(ratios)
        small = page.run(
            "[...document.querySelectorAll('button, select, input, [tabindex]')].filter((one) => one.checkVisibility())"
            ".map((one) => [one.getBoundingClientRect().height, one.outerHTML]).filter(([height]) => height < 24)"
            ".filter(([, html]) => !html.includes('radio'))"  # whose labels are pressed
        )
        assert not small, step
