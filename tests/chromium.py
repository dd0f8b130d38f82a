"""A headless Chromium for tests: driven by its DevTools protocol over a pipe, beside a server of files.

Chromium reads messages from file descriptor 3 and answers on 4, each a JSON object that ends in a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 300
"""Seconds after which what does not answer is given up."""
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip

_KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "PageUp": 33,
    "PageDown": 34, "Escape": 27, "Tab": 9, "Enter": 13,
}  # fmt: skip
"""Codes of keys that do something by themselves."""

_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """A page of a browser."""

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write = read, write
        self._count, self._session = 0, ""
        self.said: list[str] = []
        """What the page has written to its console, or thrown."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                found: dict[str, Any] = answer["result"]
                return found

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        """Go to a page, and wait until it is loaded."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        assert "errorText" not in self.call("Page.navigate", url=url)
        self.run("new Promise((r) => document.readyState === 'complete' ? r() : addEventListener('load', () => r()))")

    def run(self, script: str) -> Any:
        """The value of an expression, or what it promises."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, (found["exceptionDetails"], self.said)
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, as a keyboard does: what has the focus gets it."""
        code = _KEYS.get(key, 0)
        text = {"text": key} if len(key) == 1 else {}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, move it over the others, and let go at the last; one place is a click."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an `<input type="file">`."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])

    def save_into(self, folder: Path) -> None:
        """Keep what is downloaded in a folder."""
        self._of_browser("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def cpu_seconds(self) -> float:
        """Time that the processes of pages have taken so far, all threads together."""
        processes = self._of_browser("SystemInfo.getProcessInfo")["processInfo"]
        return float(sum(process["cpuTime"] for process in processes if process["type"] == "renderer"))

    def _of_browser(self, method: str, **parameters: Any) -> dict[str, Any]:
        session, self._session = self._session, ""
        try:
            return self.call(method, **parameters)
        finally:
            self._session = session

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        message: dict[str, Any] = json.loads(data)
        if message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(message["params"])[:2000])
        return message


@contextmanager
def browsing(profile: Path, patience: float = PATIENCE) -> Iterator[Page]:
    """A page of a browser that keeps its files in a folder of its own, and ends with the block; or after so many
    seconds."""
    assert BROWSER
    to_browser, from_browser = os.pipe(), os.pipe()
    ends = (to_browser[0], from_browser[1])
    command = [sys.executable, "-c", _START, *map(str, ends), BROWSER, *_ARGUMENTS, f"--user-data-dir={profile}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        subprocess.Popen(command, pass_fds=ends, **quiet) as process,
        open(from_browser[0], "rb") as read,
        open(to_browser[1], "wb") as write,
    ):
        os.close(to_browser[0])
        os.close(from_browser[1])
        watch = threading.Timer(patience, process.kill)  # what waits for its answer then sees the end
        watch.start()
        try:
            page = Page(read, write)
            yield page
            page._session = ""
            page.call("Browser.close")
        finally:
            watch.cancel()
            process.kill()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript", ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }  # fmt: skip
    headers_sent: ClassVar[Mapping[str, str]] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def serving(folder: Path, **headers: str) -> Iterator[str]:
    """The URL of a server of a folder's files, on the loopback address; headers with _ for -."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = type("Handler", (_Handler,), {"headers_sent": sent})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
