"""The settings that an operator writes, and the workspace that they make.

Members are read in camel case: `max_file_bytes` is `maxFileBytes`. `plugin.json` describes each for the
control centre, and what is there as a bound is checked by the host; what only the disk can tell is
checked here.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from repoagent.confined import Root
from repoagent.ignoring import Patterns
from repoagent.relative import RelativePath
from repoagent.workspace import Bounds, Workspace

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("BKG_", "PLUGIN_")


@dataclass
class RootSetting:
    """A root with a name of its own."""

    path: str
    name: str = ""


@dataclass
class CommandSetting:
    """A command that callers may run: its first arguments, where, and for how many seconds."""

    name: str
    executable: list[str]
    timeout: float = 60.0
    allow_args: bool = False
    cwd: str = ""


@dataclass
class GitSetting:
    """Whether commits are made, and in whose name; without a name it is the caller's."""

    enabled: bool = True
    author_name: str = ""
    author_email: str = ""
    trust_configuration: bool = False


@dataclass
class HttpSetting:
    """Whether the plugin listens on loopback itself; port 0 is any."""

    enabled: bool = False
    port: int = 0
    max_body_bytes: int = 16 << 20


@dataclass
class RepoSettings:
    """All of it."""

    roots: list[str | RootSetting] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    allow_hard_links: bool = False
    max_file_bytes: int = 8 << 20
    max_output_bytes: int = 512 << 10
    max_results: int = 1_000
    max_entries: int = 200_000
    max_depth: int = 64
    request_seconds: float = 60.0
    commands: list[CommandSetting] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    git: GitSetting = field(default_factory=GitSetting)
    http: HttpSetting = field(default_factory=HttpSetting)
    telemetry_interval_seconds: float = 10.0

    def command(self, name: str) -> CommandSetting | None:
        """The command of that name."""
        return next((command for command in self.commands if command.name == name), None)


def workspace(settings: RepoSettings, data: Path) -> Workspace:
    """The workspace of the settings; raises `ValueError` with what the operator has to change.

    Without roots there is one, `workspace` in the plugin's own directory `data`, which is made.
    """
    roots = tuple(_roots(settings, data))
    names = [root.name for root in roots]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two `roots` are named `{twice}`; give one of them a `name`")
    _check_commands(settings)
    for name, value in settings.env.items():
        if not _VARIABLE.fullmatch(name) or name.startswith(_OURS) or "\0" in value:
            raise ValueError(f"`env`: `{name}` cannot be set for commands")
    bounds = Bounds(
        file_bytes=settings.max_file_bytes,
        output_bytes=settings.max_output_bytes,
        results=settings.max_results,
        entries=settings.max_entries,
        depth=settings.max_depth,
        seconds=settings.request_seconds,
        hard_links=settings.allow_hard_links,
    )
    hidden = Patterns([pattern.encode() for pattern in settings.ignore])
    if hidden.left_out:
        raise ValueError(f"`ignore`: {hidden.left_out} of the patterns are too long to be matched")
    return Workspace(roots, hidden, bounds)


def _roots(settings: RepoSettings, data: Path) -> list[Root]:
    if not settings.roots:
        own = data / "workspace"
        own.mkdir(parents=True, exist_ok=True)
        return [Root("workspace", str(own))]
    found = []
    for given in settings.roots:
        setting = RootSetting(given) if isinstance(given, str) else given
        path = os.path.expanduser(setting.path)
        if not os.path.isabs(path) or "\0" in path:
            raise ValueError(f"`roots`: `{setting.path}` is no absolute path")
        root = Root(setting.name or os.path.basename(os.path.normpath(path)) or "/", os.path.normpath(path))
        try:
            descriptor = os.open(root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ValueError(
                f"`roots`: `{setting.path}` cannot be opened: {(error.strerror or '').lower()}"
            ) from error
        os.close(descriptor)
        _check_apart(root, data)
        found.append(root)
    return found


def _check_apart(root: Root, data: Path) -> None:
    """A caller who could write the journal of changes could have anything taken back."""
    own, open_to_callers = Path(os.path.realpath(data)), Path(os.path.realpath(root.path))
    inside = open_to_callers.is_relative_to(own) and not open_to_callers.is_relative_to(own / "workspace")
    if inside or own.is_relative_to(open_to_callers):
        raise ValueError(f"`roots`: `{root.path}` holds the plugin's own files, in `{data}`; name another")


def _check_commands(settings: RepoSettings) -> None:
    seen: set[str] = set()
    for command in settings.commands:
        where = f"`commands`: `{command.name}`"
        if not command.name or command.name in seen:
            raise ValueError(f"{where} is empty, or the name of two commands")
        seen.add(command.name)
        if (
            not command.executable
            or not command.executable[0]
            or any("\0" in part for part in command.executable)
        ):
            raise ValueError(f"{where} has no `executable`: a list, the program first")
        if not command.timeout > 0:
            raise ValueError(f"{where} has no time: `timeout` is in seconds and more than 0")
        try:
            RelativePath.parse(command.cwd, param="cwd")
        except Exception as error:
            raise ValueError(f"{where}: {error}") from error
