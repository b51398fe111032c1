"""A headless Chromium, told what to do through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

PATIENCE = 120.0
"""Seconds to wait for what must come: only a failing test waits so long."""

LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def find_chromium() -> str | None:
    """The browser's program, if one is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name)) is not None), None)


class Chromium:
    """One browser with one page.

    Args:
        program: What `find_chromium` found.
        size: Of the page, in pixels.
        scale: Pixels of the picture for each pixel of the page.
        phone: Whether to say that it is a telephone.

    Attributes:
        requests: Addresses of everything that the page asked for.
        complaints: What the page wrote to its console as an error, and what it threw.
    """

    def __init__(
        self, program: str, size: tuple[int, int] = (1280, 900), *, scale: float = 1.0, phone: bool = False
    ) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="vsdk-chromium-", ignore_cleanup_errors=True)
        options = [
            "--headless=new",
            "--no-sandbox",  # tests may run as root
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--no-first-run",
            "--no-proxy-server",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._folder.name}",
        ]
        self._process = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._number = 0
        self._connection = connect(self._page_address(), proxy=None, max_size=None, open_timeout=PATIENCE)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.tell(f"{domain}.enable")
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": phone}
        self.tell("Emulation.setDeviceMetricsOverride", **metrics)

    def open(self, url: str) -> int:
        """Go there; the status of the answer."""
        self._documents: dict[str, int] = {}
        self.tell("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        return next(reversed(self._documents.values()))

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; its result."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._take(message)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; what is awaited is waited for."""
        result = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until an expression in the page is true."""
        deadline = time.monotonic() + seconds
        while not self._holds(condition):
            assert time.monotonic() < deadline, f"{condition} did not come true; complaints: {self.complaints}"
            time.sleep(0.1)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file for an input, as a user does."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}  # without it, no button is pressed
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_CODES[key], **text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        result = self.tell("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._folder.cleanup()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _holds(self, condition: str) -> bool:
        result = self.tell("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
        return "exceptionDetails" not in result and result["result"].get("value") is True

    def _page_address(self) -> str:
        """Of the page's DevTools, once the browser has started."""
        said = Path(self._folder.name) / "DevToolsActivePort"
        _wait_until(lambda: said.exists() and len(said.read_text().splitlines()) >= 2)
        port = said.read_text().splitlines()[0]
        found: list[str] = []

        def look() -> bool:
            with LOCAL.open(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
                found.extend(each["webSocketDebuggerUrl"] for each in json.load(answer) if each["type"] == "page")
            return bool(found)

        _wait_until(look)
        return found[0]

    def _take(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        method = message.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.responseReceived" and params["type"] == "Document":
            self._documents[params["requestId"]] = params["response"]["status"]
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])


_CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Enter": 13, "Escape": 27, "Tab": 9}


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
