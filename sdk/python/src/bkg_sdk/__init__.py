"""Write a Backplane plugin in Python.

A plugin is a program that the host launches, that says over one WebSocket what it can answer, and answers
it. This is a complete one:

    from bkg_sdk import Plugin, Request

    plugin = Plugin()

    @plugin.answer("greeter.greet")
    async def greet(request: Request) -> dict[str, str]:
        return {"greeting": f"hello {request.read(str)}"}

    plugin.run()

`Plugin` is where to start, `Host` is what a plugin can do besides answering, and `bkg_sdk.testing.TestHost`
runs a plugin in a test without a daemon or a port. The SDKs of other languages have the same files under
the same names.
"""

from .call import CallStream
from .capability import Capability
from .config import Settings
from .environment import Environment
from .error import (
    BkgError,
    CallError,
    CallFailed,
    CallTooLarge,
    ChunkTooLarge,
    DefinitionError,
    Disconnected,
    ErrorCode,
    MissingEnvironment,
    NotConnected,
    Rejected,
    RunError,
    SendError,
    StreamOver,
    TimedOut,
    Unreachable,
    WireError,
    WrongEnvironment,
)
from .events import Subscription
from .host import Authorization, Health, Host
from .json import Json, RawJson
from .log import LogHandler
from .plugin import Plugin
from .protocol.message import (
    AuthChanged,
    Caller,
    CancelReason,
    DescribedCapability,
    Event,
    HttpRequest,
    LogLevel,
    Model,
    Route,
    Tool,
    UiSlot,
    Update,
)
from .request import Request
from .route import BodyBytes, RouteAnswer
from .stream import ChunkSink

__all__ = [
    "AuthChanged",
    "Authorization",
    "BkgError",
    "BodyBytes",
    "CallError",
    "CallFailed",
    "CallStream",
    "CallTooLarge",
    "Caller",
    "CancelReason",
    "Capability",
    "ChunkSink",
    "ChunkTooLarge",
    "DefinitionError",
    "DescribedCapability",
    "Disconnected",
    "Environment",
    "ErrorCode",
    "Event",
    "Health",
    "Host",
    "HttpRequest",
    "Json",
    "LogHandler",
    "LogLevel",
    "MissingEnvironment",
    "Model",
    "NotConnected",
    "Plugin",
    "RawJson",
    "Rejected",
    "Request",
    "Route",
    "RouteAnswer",
    "RunError",
    "SendError",
    "Settings",
    "StreamOver",
    "Subscription",
    "TimedOut",
    "Tool",
    "UiSlot",
    "Unreachable",
    "Update",
    "WireError",
    "WrongEnvironment",
]
