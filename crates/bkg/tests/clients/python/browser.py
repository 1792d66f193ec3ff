"""A real Chromium for tests: opens pages, runs scripts in them, and tells what went over the wire.

Speaks the browser's DevTools protocol over the `websockets` package, which the tests have anyway; the
usual libraries bring a second browser or a Node runtime along. Knows nothing of Backplane. What a page
cannot see of its own requests (the cookie that was sent, the status of an answer that it may not read)
is read from the browser itself.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from harness import until
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium is installed; on Debian: sudo apt-get install chromium"
WITHIN_S = 30.0

T = TypeVar("T")


def find_browser() -> str | None:
    """The path of the browser, if this machine has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Exchange:
    """One request as it went over the wire, and the status of its answer, if one came."""

    url: str = ""
    method: str = ""
    sent: dict[str, str] = field(default_factory=dict)
    status: int | None = None

    @property
    def cookies(self) -> set[str]:
        """The names of the cookies that the browser sent along."""
        return {pair.split("=")[0].strip() for pair in self.sent.get("cookie", "").split(";")} - {""}

    @property
    def site(self) -> str | None:
        """What the browser said of the page: `same-origin`, `same-site`, `cross-site`, or nothing."""
        return self.sent.get("sec-fetch-site")


class Browser:
    """One Chromium. `names` lead to this machine, all other names nowhere."""

    def __init__(self, program: str, directory: Path, names: list[str]) -> None:
        rules = ", ".join([*(f"MAP {name} 127.0.0.1" for name in names), "MAP * ~NOTFOUND"])
        rules += ", EXCLUDE 127.0.0.1, EXCLUDE localhost"
        command = [
            program,
            *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
            *("--remote-debugging-port=0", f"--user-data-dir={directory}"),
            *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
            f"--host-resolver-rules={rules}",
            # Newer versions ask a person before a page may reach this machine. It is the daemon that is
            # to refuse, whatever the browser is.
            "--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights",
        ]
        if os.geteuid() == 0:
            # Chromium's sandbox refuses to work for root.
            command.append("--no-sandbox")
        directory.mkdir(parents=True)
        self._log = directory.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HOME": str(directory)},
            )
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._connection = contextlib.ExitStack()
        try:
            self._socket = self._connect(directory / "DevToolsActivePort")
        except BaseException:
            self._kill()
            raise

    def _connect(self, file: Path) -> ClientConnection:
        def address() -> str | None:
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            lines = file.read_text().splitlines() if file.exists() else []
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else None

        found = until(address, "the browser listens", within=WITHIN_S)
        return self._connection.enter_context(connect(found, max_size=None, proxy=None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception), self._connection:
            self.ask("Browser.close")
            self._process.wait(timeout=10)
        self._kill()

    def _kill(self) -> None:
        # The process group: a browser is many processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def profile(self) -> "Profile":
        """A person who has been nowhere yet."""
        return Profile(self, self.ask("Target.createBrowserContext")["browserContextId"])

    def page(self, profile: str) -> "Page":
        """A new empty page in a profile."""
        wanted = {"url": "about:blank", "browserContextId": profile}
        target = self.ask("Target.createTarget", wanted)["targetId"]
        attached = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Network", "Runtime"):
            page.ask(f"{domain}.enable")
        return page

    def ask(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """One question of the DevTools protocol, and its answer; raises on an error or after a deadline."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        deadline = time.monotonic() + WITHIN_S
        while number not in self._answers:
            self.read_one(deadline)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def read_one(self, deadline: float) -> None:
        """Takes note of the next thing that the browser says; raises if there is none by `deadline`."""
        message = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
        if "id" in message:
            self._answers[message["id"]] = message
        elif page := self._pages.get(message.get("sessionId", "")):
            page.note(message["method"], message["params"])


class Profile:
    """What one person sees of the browser: pages, and the cookies that they share."""

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser = browser
        self._context = context

    def page(self, url: str) -> "Page":
        """A new page, at this address."""
        return self._browser.page(self._context).go(url)

    def cookies(self) -> dict[str, dict[str, Any]]:
        """All cookies, those too that no script sees, by name."""
        found = self._browser.ask("Storage.getCookies", {"browserContextId": self._context})
        return {cookie["name"]: cookie for cookie in found["cookies"]}


class Page:
    """One page of a browser, and what it sent."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._exchanges: dict[str, Exchange] = {}
        self._is_loaded = False
        self._socket_errors: list[str] = []

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """One question of the DevTools protocol about this page."""
        return self._browser.ask(method, params, self._session)

    def go(self, url: str) -> Self:
        """Opens an address, and returns when the page is there with all that it loads."""
        self._is_loaded = False
        answer = self.ask("Page.navigate", {"url": url})
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        self._until(lambda: self._is_loaded or None, f"{url} is loaded")
        return self

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        wanted = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.ask("Runtime.evaluate", wanted)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def exchange(self, method: str, url: str) -> Exchange:
        """The latest request of the page to this address, once it is answered."""

        def answered() -> Exchange | None:
            for found in reversed(self._exchanges.values()):
                if (found.method, found.url) == (method, url) and found.sent and found.status is not None:
                    return found
            return None

        return self._until(answered, f"{method} {url} is answered; there were {self._exchanges}")

    def socket_error(self) -> str:
        """Why the latest WebSocket of the page did not open, which the page itself is not told."""
        return self._until(lambda: self._socket_errors.pop() if self._socket_errors else None, "it failed")

    def note(self, event: str, params: dict[str, Any]) -> None:
        """Takes note of something that the browser says of this page."""
        if event == "Page.loadEventFired":
            self._is_loaded = True
        if event == "Network.webSocketFrameError":
            self._socket_errors.append(params["errorMessage"])
        if event not in (
            "Network.requestWillBeSent",
            "Network.requestWillBeSentExtraInfo",
            "Network.responseReceivedExtraInfo",
        ):
            return
        # The three come in any order.
        exchange = self._exchanges.setdefault(params["requestId"], Exchange())
        match event:
            case "Network.requestWillBeSent":
                exchange.url, exchange.method = params["request"]["url"], params["request"]["method"]
            case "Network.requestWillBeSentExtraInfo":
                exchange.sent = {name.lower(): value for name, value in params["headers"].items()}
            case _:
                exchange.status = params["statusCode"]

    def _until(self, found: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + WITHIN_S
        while (result := found()) is None:
            try:
                self._browser.read_one(deadline)
            except TimeoutError:
                raise AssertionError(f"not within {WITHIN_S:.0f} s: {what}") from None
        return result
