"""A `dcae serve` of one's own and its page in a browser, for tests and `tools/page_pictures.py`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from chromium import Page
from web_cases import DIST, LACKING

DONE = "document.querySelector('#working').hidden && !document.querySelector('#numbers').hidden"
"""Condition of JavaScript: numbers are there."""
REFUSED = "document.querySelector('#working').hidden && !document.querySelector('#refusal').hidden"
"""Something was refused, and that is said."""
_LOOK = """new Promise((resolve, reject) => {
  const begin = Date.now();
  const look = () => {
    if (CONDITION) resolve(true);
    else if (Date.now() - begin > 240000) reject(new Error(document.body.innerText));
    else setTimeout(look, 20);
  };
  look();
})"""


@contextmanager
def serve(*options: str) -> Iterator[str]:
    """The URL of a server with one worker, which ends with the block."""
    command = [sys.executable, "-m", "dcae", "serve", "--port", "0", "--workers", "1", *options]
    command += [] if LACKING else ["--runtime", str(DIST)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd="/", env=environment) as process:
        assert process.stderr
        try:
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line + process.stderr.read()
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()  # to its end; a full pipe would hold it


def wait(page: Page, condition: str = DONE) -> None:
    """Wait until an expression is true on a page."""
    page.run(_LOOK.replace("CONDITION", condition))


def select(page: Page, control: str, value: str) -> None:
    """Choose an option of a `<select>`, by their ids, as a person's choice is told to the page."""
    page.run(
        f"(() => {{ const one = document.querySelector({json.dumps(control)}); one.value = {json.dumps(value)};"
        "for (const name of ['input', 'change']) one.dispatchEvent(new Event(name, { bubbles: true })); })()"
    )
