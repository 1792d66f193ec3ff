"""The host has used up its descriptors."""

import asyncio
import contextlib
import http.client
import json
import os
import resource
import socket
from pathlib import Path
from typing import Any

from faultsuite.client import now_ms
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row

# How many descriptors are left to the host when the fault begins.
LEFT = 20
# So that what is silent, and what is kept without a request, stays for as long as the fault.
CONFIG = "limits.first_byte_timeout_ms = 600000\nlimits.header_read_timeout_ms = 600000"
SAID, OVER = "no connection can be taken", "connections are taken again"


@row(
    "descriptors",
    fault="descriptors exhausted",
    bar="the accept loop backs off without spinning; who dials is answered; heals by itself",
)
async def descriptors(trial: Trial) -> None:
    """The limit of the running host is lowered to what it uses and twenty more, and silent connections
    take those. Whoever dials then must be answered 503; a connection from before must be served; a plugin
    that cannot be started must say why. The host's processor time is read from /proc. Then the limit is
    raised again, while the silent ones stay, and a new connection must be served."""
    async with trial.stage(ledger(entry={"restart": "always"}), config=CONFIG) as stage:
        kept = http.client.HTTPConnection("127.0.0.1", stage.client.port, timeout=30)
        assert ask(stage, kept, "GET", "/health")[0] == 200
        await stage.before()
        before = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{stage.pid}/fd"))
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (used + LEFT, before[1]))
        silent: list[socket.socket] = []
        try:
            while SAID not in log(stage):
                assert len(silent) < 4 * LEFT, "the limit holds"
                silent.append(socket.create_connection(("127.0.0.1", stage.client.port)))
                await asyncio.sleep(0.01)
            began, computed = now_ms(), seconds_computed(stage.pid)
            dialling = (stage.off_thread(dial, stage.client.port) for _ in range(trial.count(20, 200)))
            refused = await asyncio.gather(*dialling)
            trial.none("who dialled and was not answered 503", [one for one in refused if one != 503])
            status, _ = await stage.off_thread(ask, stage, kept, "POST", "/admin/plugins/ledger/restart")
            trial.equal("an order on a connection from before", status, 202)

            async def reason() -> str:
                _, shown = await stage.off_thread(ask, stage, kept, "GET", "/admin/plugins/ledger")
                return str(shown["reason"]) if "open files" in str(shown["reason"]) else ""

            said = await stage.until(reason, "the plugin says why it cannot be started")
            trial.figure("what the plugin that cannot be started says", said, "in words", bool(said))
            await asyncio.sleep(trial.count(2, 5))
            share = 100 * 1000 * (seconds_computed(stage.pid) - computed) / (now_ms() - began)
            trial.at_most("processor time of the host meanwhile", share, 50, "%")
        finally:
            resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, before)
        began = now_ms()
        await stage.until(lambda: dial(stage.client.port) == 200, "somebody new is served")
        trial.within("until new connections are served again", now_ms() - began, 1_500)
        await stage.until(lambda: OVER in log(stage), "it is said that it is over")
        trial.equal("how often it was said", log(stage).count(SAID), 1)
        await stage.until_serving()
        calls = [await stage.client.call() for _ in range(20)]
        trial.none("calls afterwards that failed", [call for call in calls if call.status != 200])
        for one in silent:
            one.close()
        kept.close()


def dial(port: int) -> int:
    """Somebody new: the status of the answer, 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status
    return 0


def ask(stage: Stage, connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, Any]:
    """An operator who was connected before."""
    connection.request(method, path, headers={"Authorization": f"Bearer {stage.host.key}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


def log(stage: Stage) -> str:
    """What the host has logged so far."""
    return stage.host.log.read_text(errors="replace")


def seconds_computed(pid: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
