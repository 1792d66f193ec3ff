"""A plugin writes what no plugin may write; and all the frames that nobody thought of."""

import asyncio
import os
import re
from typing import Any

from faultsuite.client import Outcome
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Form, Trial, row
from harness import REPOSITORY, misbehave

# What the hostile plugin is asked for, and the statuses that may be said of it.
COMMANDS: list[tuple[str, dict[str, Any], set[int]]] = [
    *[
        ("test.garbage", {"kind": kind, "frames": 3}, {200})
        for kind in ("text", "array", "untyped", "binary")
    ],
    *[("test.garbage", {"kind": kind}, {200, 502}) for kind in ("utf8", "unmasked", "opcode")],
    ("test.double", {}, {200}),
    ("test.unknown_type", {}, {200}),
    ("test.chunk_after_response", {}, {200, 502}),
    ("test.wrong_seq", {}, {200, 502}),
    ("test.big_chunk", {}, {200, 502}),
    ("test.overrun", {}, {200, 502}),
    ("test.both", {}, {200}),
    ("test.string_error", {}, {502}),
    ("test.huge", {}, {502}),
    ("test.register_again", {}, {502, 504}),
    ("test.garbage", {"kind": "text", "frames": 200}, {200, 502}),
]
PROPERTIES = re.compile(r"test result: ok\. (\d+) passed; 0 failed")


@row(
    "bad-frames",
    fault="malformed, oversized, duplicate, late, foreign-id frames",
    bar="counted, answered or dropped; 0 cross-deliveries in 10⁶ random schedules; 0 panics under fuzzing",
)
async def bad_frames(trial: Trial) -> None:
    """A hostile plugin writes every kind of frame that the rules forbid, while the ledger plugin beside
    it answers calls. Each of these calls is also the target: the hostile plugin sends an answer of its
    own with the call's id on the bus, which it must not be able to deliver. Then the property tests of
    both halves of the protocol, which send random schedules of frames: 10⁶ in all."""
    async with trial.stage(ledger(), misbehave()) as stage:
        await stage.before()
        for _ in range(trial.count(1, 10)):
            for capability, payload, statuses in COMMANDS:
                await say(trial, stage, capability, payload, statuses)
        stolen = [await steal(stage) for _ in range(trial.count(20, 500))]
        trial.none(f"foreign answers of {len(stolen)} that were delivered", [one for one in stolen if one])
        answered = await stage.client.call()
        trial.figure("the call after all that", str(answered.outcome), "answered", answered.status == 200)
    await schedules(trial)


async def say(trial: Trial, stage: Stage, capability: str, payload: Any, statuses: set[int]) -> None:
    """Has the hostile plugin break one rule; it must be answered, and the neighbour must not notice."""
    await until_there(stage)
    asked = stage.off_thread(stage.host.invoke, capability, payload, timeoutMs=3_000)
    answer, beside = await asyncio.gather(asked, stage.client.call())
    if answer.status not in statuses:
        trial.figure(f"{capability} {payload}", str(answer.status), f"one of {sorted(statuses)}", False)
    if beside.outcome is not Outcome.ANSWERED:
        trial.figure(f"the neighbour of {capability} {payload}", str(beside), "answered", False)


async def until_there(stage: Stage) -> None:
    """Waits until the hostile plugin serves. After so many ends its back-off is longer than a minute, and
    an operator does not wait for that."""

    async def there() -> bool:
        shown = await stage.plugin("misbehave")
        if shown["status"] == "backoff":
            await stage.http("POST", "/admin/plugins/misbehave/restart?wait=30")
        return any(one["status"] == "healthy" for one in shown["instances"])

    await stage.until(there, "the hostile plugin serves")


async def steal(stage: Stage) -> str | None:
    """Answers a neighbour's open call from the hostile plugin; says what the caller got, if not its own."""
    call = stage.client.new()
    asking = asyncio.create_task(stage.client.call(call=call, workMs=150))
    line = await stage.until_line("executed", call.id)
    await until_there(stage)
    payload = {"requestId": line["request"]}
    await stage.off_thread(stage.host.invoke, "test.foreign", payload, timeoutMs=3_000)
    await asking
    return None if call.outcome is Outcome.ANSWERED else f"{call.outcome}: {call.detail}"


async def schedules(trial: Trial) -> None:
    """Runs the property tests, each on its share of all schedules."""
    wanted = trial.count(800, 1_000_000)
    tests = 8
    # Only this many schedules are worth an optimised build.
    profile = ["--release"] if trial.form is Form.FULL else []
    command = [
        "cargo",
        "test",
        "--locked",
        "--quiet",
        "-p",
        "bkg-protocol",
        *profile,
        "--test",
        "schedules",
    ]
    environment = {**os.environ, "PROPTEST_CASES": str(wanted // tests)}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=REPOSITORY,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    passed = PROPERTIES.search(output.decode())
    said = (
        f"{passed[1]} properties of {wanted // tests} schedules each" if passed else output.decode()[-500:]
    )
    trial.figure("random schedules without a cross-delivery", said, f"{wanted} in all", passed is not None)
