"""A headless Chromium, driven over a pipe: no driver, no port, nothing but the browser; and two reports."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.plan_experiment import main as plan
from voxplan.scripts.profile_dataset import main as profile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_BROWSER = "no Chromium was found"
LAUNCH = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, wanted in zip(given, (3, 4)):
    os.dup2(number, wanted)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and answers on 4, each message ended by a zero byte."""
TIMEOUT = 60.0
"""Seconds for one answer; a loaded machine starts a browser slowly."""


OVERLAPS = """(() => {
  const found = [];
  for (const chart of document.querySelectorAll("svg.chart")) {
    const all = [...chart.querySelectorAll("text")]
      .map((node) => [node.textContent, node.getBoundingClientRect()]);
    const page = chart.getBoundingClientRect();
    all.forEach(([words, a], place) => {
      if (a.left < page.left - 2 || a.right > page.right + 2
          || a.top < page.top - 2 || a.bottom > page.bottom + 2)
        found.push(chart.firstChild.textContent + ": cut " + words);
      for (const [others, b] of all.slice(place + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
          found.push(chart.firstChild.textContent + ": " + words + " over " + others);
    });
  }
  return found;
})()"""
"""Labels of drawings that cover each other, or leave their drawing."""


def find_chromium() -> str | None:
    """``VOXPLAN_CHROMIUM``, else what the PATH has."""
    named = os.environ.get("VOXPLAN_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab. What the page logs, throws and asks the network for is kept."""

    def __init__(self, executable: str, profile: Path) -> None:
        out_read, out_write = os.pipe()
        in_read, in_write = os.pipe()
        self._write, self._read = out_write, in_read
        command = [
            executable,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            *("--no-sandbox" for _ in range(os.geteuid() == 0)),
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(out_read), str(in_write), *command],
            pass_fds=(out_read, in_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(out_read)
        os.close(in_write)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        """Make a tab and listen to it."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load a file and wait until it stands."""
        self.events.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.prefer(scheme)
        self._call("Page.navigate", url=path.absolute().as_uri())
        self._wait_for("Page.loadEventFired")
        self.run("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def run(self, script: str) -> Any:
        """The value of an expression in the page (a promise is waited for)."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def overlaps(self) -> list[str]:
        """Labels of drawings that cover each other or are cut; empty where all can be read."""
        found: list[str] = self.run(OVERLAPS)
        return found

    def press(self, key: str) -> None:
        """A real key, as the keyboard sends it."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key if len(key) > 1 else f"Key{key.upper()}",
                windowsVirtualKeyCode=codes.get(key, ord(key[0].upper())),
                text=text if kind == "keyDown" else "",
            )

    def type(self, words: str) -> None:
        """Words into whatever has the focus."""
        self._call("Input.insertText", text=words)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        shot = self._call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console got since the page was opened: errors, warnings, exceptions, violated policies."""
        self.run("0")  # the events of what ran before have arrived once this is answered
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description", details["text"]))[:500])
            if event["method"] == "Log.entryAdded":
                found.append(json.dumps(event["params"])[:500])
            if event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(event["params"]["args"])[:500])
        return found

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive(method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _wait_for(self, event: str) -> None:
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._receive(event))

    def _receive(self, what: str) -> dict[str, Any]:
        ends = time.monotonic() + TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            chunk = os.read(self._read, 1 << 16) if ready else b""
            if not chunk:
                raise AssertionError(f"the browser gave no answer to {what}")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for all tests of the process; its absence is reported loudly at the end of the run."""
    executable = find_chromium()
    if executable is None:
        why = f"{NO_BROWSER} (install it, or name one with VOXPLAN_CHROMIUM)"
        if os.environ.get("VOXPLAN_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="voxplan-browser-", ignore_cleanup_errors=True) as profile:
        driven = Browser(executable, Path(profile))
        try:
            yield driven
        finally:
            driven.close()


@pytest.fixture(scope="session")
def hostile() -> str:
    """The name of a case that is markup."""
    return "<img src=x onerror=alert(1)><script>alert(2)<!--"


@pytest.fixture(scope="session")
def broken() -> str:
    """The name of a case that cannot be read, and is markup too."""
    return "<svg onload=alert(3)>broken"


@pytest.fixture(scope="session")
def dataset_report(tmp_path_factory: pytest.TempPathFactory, hostile: str, broken: str) -> Path:
    """Six cases, one with a name that is markup, and one more that cannot be read."""
    folder = tmp_path_factory.mktemp("report")
    write_phantom(folder / "data")
    data = folder / "data" / "hdf5"
    shutil.copy(data / "cell_00.h5", data / f"{hostile}.h5")
    (data / f"{broken}.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    report = folder / "report.html"
    keys = ["--image-key", "raw", "--label-key", "labels"]
    words = [
        str(data),
        *keys,
        "-o",
        str(folder / "fingerprint.json"),
        "--report",
        str(report),
        "-j",
        "1",
        "-q",
    ]
    assert profile(words) == 0
    return report


@pytest.fixture(scope="session")
def plans_report(dataset_report: Path) -> Path:
    report = dataset_report.with_name("plans.html")
    fingerprint, output = report.with_name("fingerprint.json"), report.with_name("plans.json")
    words = ["--gpu-memory", "4", "--architecture", "unet", "-o", str(output), "--report", str(report), "-q"]
    assert plan([str(fingerprint), *words]) == 0
    return report


@pytest.fixture(params=["dataset_report", "plans_report"])
def report(request: pytest.FixtureRequest) -> Path:
    """Each of the two."""
    path: Path = request.getfixturevalue(request.param)
    return path
