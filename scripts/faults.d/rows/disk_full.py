"""The disk of the data directory is full."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from faultsuite.client import now_ms
from faultsuite.disks import Ballast, can_mount, ext4_disk, memory_disk
from faultsuite.promises import TAKES_SETTINGS, Promises, broken, takes_settings
from faultsuite.stage import bystander
from faultsuite.trial import Trial, row
from faultsuite.vitals import MIB, Vitals
from faultsuite.witness import Witness
from harness import ADMIN_PASSWORD, Answer, Host, apikeys, misbehave, until

Disk = Callable[[Path, int], AbstractContextManager[Path]]
CONFIG = f"/admin/plugins/{TAKES_SETTINGS}/config"
KEY = {"user": "admin", "scopes": ["plugin:read"]}


@row(
    "disk-full",
    fault="disk full",
    bar="proxying goes on; stop, disable and revoke still work (preallocated reserve); other writes answer "
    "507 whole; heals by itself when space returns",
)
async def disk_full(trial: Trial) -> None:
    """The data directory lies on a disk of 64 MiB, once a tmpfs and once an ext4, that a file fills to the
    last byte, again and again, also while the reserve is given up. A witness asks a plugin all the time.
    Every kind of change is tried; what is refused must be 507 and must have left nothing: no key in the
    list, no revision, no settings in the plugin. Then the file goes, and nobody does anything else."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    if not can_mount():
        trial.skip("no right to mount a disk")
    disks: list[tuple[str, Disk]] = [("tmpfs", memory_disk), ("ext4", ext4_disk)]
    for name, disk in disks:
        with disk(trial.directory / name / "data", 64) as data:
            one_disk(trial, name, data)


def one_disk(trial: Trial, name: str, data: Path) -> None:
    """Fills one disk, and empties it."""
    plugins = [apikeys(), takes_settings(), misbehave(), bystander(), bystander("dies")]
    host = Host(data.parent, *plugins)
    host.environment["ADMIN_PASSWORD"] = ADMIN_PASSWORD
    host.start()
    ballast = Ballast(data)
    witness = Witness(host.ports["api"], host.key, "witness", data.parent)
    try:
        keys = [created(host) for _ in range(trial.count(10, 40))]
        users = [f"user-{number}" for number in range(5)]
        for user in users:
            made = host.http(
                "POST", "/admin/users", {"name": user, "role": "user", "password": "long enough"}
            )
            assert made.status == 201, made.body
        assert post(host, CONFIG, {"settings": {"word": "before"}}).status == 200
        promises = Promises()
        with promises.writing(host):
            promises.await_more(20)
        memory = Vitals.of(host.process.pid if host.process else 0).memory
        filled = now_ms()
        ballast.fill()
        until(lambda: post(host, "/admin/keys", KEY).status == 507, "the disk is noticed to be full")

        refused(trial, name, host, ballast)
        taken_away(trial, name, host, ballast, keys, users)
        seen = host.http("GET", "/health/ready", key="")
        shown = host.command_line("status").stdout
        system = host.http("GET", "/admin/system").json()["storage"]["condition"]
        told = (seen.status, seen.json().get("reasons"), system, "the disk is full" in shown)
        wanted = (200, ["storage-full"], "full", True)
        trial.figure(f"{name}: what the operator sees", str(told), str(wanted), told == wanted)
        # It cannot be started again before there is room for its launch in the ledger.
        os.kill(host.instance("dies")["pid"], signal.SIGKILL)
        for _ in range(trial.count(200, 3_000)):
            host.invoke("ping.ping", {}, plugin="witness")
        grown = (Vitals.of(host.process.pid if host.process else 0).memory - memory) / MIB
        trial.at_most(f"{name}: memory of the host", grown, 32, "MiB")

        ballast.remove()
        emptied = now_ms()
        until(lambda: sound(host), "the host is sound again")
        trial.within(f"{name}: from the room to the first sound look", now_ms() - emptied, 3_000)
        again = created(host)
        host.until_running("dies", within=60)
        whole = all(
            (data / path).stat().st_size == 8 * MIB
            for path in ("bkg.db.reserve", "plugins/apikeys/data/apikeys.db.reserve")
        )
        trial.figure(f"{name}: the reserves afterwards", "whole" if whole else "not whole", "whole", whole)
        window = witness.between(filled, emptied)
        trial.none(f"{name}: requests of the witness that failed", window.failed)
        lost = host.http("GET", "/admin/requests?limit=1").json()["lost"]
        trial.equal(f"{name}: rows of usage lost", lost, 0)
        witness.stop()
        host.stop()
        host.start()
        trial.none(f"{name}: promises broken", broken(host, promises.made))
        opens = host.http("GET", "/admin/ports", key=again["key"]).status
        trial.equal(f"{name}: a key of afterwards opens, in the next life", opens, 200)
        host.stop()
    finally:
        witness.stop()
        if host.process is not None and host.process.poll() is None:
            host.kill()
        host.kill_what_is_left()


