"""Many clients at once, and clients that leave: nothing is mixed up, and nothing is left behind.

How soon a plugin hears that a client has left is a figure of the fault suite (row `client-leaves`); here
the bound is what no machine that runs tests is too slow for.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Host, scripted, until

ABORTS = 1_000
AT_ONCE = 16
CLIENTS = 64
REQUESTS_EACH = 6


def descriptors(host: Host) -> int:
    """How many files the daemon has open."""
    assert host.process is not None
    return len(list(Path(f"/proc/{host.process.pid}/fd").iterdir()))


def resident(host: Host) -> int:
    """How much memory the daemon holds, in bytes."""
    assert host.process is not None
    status = Path(f"/proc/{host.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def leave(host: Host, name: str, *, stream: bool, reset: bool) -> float:
    """Asks, leaves while the plugin works, and says when, in milliseconds on CLOCK_MONOTONIC."""
    script = {"name": name, "delayMs": 20, "say": "word " * 500}
    body = {
        "model": "scripted-chat",
        "messages": [{"role": "user", "content": "x"}],
        "stream": stream,
        "script": script,
    }
    payload = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {host.key}\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", host.ports["api"])
    writer.write(head.encode() + payload)
    await writer.drain()
    if stream:
        await reader.readuntil(b"data: ")
    else:
        # There is nothing to see from here; some leave before their request is at the plugin.
        await asyncio.sleep(0.02)
    if reset:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    left_ms = time.monotonic_ns() / 1e6
    writer.transport.abort()
    return left_ms


async def all_leave(host: Host, first: int, number: int) -> dict[str, float]:
    """So many clients leave, a few at once; when each did, by name."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[str, float]:
        async with places:
            name = f"leaver-{number}"
            return name, await leave(host, name, stream=number % 2 == 0, reset=number % 3 == 0)

    return dict(await asyncio.gather(*(one(first + each) for each in range(number))))


def test_a_thousand_clients_that_leave_leave_nothing_behind(start_host: Callable[..., Host]) -> None:
    host = start_host(scripted())
    # What is made once, and kept, is made now.
    warm = asyncio.run(all_leave(host, 0, 200))
    until(lambda: host.instance("scripted")["inFlight"] == 0, "nothing is open")
    before, memory_before = descriptors(host), resident(host)

    left = asyncio.run(all_leave(host, len(warm), ABORTS))
    until(lambda: host.instance("scripted")["inFlight"] == 0, "nothing is open")
    until(lambda: descriptors(host) <= before, f"the daemon has {before} files open, as before")
    grown = resident(host) - memory_before
    assert grown < 16 << 20, f"{grown >> 10} KiB more than before"

    lines = {line["name"]: line for line in host.served("scripted")}
    reached = left.keys() & lines.keys()
    # Whoever was sent a part was at the plugin.
    assert len(reached) >= ABORTS / 2
    assert {lines[name]["outcome"] for name in reached} == {"cancelled"}
    slowest = max(lines[name]["atMs"] - left[name] for name in reached)
    assert slowest < 5_000, f"{slowest:.0f} ms"
    print(f"{len(reached)} cancels, the slowest after {slowest:.0f} ms, {grown >> 10} KiB more")

    answer = host.openai().chat.completions.create(
        model="scripted-chat", messages=[{"role": "user", "content": "still there?"}]
    )
    assert answer.choices[0].message.content == "You said: still there?"


def test_every_answer_belongs_to_its_request(models: Host) -> None:
    served = len(models.served("scripted"))

    async def client(number: int) -> list[tuple[int, int]]:
        """One client with connections of its own; what its answers say that they cost."""
        costs = []
        async with models.async_openai() as openai:
            for turn in range(REQUESTS_EACH):
                text = f"client {number} turn {turn} " + "and so on " * (number % 7)
                body: dict[str, Any] = {
                    "model": "scripted-chat",
                    "messages": [{"role": "user", "content": text}],
                    "extra_body": {"script": {"delayMs": (number + turn) % 3}},
                }
                match (number + turn) % 3:
                    case 0:
                        whole = await openai.chat.completions.create(**body)
                        said, usage = whole.choices[0].message.content, whole.usage
                    case 1:
                        body["stream_options"] = {"include_usage": True}
                        async with openai.chat.completions.stream(**body) as stream:
                            final = await stream.get_final_completion()
                        said, usage = final.choices[0].message.content, final.usage
                    case _:
                        vectors = await openai.embeddings.create(model="scripted-embed", input=[text] * 3)
                        alone = await openai.embeddings.create(model="scripted-embed", input=text)
                        assert [item.embedding for item in vectors.data] == [alone.data[0].embedding] * 3
                        costs += [(each.usage.prompt_tokens, 0) for each in (vectors, alone)]
                        continue
                assert said == f"You said: {text}"
                assert usage is not None
                costs.append((usage.prompt_tokens, usage.completion_tokens))
        return costs

    async def everybody() -> list[tuple[int, int]]:
        answers = await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        return [cost for costs in answers for cost in costs]

    costs = asyncio.run(everybody())
    lines = models.served("scripted")[served:]
    assert {line["outcome"] for line in lines} == {"ok"}
    assert len({line["request"] for line in lines}) == len(lines)
    assert sorted(costs) == sorted((line["promptTokens"], line["completionTokens"]) for line in lines)
