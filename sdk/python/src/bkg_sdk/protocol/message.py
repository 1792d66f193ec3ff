"""Every message of the bus, and the structures in them.

These types say what a frame *means*; `frame` turns them into text and back. Whether a message is allowed
at this moment is decided by `host` and `plugin`. Payloads stay the JSON text that they are
(`msgspec.Raw`): whoever wants the value reads it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from .error import ErrorCode, WireError, error_of_raw, error_to_raw
from .name import CAPABILITY_NAME, MAX_CAPABILITY_NAME, MAX_REQUEST_ID

PROTOCOL_VERSION = 1
"""The version of the protocol that this package speaks."""

RequestId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_REQUEST_ID)]
CapabilityName: TypeAlias = Annotated[
    str, Meta(pattern=rf"^(?:{CAPABILITY_NAME})\Z", max_length=MAX_CAPABILITY_NAME)
]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

NULL = Raw(b"null")
"""The JSON value `null`."""


class Message(Struct, tag_field="type", rename="camel", omit_defaults=True, kw_only=True):
    """Anything that is the whole of a frame."""


class Part(Struct, rename="camel", omit_defaults=True, frozen=True):
    """Anything that is a part of a message."""


class LogLevel(StrEnum):
    """How much a log line matters.

    >>> LogLevel.WARN.value
    'warn'
    """

    TRACE = "trace"
    """Every step."""
    DEBUG = "debug"
    """What a developer wants to see."""
    INFO = "info"
    """What an operator wants to see."""
    WARN = "warn"
    """Someone should look."""
    ERROR = "error"
    """Something is lost."""


class CancelReason(StrEnum):
    """Why a request was given up.

    >>> CancelReason("caller_gone")
    <CancelReason.CALLER_GONE: 'caller_gone'>
    """

    CALLER_GONE = "caller_gone"
    """Whoever asked has left."""
    DEADLINE = "deadline"
    """The time that the caller allowed is over."""
    SHUTDOWN = "shutdown"
    """One side is shutting down."""
    FLOW_CONTROL = "flow_control"
    """More chunks came than there was credit for."""
    PROTOCOL = "protocol"
    """The answer broke the protocol, so the rest of it is worthless."""
    OTHER = "other"
    """A reason that this version does not know."""


class Model(Part, frozen=True):
    """A model that a plugin serves.

    >>> Model("scribe/large", "llm.chat", context_length=8192).id
    'scribe/large'
    """

    id: str
    """The id that clients name; it may contain slashes."""
    capability: CapabilityName
    """Which capability answers for it: `llm.chat` or `llm.embed`."""
    owned_by: str | None = None
    """Whom `/v1/models` names as owner; the plugin, if absent."""
    context_length: Count | None = None
    """How many tokens fit, prompt and answer together."""
    dimensions: Count | None = None
    """The length of its embedding vectors."""


class Route(Part, frozen=True):
    """An HTTP route bound to a capability.

    >>> Route("GET", "/pages/{page}", "wiki.page").streaming
    False
    """

    method: str
    """The HTTP method, in capitals."""
    path: str
    """The path below the plugin's prefix: `{name}` is one segment, `{*name}` at the end all that is
    left."""
    capability: CapabilityName
    """What answers it."""
    streaming: bool = False
    """Whether the answer is streamed."""


class Tool(Part, frozen=True):
    """A function that a language model may call. The host keeps it, and does not act upon it yet.

    >>> Tool("write_page", "wiki.write", description="Writes a page").side_effect
    False
    """

    name: str
    """The function's name."""
    capability: CapabilityName
    """What answers it."""
    description: str = ""
    """What it is for, in words that the model reads."""
    parameters: Any = None
    """JSON Schema of its arguments."""
    side_effect: bool = False
    """Whether it changes something, so that someone must approve it."""


class UiSlot(Part, frozen=True):
    """A page or panel of the control centre. The host keeps it, and does not act upon it yet.

    >>> UiSlot("page", "Pages", "pages.json").title
    'Pages'
    """

    slot: str
    """Where it appears."""
    title: str
    """What it is called there."""
    entry: str
    """Which file or panel description it shows."""


class DescribedCapability(Part, frozen=True):
    """What a registration says of a capability.

    >>> DescribedCapability("llm.chat", streaming=True).idempotent
    False
    """

    id: CapabilityName
    """The dotted name."""
    description: str | None = None
    """One sentence for people."""
    input_schema: Any = None
    """JSON Schema of `payload`."""
    output_schema: Any = None
    """JSON Schema of `data`."""
    streaming: bool = False
    """Whether it answers a request with `stream` in chunks."""
    idempotent: bool = False
    """Whether asking twice does no more than asking once, so that it may be tried again."""
    side_effect: bool = False
    """Whether it changes something outside the plugin."""
    timeout_ms: Count | None = None
    """How long one request may take, unless its caller wants less."""
    max_concurrency: Count | None = None
    """How many requests one instance takes at a time."""


