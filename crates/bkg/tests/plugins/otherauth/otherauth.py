"""An auth provider of another make, without an SDK: the proof that the one named `apikeys` can be swapped.

It keeps `docs/auth-provider.md`: a change is saved, then announced with `authChanged`, and only then is
its request answered. One loop reads and answers in order, so nothing of it happens at the same time.
`otherauth.*` are the handles by which a test holds it up; README.md lists them.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from accounts import Accounts, Json, Refusal
from websocket import Closed, WebSocket

# What an instance without users still answers: rule 5 of the contract.
ALWAYS_ANSWERED = ("auth.bootstrap", "auth.validate")
Answer = Callable[[Json, Json], Json]


class Provider:
    """The provider's process: one session, and the handles that tests have moved."""

    def __init__(self, entry: Json) -> None:
        self.name: str = entry["name"]
        remembers = (entry.get("settings") or {}).get("remember", True)
        directory = os.environ.get("BKG_PLUGIN_DATA_DIR") if remembers else None
        self.accounts = Accounts(Path(directory) / "accounts.json" if directory else None)
        self.socket: WebSocket | None = None
        self.heartbeat_ms = 10_000
        self.answered = 0
        self.holds = False
        self.hangs = False
        self.failure: str | None = None
        # Validations that are not answered yet, each with its answer if that is only kept back.
        self.waiting: dict[str, Json | None] = {}
        accounts = self.accounts
        self.answers: dict[str, Answer] = {
            "auth.login": lambda payload, _: accounts.login(payload),
            "auth.logout": lambda payload, _: accounts.logout(payload),
            "auth.bootstrap": lambda payload, _: accounts.bootstrap(payload),
            "auth.createKey": accounts.create_key,
            "auth.listKeys": accounts.list_keys,
            "auth.revokeKey": accounts.revoke_key,
            "auth.outcome": self.outcome,
            "otherauth.revoke": self.revoke,
            "otherauth.announce": self.announce,
            "otherauth.hold": lambda *_: self.turn(holds=True),
            "otherauth.held": lambda *_: {"count": len(self.waiting)},
            "otherauth.hang": lambda payload, _: self.turn(hangs=payload["on"]),
            "otherauth.fail": lambda payload, _: self.turn(failure=payload.get("code")),
            "otherauth.execute": lambda payload, _: payload,
            "otherauth.count": lambda *_: {"count": self.answered},
            "otherauth.generation": lambda *_: {"generation": accounts.generation},
            "otherauth.forget": self.forget,
        }

    async def run(self) -> None:
        """Serves until the host closes the session; a lost one is for the host to notice."""
        self.socket = await WebSocket.connect(os.environ["BKG_PLUGIN_BUS_URL"])
        capabilities = ["auth.validate", "otherauth.release", *self.answers]
        offer: Json = {"plugin": self.name, "version": "1.0.0", "port": "internal"}
        offer["capabilities"] = capabilities
        offer["routes"] = [
            {"method": method, "path": path, "capability": "otherauth.count"}
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
            for path in ("/", "/otherauth")
        ]
        secret = os.environ.get("BKG_PLUGIN_TOKEN")
        await self.send({"type": "register", "protocol": 1, "token": secret, **offer})
        beating = asyncio.create_task(self.beat())
        try:
            while True:
                await self.take(json.loads(await self.socket.receive_text()))
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError, Closed):
                await beating

    async def beat(self) -> None:
        while True:
            await self.send({"type": "health", "plugin": self.name, "status": "up"})
            await asyncio.sleep(self.heartbeat_ms / 1000)

    async def take(self, frame: Json) -> None:
        """Does what one frame of the host asks."""
        match frame["type"]:
            case "registered":
                self.heartbeat_ms = frame["heartbeatMs"]
            case "rejected":
                print(f"rejected: {frame['code']}: {frame['message']}", file=sys.stderr)
            case "request" if frame["capability"] == "auth.validate":
                await self.validate(frame)
            case "request" if frame["capability"] == "otherauth.release":
                await self.release(frame)
            case "request":
                await self.answer(frame)
            case "cancel" if frame["requestId"] in self.waiting:
                del self.waiting[frame["requestId"]]
                await self.fail(frame["requestId"], {"code": "cancelled", "message": "the caller gave up"})
            case "drain":
                await self.release_all()
                await self.socket_now().close(1000)
                raise Closed(1000)

    async def validate(self, frame: Json) -> None:
        """Answers at once, later, or not at all, as the test wants it."""
        request = frame["requestId"]
        if self.hangs:
            self.waiting[request] = None
        elif self.failure is not None:
            self.answered += 1
            await self.fail(request, {"code": self.failure, "message": "a test wants this to fail"})
        else:
            verdict = self.accounts.validate(frame["payload"]["token"])
            if self.holds:
                self.waiting[request] = verdict
            else:
                await self.respond(request, verdict)
                self.answered += 1

    async def release(self, frame: Json) -> None:
        count = await self.release_all()
        await self.respond(frame["requestId"], {"count": count})

    async def release_all(self) -> int:
        """Ends the hold and sends what it kept back, in the order of the questions."""
        self.holds = False
        ready = {request: verdict for request, verdict in self.waiting.items() if verdict is not None}
        for request, verdict in ready.items():
            del self.waiting[request]
            await self.respond(request, verdict)
            self.answered += 1
        return len(ready)

    async def answer(self, frame: Json) -> None:
        """Answers one request; what it changed is saved and announced first."""
        request, accounts = frame["requestId"], self.accounts
        # Through a route of its own it may get anything.
        payload = frame["payload"] if isinstance(frame["payload"], dict) else {}
        try:
            data = self.outcome_of(frame["capability"], payload, frame.get("caller") or {})
        except Refusal as refusal:
            await self.fail(request, refusal.error)
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            message = f"the payload does not fit: {problem!r}"
            await self.fail(request, {"code": "invalid_request", "message": message})
        else:
            while accounts.announcements:
                await self.send({"type": "authChanged", **accounts.announcements.pop(0)})
            await self.respond(request, data)

    def outcome_of(self, capability: str, payload: Json, caller: Json) -> Json:
        accounts, operation = self.accounts, payload.get("operationId")
        answer = self.answers.get(capability)
        if answer is None:
            raise Refusal("not_found", f"`{capability}` is not offered: the registration lists what is")
        if not (accounts.users or capability in ALWAYS_ANSWERED or capability.startswith("otherauth.")):
            raise Refusal("not_initialised", "there are no users yet: `auth.bootstrap` makes the first")
        if operation in accounts.operations:
            raise Refusal("conflict", f"the operation `{operation}` was done before")
        data = answer(payload, caller)
        if operation is not None:
            accounts.operations.append(operation)
        if operation is not None or accounts.announcements:
            accounts.save()
        return data

    def outcome(self, payload: Json, _: Json) -> Json:
        done = self.accounts.operations
        asked: list[str] = payload["operationIds"]
        return {"outcomes": {name: "done" if name in done else "unknown" for name in asked}}

    def revoke(self, payload: Json, _: Json) -> Json:
        self.accounts.revoke({name: payload[name] for name in ("keyId", "sessionId") if name in payload})
        return {"generation": self.accounts.generation}

    def announce(self, payload: Json, _: Json) -> Json:
        self.accounts.changed(keyId=payload["keyId"])
        return {"generation": self.accounts.generation}

    def forget(self, payload: Json, _: Json) -> Json:
        self.accounts.generation = int(payload["generation"])
        self.accounts.save()
        return {"generation": self.accounts.generation}

    def turn(self, **handles: bool | str | None) -> Json:
        vars(self).update(handles)
        return {}

    async def respond(self, request: str, data: Json) -> None:
        await self.send({"type": "response", "requestId": request, "success": True, "data": data})

    async def fail(self, request: str, error: Json) -> None:
        await self.send({"type": "response", "requestId": request, "success": False, "error": error})

    async def send(self, frame: Json) -> None:
        await self.socket_now().send_text(json.dumps(frame))

    def socket_now(self) -> WebSocket:
        if self.socket is None:
            raise Closed(1006)
        return self.socket


def main() -> None:
    """Reads the entry that the host left for this launch, and serves."""
    entry = json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())
    try:
        asyncio.run(Provider(entry).run())
    except Closed as closed:
        # Any code but 0 has the host start the plugin anew; a session that ended well is no failure.
        sys.exit(0 if closed.code == 1000 else f"session over: {closed}")


if __name__ == "__main__":
    main()
