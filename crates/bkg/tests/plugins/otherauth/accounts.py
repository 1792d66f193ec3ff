"""Users, keys and login sessions of `otherauth`, and who a token belongs to.

It knows nothing of the bus. Passwords and tokens are kept and compared as they are, which no provider
outside of tests may do. The invariant: every change makes the generation larger and is noted in
`announcements`, and `save` writes it together with its `operationId`. Called by `otherauth.py`.
"""

import json
import os
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# A token that is valid by itself: `test_<anything>~<scope>,<scope>;<option>;<option>`.
TEST_TOKEN = re.compile(r"(test_[^~]*)~([^;]*)((?:;[^;]*)*)")
# The user of every such token; it exists in no file and may give whatever the token may.
TESTER = {"id": "tester", "name": "tester", "role": "admin", "scopes": ["admin"]}
SESSION_LASTS = timedelta(hours=24)
KEY_LASTS = timedelta(days=90)


class Refusal(Exception):
    """The request is refused, for the reason that the error object gives."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"param": param} if param else {})


def now() -> datetime:
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def grants(scopes: list[str], wanted: str) -> bool:
    """Whether one of the scopes implies `wanted`: by name, family, area, or as `admin`."""
    return any(
        scope in ("admin", wanted)
        or (scope.endswith(".*") and wanted.startswith(scope[:-1]))
        or (scope.endswith(":manage") and wanted.startswith(scope.removesuffix("manage")))
        for scope in scopes
    )


def matches(pattern: str, name: str) -> bool:
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


class Accounts:
    """Everything that the provider knows."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.generation = 0
        self.users: dict[str, Json] = {}
        self.keys: dict[str, Json] = {}
        self.sessions: dict[str, Json] = {}
        self.revoked: list[str] = []
        self.operations: list[str] = []
        # Of whom the host must hear before the request is answered.
        self.announcements: list[Json] = []
        # What keys were last said to be worth, as the bounds of keys that are made with them.
        self.rights: dict[str, Json] = {}
        if file and file.exists():
            vars(self).update(json.loads(file.read_text()))

    def save(self) -> None:
        """Writes what a restart must find, durably and whole or not at all."""
        if self.file is None:
            return
        kept = ("generation", "users", "keys", "sessions", "revoked", "operations")
        draft = self.file.with_suffix(".new")
        with draft.open("w") as out:
            json.dump({name: getattr(self, name) for name in kept}, out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self.file)

    def changed(self, **whom: str) -> None:
        """Notes a change about one key, session or user."""
        self.generation += 1
        self.announcements.append({"generation": self.generation, **whom})

    def revoke(self, whom: Json) -> None:
        """Makes a token of the form `test_…` worthless, by its `keyId` or `sessionId`."""
        ((name, identity),) = whom.items()
        self.revoked.append(identity)
        self.changed(**{name: identity})

    # Credentials.

    def validate(self, token: str) -> Json:
        """What `auth.validate` answers."""
        try:
            rights = self.rights_of(token)
        except Refusal as refusal:
            return {"active": False, "reason": str(refusal), "generation": self.generation}
        if "keyId" in rights:
            self.rights[rights["keyId"]] = rights
        return {"active": True, **rights, "generation": self.generation}

    def rights_of(self, token: str) -> Json:
        """Who a token belongs to, or a refusal whose text is the `reason`."""
        if not self.users:
            raise Refusal("unauthorized", "unknown")
        for key in self.keys.values():
            if key["token"] == token:
                if (status := self.key_object(key)["status"]) != "active":
                    raise Refusal("unauthorized", status)
                key["lastUsedAt"] = rfc3339(now())
                shared = ("user", "userId", "scopes", "models", "plugins", "limits", "expiresAt")
                return {"keyId": key["id"], **{name: key[name] for name in shared}}
        for session in self.sessions.values():
            if session["token"] == token:
                if datetime.fromisoformat(session["expiresAt"]) <= now():
                    raise Refusal("unauthorized", "expired")
                return self.session_rights(session)
        if found := TEST_TOKEN.fullmatch(token):
            return self.test_rights(*found.groups())
        raise Refusal("unauthorized", "unknown")

    def session_rights(self, session: Json) -> Json:
        user = self.users[session["user"]]
        due = user["mustChangePassword"]
        return {
            "user": user["name"],
            "userId": user["id"],
            "sessionId": session["id"],
            "scopes": [] if due else user["scopes"],
            "expiresAt": session["expiresAt"],
            "authenticatedAt": session["createdAt"],
            "mustChangePassword": due,
        }

    def test_rights(self, identity: str, scopes: str, options: str) -> Json:
        if identity in self.revoked:
            raise Refusal("unauthorized", "revoked")
        rights: Json = {"user": TESTER["name"], "userId": TESTER["id"], "keyId": identity, "limits": {}}
        rights["scopes"] = [scope for scope in scopes.split(",") if scope]
        for option in options.split(";")[1:]:
            match option.partition("="):
                case ("models" | "plugins" as name, "=", names):
                    rights[name] = names.split(",") if names else []
                case ("rpm", "=", number) if number.isdecimal():
                    rights["limits"]["requestsPerMinute"] = int(number)
                case ("tpd", "=", number) if number.isdecimal():
                    rights["limits"]["tokensPerDay"] = int(number)
                # More digits are a year that Python has no date for.
                case ("expires", "=", number) if number.isdecimal() and len(number) <= 11:
                    end = datetime.fromtimestamp(int(number), UTC)
                    if end <= now():
                        raise Refusal("unauthorized", "expired")
                    rights["expiresAt"] = rfc3339(end)
                case ("since", "=", number) if number.isdecimal() and len(number) <= 11:
                    rights["authenticatedAt"] = rfc3339(datetime.fromtimestamp(int(number), UTC))
                case ("session", "", ""):
                    rights["sessionId"] = rights.pop("keyId")
                case _:
                    raise Refusal("unauthorized", "unknown")
        return rights

    def login(self, payload: Json) -> Json:
        user = self.users.get(payload["username"])
        if user is None or user["password"] != payload["password"]:
            raise Refusal("unauthorized", "the user name or the password is wrong")
        end = now() + SESSION_LASTS
        identity = secrets.token_hex(8)
        session = {"id": identity, "token": f"other_session_{secrets.token_hex(32)}", "user": user["name"]}
        self.sessions[identity] = session | {"createdAt": rfc3339(now()), "expiresAt": rfc3339(end)}
        user["lastLoginAt"] = rfc3339(now())
        self.changed(sessionId=identity)
        rights = self.session_rights(self.sessions[identity])
        shared = ("user", "userId", "sessionId", "scopes", "mustChangePassword")
        milliseconds = int(end.timestamp() * 1000)
        return {
            **{name: rights[name] for name in shared},
            "role": user["role"],
            "token": session["token"],
            "expires_at": milliseconds,
            # There is no `auth.refresh` here: this token opens nothing.
            "refreshToken": f"other_refresh_{secrets.token_hex(32)}",
            "refresh_expires_at": milliseconds,
        }

    def logout(self, payload: Json) -> Json:
        for session in list(self.sessions.values()):
            if session["id"] == payload.get("sessionId") or session["token"] == payload.get("token"):
                del self.sessions[session["id"]]
                self.changed(sessionId=session["id"])
        return {}

    def bootstrap(self, payload: Json) -> Json:
        if self.users:
            raise Refusal("conflict", "there are users already: log in as one of them")
        name = payload["user"]
        user = {"id": secrets.token_hex(8), "name": name, "displayName": name, "role": "admin"}
        user |= {"scopes": ["admin"], "disabled": False, "mustChangePassword": payload["mustChange"]}
        user |= {"createdAt": rfc3339(now()), "lastLoginAt": None, "password": payload["password"]}
        self.users[name] = user
        self.changed(userId=user["id"])
        shown = {member: value for member, value in user.items() if member != "password"}
        return {**shown, "keys": 0, "sessions": 0}

    # Keys.

    def create_key(self, payload: Json, caller: Json) -> Json:
        owner = self.owner(payload.get("user"), caller)
        for scope in payload["scopes"]:
            if not grants(caller["scopes"], scope):
                message = f"`{caller['user']}` does not have the scope `{scope}` and cannot give it"
                raise Refusal("forbidden", message)
        identity = secrets.token_hex(8)
        key = {"id": identity, "name": payload.get("name"), "user": owner["name"], "userId": owner["id"]}
        key |= {"scopes": payload["scopes"], "createdAt": rfc3339(now()), "createdBy": caller["user"]}
        key |= {"lastUsedAt": None, "revokedAt": None, **self.bounded(payload, caller)}
        key["token"] = f"other_key_{identity}_{secrets.token_hex(32)}"
        self.keys[identity] = key
        self.changed(keyId=identity)
        return {**self.key_object(key), "key": key["token"], "token": key["token"]}

    def bounded(self, payload: Json, caller: Json) -> Json:
        """Models, plugins, limits and expiry as asked for, within those of the key that asks."""
        bounds: Json = {}
        if maker := caller.get("keyId"):
            if maker not in self.rights:
                raise Refusal(
                    "forbidden", f"the key `{maker}` was not seen yet: use it once, then try again"
                )
            bounds = self.rights[maker]
        result: Json = {"limits": {}}
        for member in ("models", "plugins"):
            asked, bound = payload.get(member), bounds.get(member)
            if asked is not None and bound is not None:
                for name in asked:
                    if not any(matches(pattern, name) for pattern in bound):
                        message = f"the key that asks may not use `{name}` and cannot give it"
                        raise Refusal("forbidden", message, member)
            result[member] = bound if asked is None else asked
        for member in ("requestsPerMinute", "tokensPerDay"):
            both = [(bounds.get("limits") or {}).get(member), (payload.get("limits") or {}).get(member)]
            if numbers := [number for number in both if number is not None]:
                result["limits"][member] = min(numbers)
        ends = [bounds.get("expiresAt"), self.expiry(payload)]
        result["expiresAt"] = min((end for end in ends if end), key=datetime.fromisoformat, default=None)
        return result

    def expiry(self, payload: Json) -> str | None:
        if "expiresAt" in payload:
            end: str | None = payload["expiresAt"]  # Null is for ever.
            if end is not None and datetime.fromisoformat(end).tzinfo is None:
                raise Refusal("invalid_request", f"`{end}` has no zone: end it with `Z`", "expiresAt")
            return end
        days = payload.get("expiresInDays")
        return rfc3339(now() + (KEY_LASTS if days is None else timedelta(days=days)))

    def list_keys(self, payload: Json, caller: Json) -> Json:
        owner = payload.get("user")
        if owner is not None or not grants(caller["scopes"], "key:manage"):
            owner = self.owner(owner, caller)["name"]
        keys = [self.key_object(key) for key in self.keys.values() if owner in (None, key["user"])]
        return {"keys": keys}

    def revoke_key(self, payload: Json, caller: Json) -> Json:
        key = self.keys.get(payload["id"])
        if key is None:
            raise Refusal("not_found", f"there is no key `{payload['id']}`: `auth.listKeys` names them")
        self.owner(key["user"], caller)
        if key["revokedAt"] is None:
            key["revokedAt"] = rfc3339(now())
            self.changed(keyId=key["id"])
        return self.key_object(key)

    def owner(self, name: str | None, caller: Json) -> Json:
        """The user whose keys are meant, absent the caller, if the caller may deal with those."""
        name = caller["user"] if name is None else name
        wanted = "key:own" if name == caller["user"] else "key:manage"
        if not grants(caller["scopes"], wanted):
            raise Refusal("forbidden", f"the scope `{wanted}` is needed for the keys of `{name}`")
        for user in [TESTER, *self.users.values()]:
            if name in (user["name"], user["id"]):
                return user
        raise Refusal("not_found", f"there is no user `{name}`: name one that exists", "user")

    def key_object(self, key: Json) -> Json:
        end = key["expiresAt"]
        if key["revokedAt"] is not None:
            status = "revoked"
        elif end is not None and datetime.fromisoformat(end) <= now():
            status = "expired"
        else:
            status = "active"
        return {**{name: value for name, value in key.items() if name != "token"}, "status": status}