class Register(Message, tag="register", kw_only=True):
    """`register`: who this is and what it offers."""

    plugin: str
    port: Literal["internal"] | Annotated[int, Meta(ge=0, le=65535)]
    capabilities: list[DescribedCapability]
    meta: dict[str, Any] = field(default_factory=dict)
    config_schema: Any = None
    protocol: Count | None = None
    version: str | None = None
    token: str | None = None
    resume: str | None = None
    models: list[Model] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    ui: list[UiSlot] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Port 0 is what a plugin says that took no port after all.
        self.port = self.port or "internal"

    def takes_hot_config(self) -> bool:
        """Whether the plugin takes new settings without a restart."""
        return self.meta.get("hotConfig") is True

    def takes_dry_runs(self) -> bool:
        """Whether the plugin says what it thinks of settings without putting them in force."""
        return self.meta.get("configDryRun") is True

    def __repr__(self) -> str:
        return f"Register({self.plugin!r}, {len(self.capabilities)} capabilities)"


class Health(Message, tag="health", kw_only=True):
    """`health`: how the plugin feels."""

    plugin: str | None = None
    status: str
    detail: str | None = None


class Telemetry(Message, tag="telemetry", kw_only=True):
    """`telemetry`: figures about the plugin's own process; `further` stands beside the others in a
    frame."""

    plugin: str | None = None
    cpu: float | None = None
    mem_bytes: float | None = None
    further: dict[str, Any] = field(default_factory=dict)


class Log(Message, tag="log", kw_only=True):
    """`log`: one line for people. A `timestamp` is RFC 3339 in UTC."""

    plugin: str | None = None
    level: LogLevel
    message: str
    timestamp: Annotated[str, Meta(pattern=r"Z\Z")] | None = None
    fields: Raw | UnsetType = UNSET
    request_id: RequestId | None = None


class Caller(Part, frozen=True):
    """On whose behalf a request is made.

    >>> "llm.chat" in Caller("ada", scopes=("llm.chat",)).scopes
    True
    """

    user: str
    """The user's name; `root` for the host's own credential."""
    key_id: str | None = None
    """The API key, where one was used."""
    scopes: tuple[str, ...] = ()
    """What the caller may do."""


class HttpRequest(Part, frozen=True, omit_defaults=False):
    """The HTTP request behind a route's `request`.

    >>> http = HttpRequest("GET", "/pages/a%20b", params={"page": "a b"}, query=[("v", "1"), ("v", "2")])
    >>> http.param("page"), http.query_value("v"), http.header("accept")
    ('a b', '1', None)
    """

    method: str
    """The method, in capitals."""
    path: str
    """The path below the plugin's prefix, as it was sent."""
    params: dict[str, str] = field(default_factory=dict)
    """What the `{name}` segments stood for, decoded."""
    query: list[tuple[str, str]] = field(default_factory=list)
    """The query, decoded, in order."""
    headers: dict[str, str] = field(default_factory=dict)
    """The headers that the host passes on, names in lower case."""
    body: Literal["none", "json", "form", "text", "base64"] = "none"
    """What the payload is made of."""

    def param(self, name: str) -> str | None:
        """What a `{name}` of the route's path stood for, decoded."""
        return self.params.get(name)

    def query_value(self, name: str) -> str | None:
        """The value of a query parameter, decoded; the first, if there are several."""
        return next((value for key, value in self.query if key == name), None)

    def header(self, name: str) -> str | None:
        """The value of a header that the host passes on."""
        return self.headers.get(name.lower())


class Request(Message, tag="request", kw_only=True):
    """`request`: asks for a capability. Both directions; the asker's half assigns `request_id`."""

    request_id: RequestId
    capability: CapabilityName
    payload: Raw
    token: str | None = None
    stream: bool = False
    credit: Count | None = None
    timeout_ms: Count | None = None
    caller: Caller | None = None
    correlation_id: str | None = None
    parent_request_id: RequestId | None = None
    traceparent: str | None = None
    http: HttpRequest | None = None

    def __repr__(self) -> str:
        return f"Request({self.request_id!r}, {self.capability!r})"


class Response(Message, tag="response", kw_only=True):
    """`response`: the one and last answer to a `request`. Both directions."""

    request_id: RequestId
    success: bool
    data: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET

    @classmethod
    def of(cls, request_id: str, outcome: Raw | WireError) -> Response:
        """The response that carries an outcome."""
        if isinstance(outcome, WireError):
            return cls(request_id=request_id, success=False, error=error_to_raw(outcome))
        return cls(request_id=request_id, success=True, data=outcome)

    def outcome(self) -> Raw | WireError:
        """`data` or `error`: `success` decides, whatever else is present."""
        if self.success:
            return NULL if self.data is UNSET else self.data
        if self.error is UNSET or bytes(self.error) == b"null":
            return WireError(ErrorCode.PLUGIN_ERROR, "the plugin failed and gave no reason")
        return error_of_raw(self.error)


