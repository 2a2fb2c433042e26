"""Firefox as it is installed, driven over WebDriver BiDi (W3C): pages to open, ask and close, in contexts of their own.

Playwright drives a Firefox of its own making only. What is here bears Playwright's names, so that a test need not know which of the
two it has; there is no more of it than the tests of streams use.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.support.tied import tied

START_SECONDS = 60
END_SECONDS = 20
ANSWER_SECONDS = 60
POLL_SECONDS = 0.05
READY = "WebDriver BiDi listening on "
#: Nothing goes out to the net by itself, and nothing asks or tells.
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "services.settings.server": "data:,nowhere",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
#: Runs an expression, or a function with an argument, and gives the outcome as JSON.
CALL = """async (given) => {
  const what = (%s);
  const found = await (typeof what === "function" ? what(JSON.parse(given)) : what);
  return JSON.stringify(found ?? null);
}"""


class FirefoxError(Exception):
    """The browser could not do what it was asked for, or the page's own code failed."""


class Firefox:
    """One process with a profile of its own."""

    def __init__(self, executable: str, profile: Path) -> None:
        profile.mkdir(parents=True)
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()
        ]
        (profile / "user.js").write_text("".join(lines))
        self._said: deque[str] = deque(maxlen=40)
        self._address = ""
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [
                *tied(),
                executable,
                "--headless",
                "--no-remote",
                "--remote-debugging-port",
                "0",
                "--profile",
                str(profile),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._ready.wait(START_SECONDS)
        if not self._address:
            self._process.kill()
            raise FirefoxError("Firefox did not begin to listen:\n" + "".join(self._said))
        self._opened = ExitStack()
        self._connection: ClientConnection = self._opened.enter_context(
            connect(f"{self._address}/session", max_size=None, compression=None)
        )
        self._asked = 0
        #: What pages wrote to the console as errors, by page.
        self.complaints: dict[str, list[str]] = {}
        self.send("session.new", capabilities={})
        self.send("session.subscribe", events=["log.entryAdded"])

    def _read(self) -> None:
        # To the end: a pipe that nobody empties would stop the browser.
        for line in self._process.stderr or ():
            self._said.append(line)
            if line.startswith(READY):
                self._address = line.removeprefix(READY).strip()
                self._ready.set()
        self._ready.set()

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to a command. Events that come before it are kept."""
        self._asked += 1
        self._connection.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            message = json.loads(self._connection.recv(max(deadline - time.monotonic(), 0)))
            if message.get("id") == self._asked:
                break
            self._note(message)
        if message["type"] == "error":
            raise FirefoxError(f"{method}: {message['message']}")
        return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        entry = message.get("params", {})
        if message.get("method") == "log.entryAdded" and entry["level"] == "error":
            self.complaints.setdefault(entry["source"].get("context", ""), []).append(str(entry["text"]))

    def new_context(self) -> FirefoxContext:
        return FirefoxContext(self, self.send("browser.createUserContext")["userContext"])

    def close(self) -> None:
        self.send("browser.close")
        self._opened.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FirefoxContext:
    """Cookies and storage of its own."""

    def __init__(self, firefox: Firefox, name: str) -> None:
        self._firefox = firefox
        self._name = name

    def new_page(self) -> FirefoxPage:
        made = self._firefox.send("browsingContext.create", type="tab", userContext=self._name)
        return FirefoxPage(self._firefox, made["context"])

    def close(self) -> None:
        """With all its pages."""
        self._firefox.send("browser.removeUserContext", userContext=self._name)


class FirefoxPage:
    def __init__(self, firefox: Firefox, name: str) -> None:
        self._firefox = firefox
        self._name = name

    def goto(self, url: str) -> None:
        self._firefox.send("browsingContext.navigate", context=self._name, url=url, wait="complete")

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """What an expression, or a function with this argument, gives; a promise is waited for."""
        answer = self._firefox.send(
            "script.callFunction",
            functionDeclaration=CALL % expression,
            arguments=[{"type": "string", "value": json.dumps(arg)}],
            target={"context": self._name},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise FirefoxError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def wait_for_function(self, expression: str, *, timeout: float = 30_000) -> None:
        """Until it is true; `timeout` in milliseconds."""
        deadline = time.monotonic() + timeout / 1000
        while not self.evaluate(f"async () => Boolean(await ({expression})())"):
            if time.monotonic() > deadline:
                raise FirefoxError(f"not within {timeout} ms: {expression}")
            time.sleep(POLL_SECONDS)

    @property
    def complaints(self) -> list[str]:
        """What it wrote to the console as errors."""
        return self._firefox.complaints.get(self._name, [])

    def close(self) -> None:
        self._firefox.send("browsingContext.close", context=self._name)
