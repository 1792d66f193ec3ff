"""A file of the data directory is damaged, cut, lost, or of a newer version."""

import asyncio
import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from faultsuite.client import now_ms
from faultsuite.promises import Promises, broken, takes_settings
from faultsuite.trial import Trial, row
from harness import Host, apikeys, processes_of, until

PROVIDER = "plugins/apikeys/data/"


def cut_to_nothing(file: Path) -> None:
    """Empties it."""
    file.write_bytes(b"")


def cut_in_half(file: Path) -> None:
    """Keeps the first half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def turn_a_bit(file: Path) -> None:
    """Changes one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def scribble(file: Path) -> None:
    """Writes something else over its beginning."""
    content = file.read_bytes()
    file.write_bytes(b"\xff" * min(4096, len(content)) + content[4096:])


def make_newer(file: Path) -> None:
    """Gives a database a version of the future, as its program would have left it."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    file.with_name(file.name + ".seal").unlink(missing_ok=True)


def lose(file: Path) -> None:
    """Removes it."""
    file.unlink()


DAMAGES: dict[str, list[Callable[[Path], None]]] = {
    "bkg.db": [cut_to_nothing, cut_in_half, turn_a_bit, scribble, make_newer, lose],
    "audit.key": [cut_to_nothing, cut_in_half, scribble, lose],
    "secrets.key": [cut_to_nothing, cut_in_half, scribble, lose],
    "root.key": [cut_to_nothing, cut_in_half, scribble],
    PROVIDER + "apikeys.db": [cut_to_nothing, cut_in_half, turn_a_bit, scribble, make_newer, lose],
    PROVIDER + "hmac.key": [cut_to_nothing, cut_in_half, scribble, lose],
}
WAYS_OUT = ("restore", "delete", "start the newer", "backup")


@row(
    "database-damaged",
    fault="database corrupt, truncated, missing, newer schema",
    bar="refuses to start with its own exit code and the way out; never recreates silently, never re-opens "
    "setup",
)
async def database_damaged(trial: Trial) -> None:
    """A data directory with keys, revisions and a sealed secret, after a clean stop; in a copy of it each
    file that is kept is emptied, cut, written over, changed by one bit, given a newer version, or removed.
    The host must leave with 6 and a way out, and leave every such file as it was. A damaged file of the
    provider stops the provider alone, in its own words: the host serves, no key opens anything, and no
    first administrator is made. Put back, everything is there."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    host = Host(trial.directory / "host", apikeys(), takes_settings())
    host.start()
    promises = Promises()
    with promises.writing(host):
        promises.await_more(40)
    secret = {"settings": {"secret": "nobody may know it"}}
    assert host.http("POST", "/admin/plugins/reader/config", secret).status == 200
    host.stop()
    # As after the first administrator has chosen a password: a set-up that opened again would make another.
    (host.data / "initial-password").unlink()
    whole = trial.directory / "whole"
    shutil.copytree(host.data, whole)
    wrong: list[str] = []
    tried = 0
    slowest = 0.0
    try:
        for name, damages in DAMAGES.items():
            for damage in damages:
                shutil.rmtree(host.data)
                shutil.copytree(whole, host.data)
                damage(host.data / name)
                before = digests(host.data)
                began = now_ms()
                if name.startswith(PROVIDER):
                    found = provider_refuses(host, promises)
                else:
                    found = host_refuses(host)
                    slowest = max(slowest, now_ms() - began)
                after = digests(host.data)
                # A host that serves writes what becomes of its plugins.
                own = {"bkg.db"} if name.startswith(PROVIDER) else set()
                changed = [kept for kept in before if kept not in own and before[kept] != after.get(kept)]
                made = [kept for kept in after if kept not in before and kept in DAMAGES]
                if changed or made:
                    found.append(f"changed {changed}, made {made}")
                wrong += [f"{name}, {damage.__name__}: {what}" for what in found]
                tried += 1
        shutil.rmtree(host.data)
        shutil.copytree(whole, host.data)
        host.start()
        lost = broken(host, promises.made)
        host.stop()
    finally:
        if host.process is not None and host.process.poll() is None:
            host.kill()
        host.kill_what_is_left()
    trial.equal("damages tried", tried, sum(len(damages) for damages in DAMAGES.values()))
    trial.none("starts that were not refused as they must be", wrong)
    trial.within("until the host has left, the slowest", slowest, 2_000)
    trial.none("promises broken after the files were put back", lost)


def host_refuses(host: Host) -> list[str]:
    """What is wrong with how the host refuses."""
    said = subprocess.run(host.command, env=host.environment, capture_output=True, text=True, timeout=60)
    found = []
    if said.returncode != 6:
        found.append(f"it left with {said.returncode}: {said.stderr[-300:]}")
    if not any(way in said.stderr for way in WAYS_OUT):
        found.append(f"no way out in: {said.stderr[-300:]}")
    if left := processes_of(host.data):
        found.append(f"it started {left}")
    if (host.data / "initial-password").exists():
        found.append("set-up is open again")
    return found


def provider_refuses(host: Host, promises: Promises) -> list[str]:
    """The same for the provider: the host serves without it."""
    found = []
    host.start_process()
    until(host.ready, "the host serves without its provider")
    host.key = (host.data / "root.key").read_text().strip()

    def has_failed() -> bool:
        return host.plugin("apikeys")["status"] in ("backoff", "failed")

    until(has_failed, f"the provider refuses: {host.plugin('apikeys')['status']}")
    log = host.command_line("logs", "apikeys", "-n", "50").stdout
    if not any(way in log for way in WAYS_OUT):
        found.append(f"no way out in the log of the provider: {log[-300:]}")
    keys = [promise for promise in promises.made if promise.kind == "key"]
    if (status := host.http("GET", "/admin/ports", key=keys[-1].value).status) != 503:
        found.append(f"a key gets {status}")
    if (host.data / "initial-password").exists():
        found.append("set-up is open again")
    host.stop()
    return found


def digests(data: Path) -> dict[str, str]:
    """Every file that is kept."""
    found = {}
    for name in DAMAGES:
        file = data / name
        if file.exists():
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
