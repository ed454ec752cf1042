"""Headless Chromium, driven through a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13}
PATIENCE = 60.0  # seconds until something must have happened


class Browser:
    """One tab; a context manager."""

    def __enter__(self) -> Browser:
        assert CHROMIUM is not None
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self.to = os.pipe()
        self.back, ours = os.pipe()
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash"]  # sh knows fds to 9
        self.process = subprocess.Popen(
            [*shell, CHROMIUM, *OPTIONS, f"--user-data-dir={self.folder.name}", "about:blank"],
            pass_fds=(theirs, ours),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        self.count, self.rest, self.session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.to)  # it ends when nobody is there
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)
        self.folder.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait until it is answered."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.back, 1 << 20)
            assert part, "the browser has gone"
            self.rest += part
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def open(self, url: str, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Show a page, and wait until it is ready."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        said = "document.documentElement?.dataset"
        self.wait(f"location.href !== 'about:blank' && ({said}.ready || {said}.error)")

    def value(self, code: str) -> Any:
        """What an expression is in the page."""
        done = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, code: str) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not (found := self.value(code)):
            assert time.monotonic() < end, code
            time.sleep(0.05)
        return found

    def state(self) -> dict[str, str]:
        """What the page says of itself."""
        return self.value("({...document.documentElement.dataset})")

    def click(self, x: float, y: float) -> None:
        """Press the mouse at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            extra = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **extra)

    def touch(self, *fingers: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """Put fingers on the window, each at its first place, move them to the second, and lift."""
        for kind, place in (("touchStart", 0), ("touchMove", 1), ("touchEnd", None)):
            points = [] if place is None else [f[place] for f in fingers]
            told = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=told)

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            code = KEYS[name]
            self.send("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        done = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(done["data"]))

    def complaints(self) -> list[str]:
        """Errors of scripts, and what the policy of the page has forbidden."""
        self.value("0")
        bad = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                bad.append(str(event["params"]["exceptionDetails"]))
            if (
                event.get("method") == "Log.entryAdded"
                and event["params"]["entry"]["level"] == "error"
            ):
                bad.append(event["params"]["entry"]["text"])
        return bad

    def asked(self) -> list[str]:
        """The addresses that the page has asked for."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]
