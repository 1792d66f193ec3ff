"""The plugin on the bus: what it registers, routes, settings, refusals, drain."""

import asyncio
import base64
import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import test_transaction
from bkg_sdk import HttpRequest, WireError
from bkg_sdk.json import raw
from bkg_sdk.protocol.message import Request
from bkg_sdk.testing import Limits, TestHost
from repoagent.capabilities import ALL
from repoagent.halt import Halt
from repoagent.settings import RepoSettings, workspace
from space import Space, hosted, until

FOLDER = Path(__file__).parents[1]
SLOW = {
    "name": "slow",
    "executable": ["sh", "-c", "touch begun; sleep ${1:-0.2}; echo done", "slow"],
    "allowArgs": True,
}


@contextlib.asynccontextmanager
async def started(space: Space, **settings: Any) -> Any:
    async with hosted(space.data, {"roots": [str(space.work)], **settings}) as host:
        yield host


async def refusal(host: TestHost, capability: str, payload: object) -> WireError:
    with pytest.raises(WireError) as caught:
        await host.request(capability, payload)
    return caught.value


async def ask(
    host: TestHost, method: str, path: str, capability: str, payload: object, body: Any, **more: Any
) -> Any:
    """A request as it comes through a route."""
    http = HttpRequest(
        method=method,
        path=path,
        params=more.get("params", {}),
        query=more.get("query", []),
        headers={},
        body=body,
    )
    request = Request(request_id="", capability=capability, payload=raw(payload), http=http)
    return await host.send(request).outcome()


async def test_it_registers_all_eight_with_routes_and_schemas(space: Space) -> None:
    async with started(space) as host:
        (said,) = host.seen.registrations
        assert {capability.id for capability in said.capabilities} == {
            "repo.analyze",
            "repo.patch",
            "repo.tree",
            "repo.file.read",
            "repo.file.write",
            "repo.search",
            "repo.command",
            "repo.commit",
        }
        assert all(capability.input_schema and capability.description for capability in said.capabilities)
        assert {capability.id for capability in said.capabilities if capability.side_effect} == {
            "repo.patch",
            "repo.file.write",
            "repo.command",
            "repo.commit",
        }
        assert len(said.routes) == len(ALL)
        assert said.port == "internal"


