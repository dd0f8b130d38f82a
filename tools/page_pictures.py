"""The small pictures of the page's examples (`serve/page/*.webp`), and the README's picture of the page.

    python tools/page_pictures.py [--examples-only]

The second needs Chromium and the extra `serve`. Run it when the page or the examples have changed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from PIL import Image  # noqa: E402

from dcae.serve.examples import EXAMPLES, example_png  # noqa: E402

PAGE = ROOT / "serve" / "page"
PICTURE = ROOT / "docs" / "serve" / "page.webp"
SMALL = 384
"""Width of the small pictures: what they are shown at, and more for screens with small pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples-only", action="store_true")
    options = parser.parse_args()
    for name in EXAMPLES:
        small = Image.open(BytesIO(example_png(name, SMALL)))
        small.save(PAGE / f"{name}.webp", quality=75, method=6)
    if not options.examples_only:
        picture_of_the_page()


def picture_of_the_page() -> None:
    """An example between DCAE and AVIF, enlarged."""
    from chromium import browsing
    from page_of_serve import select, serve, wait

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        serve() as url,
        browsing(Path(folder), patience=900) as page,
    ):
        page.open(url, 1280, 860)
        wait(page, "document.querySelectorAll('#examples button').length")
        page.run("document.querySelector('#examples button').click()")
        wait(page)
        select(page, "#left", "dcae")
        select(page, "#right", "rival")
        for _ in range(2):
            page.run("document.querySelector('#larger').click()")
        page.run("document.activeElement.blur(), new Promise((done) => setTimeout(done, 500))")
        shot = Path(folder) / "page.png"
        page.screenshot(shot)
        PICTURE.parent.mkdir(exist_ok=True)
        with Image.open(shot) as picture:
            picture.convert("RGB").save(PICTURE, quality=85, method=6)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