class Chunk(Message, tag="chunk", kw_only=True):
    """`chunk`: a part of a streamed answer. Both directions."""

    request_id: RequestId
    seq: Count
    data: Raw


class Cancel(Message, tag="cancel", kw_only=True):
    """`cancel`: the answer is no longer wanted. Both directions."""

    request_id: RequestId
    reason: CancelReason


class Credit(Message, tag="credit", kw_only=True):
    """`credit`: further chunks may be sent. Both directions."""

    request_id: RequestId
    n: Count


class Update(Message, tag="update", kw_only=True):
    """Replaces whole lists of the registration; a list that is left out stays as it is.

    >>> Update(models=[Model("scribe/small", "llm.chat")]).routes is None
    True
    """

    models: list[Model] | None = None
    """All models from now on."""
    routes: list[Route] | None = None
    """All routes from now on."""
    tools: list[Tool] | None = None
    """All tools from now on."""
    capabilities: list[DescribedCapability] | None = None
    """All capabilities from now on."""
    meta: dict[str, Any] | None = None
    """All facts about the plugin from now on."""
    config_schema: Any = None
    """The schema of the settings from now on."""

    def applied_to(self, registration: Register) -> Register:
        """What the registration becomes when the update holds."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(
            registration, **{name: value for name, value in said.items() if value is not None}
        )


class Subscribe(Message, tag="subscribe", kw_only=True):
    """`subscribe`: wants the events of a topic."""

    topic: str


class Unsubscribe(Message, tag="unsubscribe", kw_only=True):
    """`unsubscribe`: no longer wants the events of a topic."""

    topic: str


class Publish(Message, tag="publish", kw_only=True):
    """`publish`: an event for whoever subscribed."""

    topic: str
    data: Raw


class Event(Message, tag="event", kw_only=True):
    """An event of a topic that the plugin subscribed to.

    >>> Event(topic="orders", data={"id": 7}).data["id"]
    7
    """

    topic: str
    """The topic's name."""
    data: Any
    """The event."""
    client: str | None = None
    """Which browser sent it, on a channel."""


class ConfigApplied(Message, tag="configApplied", kw_only=True):
    """`configApplied`: whether a pushed configuration is in force; of a dry run, whether it could be."""

    revision: Count
    success: bool
    error: Raw | UnsetType = UNSET
    dry_run: bool = False


class AuthChanged(Message, tag="authChanged", kw_only=True):
    """What the auth provider said before `generation` no longer holds, for whom it names, or for everybody.

    >>> AuthChanged(generation=12, key_id="key-1").user_id is None
    True
    """

    generation: Count
    """The first generation in which the change holds."""
    key_id: str | None = None
    """The key that changed."""
    session_id: str | None = None
    """The login session that changed."""
    user_id: str | None = None
    """The user that changed."""


class GrantedLimits(Part, frozen=True):
    """What the host accepts from a plugin."""

    max_frame_bytes: Count
    max_chunk_bytes: Count
    stream_credit: Count


class Registered(Message, tag="registered", kw_only=True):
    """`registered`: the registration holds, and on what terms."""

    protocol: Count
    instance: str
    resume: str
    heartbeat_ms: Count
    limits: GrantedLimits
    config: Raw
    config_revision: Count

    def __repr__(self) -> str:
        return f"Registered(instance={self.instance!r})"


class Rejected(Message, tag="rejected", kw_only=True):
    """`rejected`: the registration is refused."""

    code: str
    message: str


class Updated(Message, tag="updated", kw_only=True):
    """`updated`: whether an `update` holds."""

    success: bool
    error: Raw | UnsetType = UNSET


class Config(Message, tag="config", kw_only=True):
    """`config`: the whole of new settings, to be put in force or, as a dry run, only to be tried."""

    revision: Count
    config: Raw
    dry_run: bool = False


class Drain(Message, tag="drain", kw_only=True):
    """`drain`: take no new work, finish, close with 1000."""

    deadline_ms: Count


PluginMessage: TypeAlias = (
    Register
    | Health
    | Telemetry
    | Log
    | Response
    | Chunk
    | Request
    | Cancel
    | Credit
    | Update
    | Subscribe
    | Unsubscribe
    | Publish
    | ConfigApplied
    | AuthChanged
)
"""What a plugin says to the host."""

HostMessage: TypeAlias = (
    Registered | Rejected | Updated | Request | Response | Chunk | Cancel | Credit | Event | Config | Drain
)
"""What the host says to a plugin."""


def timestamp_text(at: datetime) -> str:
    """A time as it travels: RFC 3339 in UTC, without zeros at the end of its fraction."""
    text = at.astimezone(UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "Z"