def test_the_entry_lists_what_is_registered_and_its_defaults_are_those_of_the_code() -> None:
    entry = json.loads((FOLDER / "plugin.json").read_text())
    assert entry["capabilities"] == ["repo.*"]
    assert entry["autostart"] is False

    def defaults(schema: dict[str, Any]) -> Any:
        if "properties" in schema and not schema.get("default"):
            return {name: defaults(member) for name, member in schema["properties"].items()}
        return schema.get("default")

    def camel(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(word.title() for word in rest)

    def plain(value: Any) -> Any:
        fields = getattr(value, "__dataclass_fields__", None)
        return value if fields is None else {camel(name): plain(getattr(value, name)) for name in fields}

    assert defaults(entry["configSchema"]) == plain(RepoSettings())


async def test_a_life_with_a_repository(space: Space) -> None:
    async with started(
        space, commands=[{"name": "init", "executable": ["git", "init", "--quiet"]}]
    ) as host:
        assert (await host.request("repo.command", {"command": "init"}))["exitCode"] == 0
        written = await host.request("repo.file.write", {"path": "a b/é.py", "content": "print(1)\n"})
        assert written["created"]
        diff = "--- a/a b/é.py\n+++ b/a b/é.py\n@@ -1 +1,2 @@\n-print(1)\n+print(2)\n+print(3)\n"
        assert (await host.request("repo.patch", {"diff": diff}))["applied"]
        found = await host.request(
            "repo.search", {"query": "PRINT", "case_sensitive": False, "max_results": 1}
        )
        assert [match["line"] for match in found["matches"]] == [1]
        commit = await host.request("repo.commit", {"message": "first"})
        assert (len(commit["commit"]), commit["author"]) == (40, "repoagent <repoagent@localhost>")
        summary = (await host.request("repo.analyze", None))["summary"]
        assert (summary["total_files"], summary["total_directories"]) == (1, 1)
        tree = await host.request("repo.tree", {"path": None, "depth": 1, "limit": 5})
        assert [entry["path"] for entry in tree["entries"]] == ["a b"]


@pytest.mark.parametrize(
    ("capability", "payload", "code", "param"),
    [
        ("repo.tree", {"path": "../.."}, "invalid_request", "path"),
        ("repo.tree", {"root": "elsewhere"}, "not_found", "root"),
        ("repo.tree", {"limit": 0}, "invalid_request", "limit"),
        ("repo.tree", ["x"], "invalid_request", None),
        ("repo.file.read", {"path": "/etc/passwd"}, "invalid_request", "path"),
        ("repo.file.read", {"path": "none"}, "not_found", "path"),
        ("repo.file.write", {"path": "x", "content": 7}, "invalid_request", "content"),
        ("repo.file.write", {"path": "x", "mode": "delete"}, "invalid_request", "mode"),
        ("repo.search", {}, "invalid_request", "query"),
        ("repo.patch", {}, "invalid_request", "changes"),
        ("repo.patch", {"changes": [{"path": ".git/config"}]}, "invalid_request", "path"),
        ("repo.command", {"command": "rm"}, "not_found", "command"),
        ("repo.commit", {"message": "x"}, "not_found", "path"),
    ],
)
async def test_a_refusal_has_a_code_and_names_the_member(
    space: Space, capability: str, payload: object, code: str, param: str | None
) -> None:
    async with started(space) as host:
        error = await refusal(host, capability, payload)
        assert (error.code, error.param) == (code, param)
        assert space.everything() == {}


async def test_routes_ask_the_same(space: Space) -> None:
    async with started(space) as host:
        every_byte = base64.b64encode(bytes(range(256))).decode()
        path = {"params": {"path": "d/a b"}}
        written = await ask(host, "PUT", "/files/d/a%20b", "repo.file.write", every_byte, "base64", **path)
        assert written["size"] == 256
        await ask(host, "PUT", "/files/d/a%20b", "repo.file.write", {"a": 1.50}, "json", **path)
        await ask(host, "PUT", "/x", "repo.file.write", "+", "text", **path, query=[["mode", "append"]])
        read = await ask(host, "GET", "/files/d/a%20b", "repo.file.read", None, "none", **path)
        assert read["content"] == '{"a":1.5}+'
        tree = await ask(
            host, "GET", "/tree", "repo.tree", None, "none", query=[["path", "d"], ["depth", "1"]]
        )
        assert [entry["path"] for entry in tree["entries"]] == ["d/a b"]
        found = await ask(host, "POST", "/search", "repo.search", {"query": "1.5"}, "json")
        assert len(found["matches"]) == 1
        with pytest.raises(WireError, match="depth"):
            await ask(host, "GET", "/tree", "repo.tree", None, "none", query=[["depth", "deep"]])


async def test_new_settings_hold_at_once_and_bad_ones_change_nothing(space: Space, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "there").write_text("x")
    async with started(space) as host:
        await host.configure({"roots": [{"path": str(other), "name": "second"}], "maxResults": 1})
        tree = await host.request("repo.tree", {})
        assert (tree["root"], [entry["path"] for entry in tree["entries"]]) == ("second", ["there"])
        for bad in (
            {"roots": ["relative"]},
            {"roots": ["/nonesuch/x"]},
            {"roots": [str(other), str(other)]},
            {"commands": [{"name": "x", "executable": []}]},
            {"commands": [{"name": "x", "executable": ["x"], "cwd": "../.."}]},
            {"env": {"BKG_PLUGIN_TOKEN": "x"}},
            {"maxResults": "many"},
        ):
            with pytest.raises(WireError) as caught:
                await host.configure(bad)
            assert caught.value.code == "invalid_config"
        assert (await host.request("repo.tree", {}))["root"] == "second"


async def test_without_roots_there_is_a_workspace_of_its_own(space: Space) -> None:
    async with hosted(space.data, {}) as host:
        await host.request("repo.file.write", {"path": "x", "content": "y"})
    assert (space.data / "workspace/x").read_text() == "y"


async def test_a_cancelled_command_is_answered_and_ended(space: Space) -> None:
    async with started(space, commands=[SLOW]) as host:
        request = host.start_request("repo.command", {"command": "slow", "args": ["600"]})
        await until((space.work / "begun").exists)
        request.cancel()
        await host.until("it is answered", lambda seen: bool(seen.answers))
        ((_, answer),) = host.seen.answers
        assert isinstance(answer, WireError)
        assert answer.code == "cancelled"


async def test_a_drain_lets_work_finish(space: Space) -> None:
    async with started(space, commands=[SLOW]) as host:
        request = host.start_request("repo.command", {"command": "slow"})
        await until((space.work / "begun").exists)
        host.drain(within=10)
        assert (await request.outcome())["stdout"] == "done\n"
        await host.ended()
        assert host.seen.closed == [1000]


async def test_an_interrupted_change_is_taken_back_at_the_start(space: Space) -> None:
    space.put("over", "old")
    space.put("gone", "going")
    space.put("d/kept", "kept")
    await asyncio.to_thread(test_transaction.dies, space, test_transaction.STEPS - 1)
    assert space.everything() != test_transaction.BEFORE
    async with started(space):
        assert space.everything() == test_transaction.BEFORE


async def test_figures_of_the_plugin_come_with_its_telemetry(space: Space) -> None:
    settings = {"roots": [str(space.work)], "telemetryIntervalSeconds": 0.01}
    async with hosted(space.data, settings, limits=Limits(heartbeat=0.02)) as host:
        await host.request("repo.tree", {})
        await host.until(
            "figures come", lambda seen: any("open_files" in each.further for each in seen.telemetry)
        )


async def test_a_root_does_not_hold_the_plugins_own_files(space: Space) -> None:
    for root in (space.data, space.data / "journal", space.data.parent):
        root.mkdir(exist_ok=True, parents=True)
        with pytest.raises(ValueError, match="own files"):
            workspace(RepoSettings(roots=[str(root)]), space.data)


async def test_changes_that_wait_keep_nobody_from_reading(space: Space) -> None:
    def changing() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("changing")}

    before = changing()
    async with hosted(space.data, {"roots": [str(space.work)]}) as host:
        with space.journal.locked(Halt(30)):
            waiting = [
                asyncio.create_task(host.request("repo.file.write", {"path": f"f{number}"}))
                for number in range(16)
            ]
            await until(lambda: len(changing() - before) == 4)
            async with asyncio.timeout(20):
                await host.request("repo.tree", {})
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)
