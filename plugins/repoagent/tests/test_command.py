"""`repo.command`: what may run, what comes of it, and that nothing of it is left."""

import asyncio
import os
import signal
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from repoagent.command import command
from repoagent.refusal import Refusal
from repoagent.settings import CommandSetting, RepoSettings, workspace
from space import Space, until

SHELL = ["/bin/sh", "-c"]


async def run(
    space: Space,
    script: str,
    *args: str,
    limit: float = 60.0,
    seconds: float | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Runs a script of the shell as the command `it`."""
    executable = [*SHELL, script, "it"]
    allowed = CommandSetting("it", executable, timeout=limit, allow_args=True, cwd=settings.pop("cwd", ""))
    chosen = RepoSettings(roots=[str(space.work)], commands=[allowed], **settings)
    made = workspace(chosen, space.data)
    return await command(made, chosen, made.root(None), "it", list(args), seconds, space.data)


def marked(mark: str) -> list[int]:
    """The living processes whose command line holds the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            state = entry.with_name("stat").read_text().rpartition(")")[2].split()[0]
            if mark.encode() in entry.read_bytes() and state not in "ZX":
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture
def mark(space: Space) -> str:
    """Stands in the command lines of one test's processes and in no others."""
    return f"{space.work}-mark"


async def test_a_command_is_run_by_its_arguments(space: Space) -> None:
    answer = await run(space, 'printf "%s|" "$@"; echo err >&2; exit 3', "$HOME; rm -rf /", "é\n", "")
    seconds = answer.pop("duration")
    assert answer == {
        "root": "work",
        "command": "it",
        "exitCode": 3,
        "signal": None,
        "timedOut": False,
        "stdout": "$HOME; rm -rf /|é\n||",
        "stderr": "err\n",
        "stdoutBytes": 21,
        "stderrBytes": 4,
        "truncated": False,
        "leftRunning": 0,
    }
    assert seconds > 0


async def test_its_environment_is_clean_and_its_input_empty(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BKG_PLUGIN_TOKEN", "the token")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    (space.work / "below").mkdir()
    answer = await run(space, "env; pwd; cat; ls /proc/self/fd", cwd="below", env={"COLOUR": "blue"})
    *lines, home = sorted(
        line for line in answer["stdout"].splitlines() if "=" in line and "RUN=" not in line
    )[:3]
    assert lines == ["COLOUR=blue", f"HOME={space.data}/home"]
    assert home == "LANG=C.UTF-8"
    assert "the token" not in answer["stdout"]
    assert "PYTHONPATH" not in answer["stdout"]
    assert f"{space.work}/below\n0\n1\n2\n3\n" in answer["stdout"]


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("trap '' TERM; sleep 600; : {mark}", None),
        ("trap '' TERM; sh -c 'trap \"\" TERM; sleep 600; : {mark}' & sleep 600", None),
        ("setsid sh -c 'trap \"\" TERM; sleep 600; : {mark}' & sleep 600", None),
        ("(setsid env -i sh -c 'sleep 600; : {mark}' &); (setsid sh -c 'setsid sleep 600; : {mark}' &)", 1),
        ("nohup sh -c 'sleep 600; : {mark}' >/dev/null 2>&1 & exit 0", 1),
    ],
    ids=[
        "ignores TERM",
        "forks",
        "another session",
        "double fork without environment",
        "left in the background",
    ],
)
async def test_nothing_is_left_of_a_command(space: Space, mark: str, script: str, left: int | None) -> None:
    answer = await run(space, script.replace("{mark}", mark), limit=0.3 if left is None else 60)
    assert answer["timedOut"] == (left is None)
    assert (answer["leftRunning"] > 0) == (left is not None)
    assert marked(mark) == []


async def test_a_command_that_takes_too_long_is_ended_and_says_what_it_had_said(space: Space) -> None:
    answer = await run(space, "echo begun; exec sleep 600", seconds=0.3)
    assert (answer["exitCode"], answer["signal"], answer["timedOut"]) == (None, "SIGTERM", True)
    assert answer["stdout"] == "begun\n"
    stubborn = await run(space, "trap '' TERM; sleep 600", limit=0.3, seconds=500)
    assert (stubborn["signal"], stubborn["timedOut"]) == ("SIGKILL", True)


