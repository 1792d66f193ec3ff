"""What a host has acknowledged, and whether it is still there afterwards.

Operators' writes of every kind, made from several threads until they are told to stop: keys that are made
and revoked, revisions of an entry, and rows of what requests used. An answer that did not come promises
nothing. Rows of the suite that end a host in the middle use this; it knows nothing of how the host ends.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness import FIXTURES, Answer, Host, PluginFolder, until

TAKES_SETTINGS = "reader"
SCOPES = ["llm.chat", "plugin:read"]


def takes_settings() -> PluginFolder:
    """A plugin that takes settings while it runs."""
    return PluginFolder(
        TAKES_SETTINGS, FIXTURES / "misbehave", {"hot": True, "word": "w0"}, {"autostart": True}
    )


@dataclass(frozen=True)
class Promise:
    """One acknowledged write; `mark` says where in the life of the disk it was acknowledged."""

    kind: str
    name: str
    value: str
    mark: int


@dataclass
class Promises:
    """Everything acknowledged so far."""

    mark: Callable[[], int] = lambda: 0
    made: list[Promise] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _words: int = 0
    _rows: set[int] = field(default_factory=set)

    def note(self, kind: str, name: str, value: str = "") -> None:
        """Writes an acknowledgement down, after it came."""
        mark = self.mark()
        with self._lock:
            self.made.append(Promise(kind, name, value, mark))

    def until(self, mark: int) -> list[Promise]:
        """What had been acknowledged by then."""
        return [promise for promise in self.made if promise.mark <= mark]

    def await_more(self, count: int, *, within: float = 60.0) -> None:
        """Waits until so many more are made."""
        wanted = len(self.made) + count
        until(lambda: len(self.made) >= wanted, f"{count} more writes are acknowledged", within=within)

    def await_answers(self, status: int, count: int) -> None:
        """Waits until so many answers had this status."""
        until(lambda: self.answers.get(status, 0) >= count, f"{count} answers are {status}")

    @contextlib.contextmanager
    def writing(self, host: Host, *, threads: int = 3) -> Iterator[None]:
        """Writes while the block runs."""
        stop = threading.Event()
        jobs = [self._keys] * threads + [self._revisions, self._requests]
        workers = [threading.Thread(target=self._work, args=(host, job, stop)) for job in jobs]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    def _work(self, host: Host, job: Callable[[Host], None], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                job(host)
            except (OSError, ValueError):
                # The host is gone, or went while it answered: nothing was promised.
                stop.wait(0.005)
            except Exception as problem:
                if type(problem).__module__ != "http.client":
                    raise
                stop.wait(0.005)

    def _ask(self, host: Host, method: str, path: str, body: Any = None) -> Answer:
        answer = host.http(method, path, body)
        with self._lock:
            self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
        return answer

    def _keys(self, host: Host) -> None:
        made = self._ask(host, "POST", "/admin/keys", {"user": "admin", "scopes": SCOPES})
        if made.status != 201:
            return
        key = made.json()
        self.note("key", key["id"], key["key"])
        with self._lock:
            is_third = len(self.made) % 3 == 0
        if is_third and self._ask(host, "DELETE", f"/admin/keys/{key['id']}").status == 200:
            self.note("revoked", key["id"], key["key"])

    def _revisions(self, host: Host) -> None:
        self._words += 1
        word = f"w{self._words}"
        path = f"/admin/plugins/{TAKES_SETTINGS}/config"
        saved = self._ask(host, "POST", path, {"settings": {"word": word}})
        if saved.status == 200 and saved.json()["applied"] != "unchanged":
            self.note("revision", str(saved.json()["revision"]), word)

    def _requests(self, host: Host) -> None:
        # Whoever has read a row has been told that it is kept.
        host.invoke("test.echo", {}, plugin=TAKES_SETTINGS)
        listed = self._ask(host, "GET", "/admin/requests?limit=20")
        if listed.status == 200:
            for row in listed.json()["requests"]:
                if row["id"] not in self._rows:
                    self._rows.add(row["id"])
                    self.note("request", str(row["id"]), row["requestId"])


def serves(host: Host) -> bool:
    """Whether a host that was started is ready, with every plugin that starts with it."""
    try:
        return host.ready() and host.http("GET", "/health/ready", key="").status == 200
    except (OSError, ValueError):
        # A file of the life before may say anything, until this life removes it.
        return False


def broken(host: Host, promises: list[Promise], *, openings: int = 25) -> list[str]:
    """Which promises the host does not keep. `openings`: how many keys are tried at the door."""
    by_kind: dict[str, dict[str, str]] = {"key": {}, "revoked": {}, "revision": {}, "request": {}}
    for promise in promises:
        by_kind[promise.kind][promise.name] = promise.value
    found = list(_broken_keys(host, by_kind["key"], by_kind["revoked"], openings))
    found += _broken_revisions(host, by_kind["revision"])
    found += _broken_requests(host, by_kind["request"])
    verified = host.command_line("audit", "verify")
    if verified.returncode != 0:
        found.append(f"`bkg audit verify` says {verified.stdout}{verified.stderr}")
    return found


def _broken_keys(host: Host, keys: dict[str, str], revoked: dict[str, str], openings: int) -> Iterator[str]:
    listed = host.http("GET", "/admin/keys?user=admin")
    assert listed.status == 200, listed.body
    there = {key["id"]: key for key in listed.json()["keys"]}
    for name in keys:
        if name not in there:
            # A user's oldest dead keys make room for new ones; that they open nothing is seen below.
            if name not in revoked:
                yield f"the key {name} is lost"
        elif name in revoked and there[name]["status"] != "revoked":
            yield f"the key {name} is {there[name]['status']} and was revoked"
    for name, secret in list(revoked.items())[-openings:]:
        if (status := host.http("GET", "/admin/ports", key=secret).status) != 401:
            yield f"the revoked key {name} gets {status}"
    for name, secret in [item for item in keys.items() if item[0] not in revoked][-openings:]:
        # Revoked by a request that was carried out, and whose answer the end of the host took away.
        if there.get(name, {}).get("status") == "revoked":
            continue
        if (status := host.http("GET", "/admin/ports", key=secret).status) != 200:
            yield f"the key {name} gets {status}"
    entries = host.http("GET", "/admin/audit?limit=1000&action=key.").json()["entries"]
    done = {(row["detail"] or {}).get("id") for row in entries if row["kind"] == "done"}
    # What was settled later says that it was done, and not as what.
    ended = {row["intent"] for row in entries if row["kind"] == "done" and row["detail"]}
    settled = sum(1 for row in entries if row["kind"] == "intended" and row["intent"] not in ended)
    # The page holds the newest thousand rows; a key has up to four.
    unknown = [name for name in list(keys)[-100:] if name not in done]
    if len(unknown) > settled:
        yield f"the audit log does not know of the keys {unknown}"


def _broken_revisions(host: Host, revisions: dict[str, str]) -> Iterator[str]:
    path = f"/admin/plugins/{TAKES_SETTINGS}/config"
    newest = host.http("GET", path).json()["revision"]
    for number, word in list(revisions.items())[-30:]:
        if int(number) > newest:
            yield f"revision {number} is lost: the newest is {newest}"
            continue
        kept = host.http("GET", f"{path}/revisions/{number}")
        if kept.status != 200 or kept.json()["saved"].get("settings", {}).get("word") != word:
            yield f"revision {number} is not `{word}`: {kept.body[:200]!r}"


def _broken_requests(host: Host, requests: dict[str, str]) -> Iterator[str]:
    rows = host.http("GET", "/admin/requests?limit=1000").json()["requests"]
    there = {str(row["id"]): row["requestId"] for row in rows}
    oldest = min((int(name) for name in there), default=0)
    for name, request in requests.items():
        if (int(name) >= oldest or len(there) < 1000) and there.get(name) != request:
            yield f"the row {name} of request {request} is lost"
