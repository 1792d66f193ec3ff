"""`repo.command`: runs a command that the operator allowed, in a root.

Not a shell: the settings say the program and its first arguments, callers add at most further ones. What
runs has the rights of the plugin's own user, and no confinement holds for it.
"""

import os
from pathlib import Path
from typing import Any

from repoagent import process
from repoagent.confined import Root
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.settings import CommandSetting, RepoSettings
from repoagent.workspace import Workspace

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_ARGUMENTS = 256
_LONGEST_ARGUMENTS = 64 << 10


async def command(
    workspace: Workspace,
    settings: RepoSettings,
    root: Root,
    name: str,
    args: list[str],
    timeout_seconds: float | None,
    data: Path,
) -> dict[str, Any]:
    """Runs it to its end; a command that fails, or takes too long, is an answer and no refusal."""
    allowed = settings.command(name)
    if allowed is None:
        known = ", ".join(f"`{command.name}`" for command in settings.commands) or "none"
        raise Refusal(
            "not_found",
            f"there is no command `{name}`; the setting `commands` allows {known}",
            param="command",
        )
    _check_arguments(allowed, args)
    if timeout_seconds is not None and not timeout_seconds > 0:
        raise Refusal("invalid_request", "`timeout_seconds` is more than 0", param="timeout_seconds")
    timeout = allowed.timeout if timeout_seconds is None else min(timeout_seconds, allowed.timeout)
    with root.directory(RelativePath.parse(allowed.cwd, param="cwd")) as directory:
        outcome = await process.run(
            [*allowed.executable, *args],
            directory=directory,
            environment=environment(settings, data),
            seconds=timeout,
            output_bytes=workspace.bounds.output_bytes,
        )
    return {
        "root": root.name,
        "command": name,
        "exitCode": outcome.exit if outcome.exit >= 0 else None,
        "signal": outcome.signal,
        "timedOut": outcome.timed_out,
        "stdout": outcome.stdout.text,
        "stderr": outcome.stderr.text,
        "stdoutBytes": outcome.stdout.size,
        "stderrBytes": outcome.stderr.size,
        "truncated": outcome.stdout.truncated or outcome.stderr.truncated,
        "leftRunning": outcome.left,
        "duration": round(outcome.seconds, 3),
    }


def environment(settings: RepoSettings, data: Path) -> dict[str, str]:
    """What a command finds in its environment: nothing of this process, what the operator set."""
    home = data / "home"
    home.mkdir(exist_ok=True, mode=0o700)
    usual = {"PATH": _USUAL_PATH, "HOME": str(home), "LANG": "C.UTF-8"}
    if zone := os.environ.get("TZ"):
        usual["TZ"] = zone
    return {**usual, **settings.env}


def _check_arguments(allowed: CommandSetting, args: list[str]) -> None:
    if args and not allowed.allow_args:
        raise Refusal(
            "invalid_request",
            f"`{allowed.name}` takes no arguments: its setting `allowArgs` is off",
            param="args",
        )
    if len(args) > _MOST_ARGUMENTS:
        raise Refusal("invalid_request", f"`args` has more than {_MOST_ARGUMENTS} members", param="args")
    if any("\0" in argument for argument in args):
        raise Refusal("invalid_request", "`args` holds a NUL character", param="args")
    try:
        size = sum(len(argument.encode()) for argument in args)
    except UnicodeEncodeError:
        raise Refusal("invalid_request", "`args` holds half a surrogate pair", param="args") from None
    if size > _LONGEST_ARGUMENTS:
        raise Refusal(
            "payload_too_large", f"`args` has more than {_LONGEST_ARGUMENTS:,} bytes", param="args"
        )
