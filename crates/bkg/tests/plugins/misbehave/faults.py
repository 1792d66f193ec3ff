"""Faults that `settings.fault` plants, each under the id of the one rule of `bkg check` that it breaks.

Only what takes more than a line stands here; the rest is where the plugin would do it right, as a question
to `Plugin.plants`. README.md says which faults there are.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # `session` asks this file, which only speaks of what is there.
    from session import Frame, Plugin, Request

# A rule about the end needs somebody who does not go.
DEAF_CHILD = "trap '' TERM; while :; do sleep 1; done"
MORE_THAN_A_CHUNK_MAY_HAVE = 70 << 10


def at_start(fault: str) -> None:
    """What is wrong before there is a socket."""
    if fault == "dials-in-time":
        print("it has lost its way", file=sys.stderr)
        sys.exit(3)
    if fault == "leaves-nothing-behind":
        subprocess.Popen(["sh", "-c", DEAF_CHILD], start_new_session=True)


async def once_registered(plugin: Plugin) -> None:
    """What is wrong as soon as the host has said `registered`."""
    if plugin.plants("register-once"):
        await plugin.send(**plugin.registration())
    if plugin.plants("frames-valid"):
        await plugin.send(type="health", plugin=plugin.name)
    if plugin.plants("logs-valid"):
        await plugin.send(type="log", plugin=plugin.name, level="loud", message="it shouts")
    if plugin.plants("output-bounded"):
        for number in range(5_000):
            print(f"{number} of far too many lines", file=sys.stderr)
    if plugin.plants("asks-with-fresh-ids"):
        for _ in range(2):
            await plugin.send(type="request", requestId="1", capability="base.echo", payload=None)
    if plugin.plants("old-ids-forgotten"):
        for request_id in plugin.lost:
            await plugin.send(type="response", requestId=request_id, success=True, data=None)


async def before_word(plugin: Plugin, request: Request) -> None:
    """What is wrong with the answer to the plainest question."""
    if plugin.plants("concurrent-ids"):
        # Questions that come at once are then there at once, however slowly they arrive.
        await asyncio.sleep(0.2)
    if plugin.plants("bad-payload-survived") and request.frame.get("payload") is None:
        os._exit(9)
    if plugin.plants_once("answers-own-ids"):
        await plugin.send(type="response", requestId=str(uuid.uuid4()), success=True, data=None)
    if plugin.plants("chunks-only-when-asked") and not request.frame.get("stream"):
        await plugin.send(type="chunk", requestId=request.id, seq=0, data=None)


def spoiled_chunk(plugin: Plugin, seq: int, data: object) -> Frame:
    """A chunk, with what is planted in it."""
    if plugin.plants("chunk-order") and seq >= 1:
        seq += 1
    if plugin.plants("chunk-size-kept"):
        data = "x" * MORE_THAN_A_CHUNK_MAY_HAVE
    return {"seq": seq, "data": data}


def swallows(plugin: Plugin, request: Request) -> bool:
    """Whether a request is lost on the way to its behaviour."""
    if plugin.plants("large-request-survived") and len(request.text) > 512 << 10:
        os._exit(9)
    if plugin.plants("unknown-members-ignored") and "fromTheFuture" in request.frame:
        return True
    return len(plugin.running) > 0 and plugin.plants_once("concurrent-ids")
