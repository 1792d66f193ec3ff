"""Runs code of the plugin's author: what is asynchronous on the event loop, anything else in a thread.

Used for handlers, background work and the check of settings, so that a plain `def` may block wherever it
stands. The invariant: however the code ends, whoever waits for it hears of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import Executor


async def run_work(threads: Executor | None, work: Callable[..., object], *arguments: object) -> object:
    """What the work returns; `threads` are those of the event loop where none are given."""
    if _is_asynchronous(work):
        outcome = work(*arguments)
    else:
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        outcome = await loop.run_in_executor(
            threads, context.run, _without_stop_iteration, work, *arguments
        )
    return await outcome if inspect.isawaitable(outcome) else outcome


def _is_asynchronous(work: Callable[..., object]) -> bool:
    """Whether calling it gives something to await, also where it is an object with `__call__`."""
    return inspect.iscoroutinefunction(work) or inspect.iscoroutinefunction(
        getattr(work, "__call__", None)  # noqa: B004 - not whether it is callable, but what with
    )


def _without_stop_iteration(work: Callable[..., object], *arguments: object) -> object:
    """No future takes a `StopIteration`: whoever waits for the thread would wait for ever."""
    try:
        return work(*arguments)
    except StopIteration as end:
        raise RuntimeError("`next` had nothing more to give") from end
