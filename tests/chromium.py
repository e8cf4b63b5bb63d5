"""A real browser, driven over its own protocol (Chrome DevTools) through a pipe: no driver, no port, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "chrome-headless-shell", "google-chrome", "chrome"))
    ),
    None,
)
WHY_NOT = "no Chromium or Chrome on PATH (make browser installs one)"
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
)


class Chromium:
    """One tab. What it logs, and what it asks a network or a disk for, is kept in `said` and `asked`."""

    def __init__(self, profile: Path, timeout_s: float = 60.0) -> None:
        assert CHROMIUM is not None
        self.timeout_s = timeout_s
        self.said: list[str] = []
        self.asked: list[str] = []
        self._buffer, self._id = b"", 0
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def as_its_pipes() -> None:
            """Chromium reads its third file and writes its fourth."""
            high = [os.dup(fd) for fd in (to_read, to_write)]
            for fd, place in zip(high, (3, 4), strict=True):
                os.dup2(fd, place)

        self._process = subprocess.Popen(
            [CHROMIUM, *_FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_its_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to one command; events that come before it are kept."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(method)
            if answer.get("id") == self._id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def open(self, page: Path, width: int = 1440, dark: bool = False, script: bool = True) -> float:
        """Open a page of the disk at this width; the seconds until it has loaded and been drawn."""
        self.said.clear()
        self.asked.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.light(dark)
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        start = time.perf_counter()
        self._loaded = False
        self.send("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._note(self._next("load"))
        self.send("Page.captureScreenshot", format="jpeg", quality=10)
        return time.perf_counter() - start

    def light(self, dark: bool = False, media: str = "screen") -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media=media, features=scheme)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def picture(self, file: Path, whole: bool = True) -> None:
        """A screenshot, to look at."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def _next(self, waiting_for: str) -> dict[str, Any]:
        until = time.monotonic() + self.timeout_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser did not answer within {self.timeout_s:g} s ({waiting_for})"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Mapping[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.said.append(f"{found['type']}: {[of.get('value') for of in found['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(found["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.said.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(found["request"]["url"])