def refused(trial: Trial, name: str, host: Host, ballast: Ballast) -> None:
    """Tries what must be refused whole."""
    keys = len(host.http("GET", "/admin/keys?user=admin").json()["keys"])
    revision = host.http("GET", CONFIG).json()["revision"]
    word = applied(host)
    login = {"username": "admin", "password": ADMIN_PASSWORD}
    tries = [
        ("key.create", "POST", "/admin/keys", KEY),
        (
            "user.create",
            "POST",
            "/admin/users",
            {"name": "late", "role": "user", "password": "long enough"},
        ),
        ("role.set", "PUT", "/admin/roles/late", {"scopes": ["llm.chat"]}),
        ("config", "POST", CONFIG, {"settings": {"word": "late"}}),
        ("plugin.start", "POST", "/admin/plugins/misbehave/start", None),
        ("login", "POST", "/auth/login", login),
    ]
    wrong = []
    for _ in range(trial.count(3, 20)):
        for what, method, path, body in tries:
            ballast.fill()
            answer = host.http(method, path, body)
            code = answer.error()["code"] if answer.status >= 400 else ""
            if (answer.status, code) != (507, "insufficient_storage"):
                wrong.append(f"{what}: {answer.status} {answer.body[:200]!r}")
    trial.none(f"{name}: changes that were not 507", wrong)
    left = []
    if (now := len(host.http("GET", "/admin/keys?user=admin").json()["keys"])) != keys:
        left.append(f"{now - keys} keys")
    if (now := host.http("GET", CONFIG).json()["revision"]) != revision:
        left.append(f"revision {now}")
    if (shown := applied(host)) != word:
        left.append(f"the plugin runs with {shown}")
    trial.none(f"{name}: what refused changes have left", left)


def taken_away(
    trial: Trial, name: str, host: Host, ballast: Ballast, keys: list[dict[str, Any]], users: list[str]
) -> None:
    """Stops, disables and revokes."""
    wrong = []
    for key in keys:
        ballast.fill()
        answer = host.http("DELETE", f"/admin/keys/{key['id']}")
        opens = host.http("GET", "/admin/ports", key=key["key"]).status
        if answer.status != 200 or opens != 401:
            wrong.append(f"key: {answer.status}, it opens {opens}: {answer.body[:200]!r}")
    for user in users:
        ballast.fill()
        answer = host.http("PATCH", f"/admin/users/{user}", {"disabled": True})
        if answer.status != 200 or not answer.json()["disabled"]:
            wrong.append(f"user: {answer.status} {answer.body[:200]!r}")
    ballast.fill()
    answer = host.lifecycle(TAKES_SETTINGS, "stop")
    if answer.status != 200 or host.plugin(TAKES_SETTINGS)["status"] != "stopped":
        wrong.append(f"stop: {answer.status} {answer.body[:200]!r}")
    trial.none(f"{name}: of {len(keys)} keys, {len(users)} users and a plugin, not taken away", wrong)


def created(host: Host) -> dict[str, Any]:
    """A key that works."""
    made = post(host, "/admin/keys", KEY)
    assert made.status == 201, made.body
    return dict(made.json())


def post(host: Host, path: str, body: Any) -> Answer:
    """One change."""
    return host.http("POST", path, body)


def applied(host: Host) -> Any:
    """The settings that the plugin has."""
    answer = host.invoke("test.settings", {}, plugin=TAKES_SETTINGS)
    assert answer.status == 200, answer.body
    return answer.json()["data"]["current"]


def sound(host: Host) -> bool:
    """Whether the host and the provider of keys take changes again."""
    ready = host.http("GET", "/health/ready", key="").json()
    return "storage-full" not in ready.get("reasons", []) and host.plugin("apikeys")["status"] == "running"
