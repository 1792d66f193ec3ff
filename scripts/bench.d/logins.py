"""Floods the login with wrong passwords, and measures what others notice of it.

A witness asks with a key at a steady pace, alone and during the flood; the owner logs in from another
address; and logins of users that exist and that do not are timed against one another. Bars are those
of `docs/security.md`. Loopback has many addresses, so that each client can come from its own.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import PASSWORD, System, backplane

BARS = {"witness": 2.0, "owner": 3.0}


def login(port: int, source: str, user: str, password: str) -> int:
    """One login from an address; answers its status."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))
    body = json.dumps({"username": user, "password": password})
    with contextlib.closing(client):
        client.request("POST", "/auth/login", body, {"Content-Type": "application/json"})
        return client.getresponse().status


def addresses() -> Iterator[str]:
    for third, fourth in itertools.product(range(1, 255), range(1, 255)):
        yield f"127.9.{third}.{fourth}"


def witness(system: System, seconds: float) -> float:
    """The p99 of a request with a key, in milliseconds, at 200 requests a second."""
    client = http.client.HTTPConnection("127.0.0.1", system.port, timeout=60)
    headers = {"Authorization": f"Bearer {system.key}"}
    times, begun = [], time.monotonic()
    for number in itertools.count():
        due = begun + number / 200
        if due > begun + seconds:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        started = time.perf_counter()
        client.request("GET", "/v1/models", headers=headers)
        response = client.getresponse()
        response.read()
        assert response.status == 200, response.status
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.quantiles(times, n=100)[98]


def flood(port: int, sources: list[str], statuses: list[int]) -> list[threading.Thread]:
    """One wrong login from each source, all at once."""

    def attempt(source: str) -> None:
        statuses.append(login(port, source, "admin", "wrong, but long enough"))

    threads = [threading.Thread(target=attempt, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    return threads


def owner(port: int) -> float:
    """Seconds until the owner is in, from an address of his own."""
    begun = time.monotonic()
    while (status := login(port, "127.8.8.8", "admin", PASSWORD)) != 200:
        assert status in (429, 503), status
        time.sleep(0.2)
    return time.monotonic() - begun


def timing(port: int, tries: int, source: Iterator[str]) -> tuple[float, float, float]:
    """Medians of existing and missing users in milliseconds, and how often an existing one takes longer."""
    times: dict[str, list[float]] = {"admin": [], "nobody": []}
    for _ in range(tries):
        for user in random.sample(list(times), 2):
            started = time.perf_counter()
            assert login(port, next(source), user, "wrong, but long enough") == 401
            times[user].append((time.perf_counter() - started) * 1e3)
    longer = sum(one > other for one in times["admin"] for other in times["nobody"])
    share = longer / (tries * tries)
    return statistics.median(times["admin"]), statistics.median(times["nobody"]), share


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tries", type=int, default=100, help="logins of each kind that are timed")
    arguments.add_argument("--flood", type=int, default=300, help="wrong logins at once")
    options = arguments.parse_args()
    source = addresses()
    with tempfile.TemporaryDirectory() as directory, backplane(Path(directory), None) as system:
        alone = witness(system, 5)
        rows = []
        for name, sources in (
            ("one address", ["127.7.7.7"] * options.flood),
            ("an address each", list(itertools.islice(source, options.flood))),
        ):
            statuses: list[int] = []
            threads = flood(system.port, sources, statuses)
            with ThreadPoolExecutor(max_workers=1) as pool:
                watching = pool.submit(witness, system, 5)
                entered = owner(system.port)
                ratio = watching.result() / alone
            for thread in threads:
                thread.join()
            counts = {status: statuses.count(status) for status in sorted(set(statuses))}
            rows.append((name, ratio, entered, counts))
        existing, missing, share = timing(system.port, options.tries, source)
    print(f"witness alone: p99 {alone:.2f} ms\n")
    print("| flood from | witness p99, of alone | bar | the owner is in after | bar | answers |")
    print("|---|---|---|---|---|---|")
    for name, ratio, entered, counts in rows:
        witness_bar, owner_bar = BARS["witness"], BARS["owner"]
        print(f"| {name} | {ratio:.2f} | ≤ {witness_bar} | {entered:.1f} s | ≤ {owner_bar} s | {counts} |")
    print(f"\nexisting user {existing:.1f} ms, missing user {missing:.1f} ms ({existing / missing:.3f});")
    tries = options.tries
    print(f"an existing one takes longer in {share:.1%} of pairs of {tries} tries each (50 % is chance)")


if __name__ == "__main__":
    main()
