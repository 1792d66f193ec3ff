"""What requests used, added up: under 64 clients at once, after a kill, and on the command line."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from harness import ADMIN_PASSWORD, Host, apikeys, misbehave

CHAT: dict[str, Any] = {"model": "test/frame", "messages": [{"role": "user", "content": "hello"}]}
PRICES = '[prices."test/*"]\ninput_per_million = 1\noutput_per_million = 2\n'


def bkg(host: Host, *arguments: str) -> Any:
    """What a command says in JSON; it must have been carried out."""
    done = host.command_line(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def make_key(host: Host, *options: str) -> Any:
    return bkg(host, "key", "create", "--user", "admin", "--scope", "llm.chat", *options)


def served(host: Host, key: str, clients: int, requests: int) -> tuple[int, int, int]:
    """How many answers there were, and what they say that they took; by so many clients at once."""

    def one(_: int) -> list[tuple[int, int]]:
        client = host.openai(api_key=key).with_options(max_retries=0)
        taken = []
        refused = []
        for _ in range(requests):
            try:
                usage = client.chat.completions.create(**CHAT, max_tokens=1).usage
            except openai.RateLimitError as error:
                refused.append(error)
                continue
            assert usage is not None
            taken.append((usage.prompt_tokens, usage.completion_tokens))
        for refusal in refused:
            assert refusal.response.headers["x-ratelimit-limit-tokens"]
            assert refusal.code in ("rate_limit_exceeded", "insufficient_quota")
        return taken

    with ThreadPoolExecutor(clients) as pool:
        taken = [pair for pairs in pool.map(one, range(clients)) for pair in pairs]
    return len(taken), sum(read for read, _ in taken), sum(written for _, written in taken)


def test_sums_are_what_was_served_and_a_kill_takes_a_second_at_most(
    start_host: Callable[..., Host],
) -> None:
    host = start_host(apikeys(), misbehave(), config=PRICES, ADMIN_PASSWORD=ADMIN_PASSWORD)
    free = make_key(host)
    limited = make_key(host, "--limit", "tokens-per-day=120", "--limit", "budget=1/month")
    count, read, written = served(host, free["key"], clients=64, requests=4)
    assert count == 256
    of_key = bkg(host, "usage", "--by", "key", "--key", free["id"])
    total = of_key["total"]
    assert (total["requests"], total["promptTokens"], total["completionTokens"]) == (count, read, written)
    assert (total["failed"], total["estimated"], total["cost"]) == (0, 0, round(3e-6 * count, 6))

    # Sums of the key that has limits are read, and so written, before the kill.
    count, read, written = served(host, limited["key"], clients=64, requests=2)
    assert 0 < read + written <= 120
    before = bkg(host, "usage", "--by", "key", "--key", limited["id"])["total"]
    assert (before["promptTokens"], before["completionTokens"]) == (read, written)
    late = served(host, free["key"], clients=8, requests=1)[0]

    host.kill()
    host.start()
    after = bkg(host, "usage", "--by", "key", "--key", limited["id"])["total"]
    assert after == before
    kept = bkg(host, "usage", "--by", "key", "--key", free["id"])["total"]["requests"]
    assert 256 <= kept <= 256 + late
    rows = bkg(host, "requests", "--key", limited["id"], "-n", "1000")["requests"]
    assert len({row["requestId"] for row in rows}) == len(rows)
    # What was used before counts: not more than what was left then fits.
    assert read + written + sum(served(host, limited["key"], clients=1, requests=3)[1:]) <= 120


def test_a_request_is_looked_up_by_the_id_that_the_client_has(start_host: Callable[..., Host]) -> None:
    host = start_host(apikeys(), misbehave(), config=PRICES, ADMIN_PASSWORD=ADMIN_PASSWORD)
    key = make_key(host, "--limit", "requests-per-minute=5")
    answer = host.openai(api_key=key["key"]).chat.completions.with_raw_response.create(**CHAT)
    assert answer.headers["x-ratelimit-remaining-requests"] == "4"
    request = answer.headers["x-request-id"]
    shown = host.command_line("requests", request)
    assert shown.returncode == 0, shown.stderr
    for part in (request, key["id"], "test/frame", "misbehave", "1+1", "0.000003", "ok"):
        assert part in shown.stdout, shown.stdout
    table = host.command_line("usage", "--by", "model").stdout
    assert "test/frame" in table, table
    assert "USD" in table, table
    assert host.command_line("user", "update", "admin", "--limit", "tokens-per-day=9").returncode == 0
    assert bkg(host, "user", "list")["users"][0]["limits"] == {"tokensPerDay": 9}