async def test_a_request_that_is_cancelled_ends_its_command(space: Space, mark: str) -> None:
    running = asyncio.create_task(
        run(space, f"trap '' TERM; setsid sh -c 'sleep 600; : {mark}' & sleep 600")
    )
    await until(lambda: marked(mark))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert marked(mark) == []


async def test_a_command_that_kills_its_minder_is_killed(space: Space, mark: str) -> None:
    script = f"(setsid sh -c 'sleep 600; : {mark}' &); kill -9 $PPID; sleep 600; : {mark}"
    with pytest.raises(Refusal, match="killed"):
        await run(space, script)
    await until(lambda: not marked(mark))


async def test_commands_end_when_the_plugin_is_killed(space: Space, mark: str) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from repoagent import process\n"
        "directory = os.open('/', os.O_RDONLY)\n"
        "argv = ['sh', '-c', sys.argv[1]]\n"
        "environment = {'PATH': os.environ['PATH']}\n"
        "asyncio.run(process.run(argv, directory=directory, environment=environment, seconds=600,"
        " output_bytes=1))\n"
    )
    script = f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600; : {mark}'"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    plugin = await asyncio.create_subprocess_exec(sys.executable, "-c", program, script, env=environment)
    await until(lambda: len(marked(mark)) >= 3)
    plugin.send_signal(signal.SIGKILL)
    await plugin.wait()
    await until(lambda: not marked(mark))


async def test_a_hundred_megabytes_are_drained_and_cut(space: Space) -> None:
    tracemalloc.start()
    answer = await run(
        space,
        "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last",
        max_output_bytes=10_000,
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer["stdoutBytes"], answer["truncated"], answer["exitCode"]) == (100_000_012, True, 0)
    assert answer["stdout"].startswith("first\nxxx")
    assert answer["stdout"].endswith("xxx\nlast\n")
    assert "[99990012 bytes left out]" in answer["stdout"]
    assert len(answer["stdout"]) < 10_100
    assert most < 4 << 20


async def test_output_that_is_not_utf_8_is_shown(space: Space) -> None:
    assert (await run(space, "printf '\\377'"))["stdout"] == "\ufffd"


async def test_what_is_not_allowed_does_not_run(space: Space) -> None:
    allowed = [CommandSetting("true", ["true"]), CommandSetting("missing", ["/nonesuch"], cwd="")]
    settings = RepoSettings(roots=[str(space.work)], commands=allowed)
    made = workspace(settings, space.data)

    async def refusal(name: str, *args: str, seconds: float | None = None) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await command(made, settings, made.root(None), name, list(args), seconds, space.data)
        return caught.value

    assert (await refusal("rm", "-rf", "/")).code == "not_found"
    assert "`true`, `missing`" in (await refusal("rm")).message
    assert (await refusal("true", "argument")).param == "args"
    assert (await refusal("true", seconds=0.0)).param == "timeout_seconds"
    assert "no such file" in (await refusal("missing")).message


@pytest.mark.parametrize("args", [["a\0b"], ["x"] * 257, ["x" * 70_000], ["\ud800"]])
async def test_arguments_are_bounded(space: Space, args: list[str]) -> None:
    with pytest.raises(Refusal) as caught:
        await run(space, "true", *args)
    assert caught.value.param == "args"


async def test_a_directory_that_is_a_link_is_not_entered(space: Space) -> None:
    (space.work / "out").symlink_to("/")
    with pytest.raises(Refusal, match="symbolic link"):
        await run(space, "pwd", cwd="out")


async def test_many_commands_leave_no_descriptor(space: Space) -> None:
    await run(space, "true")
    before = len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(run(space, "echo x; sleep 0.01 & true") for _ in range(20)))
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_a_command_that_stops_its_minder_is_ended(
    space: Space, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repoagent.process._MINDER_SECONDS", 0.5)
    once = await run(space, f"kill -STOP $PPID; sleep 600; : {mark}", limit=0.3)
    assert once["timedOut"]
    again = f"trap '' TERM; while kill -STOP $PPID; do :; done; sleep 600; : {mark}"
    async with asyncio.timeout(30):
        with pytest.raises(Refusal, match="killed"):
            await run(space, again, limit=0.3)
    await until(lambda: not marked(mark))
