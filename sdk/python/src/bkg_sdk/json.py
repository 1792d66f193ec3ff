"""What handlers and calls hand over and take: anything that becomes one JSON value, and types to read.

`RawJson` goes through as the text it is; everything else is written once. Names of JSON members are
camelCase: a field `delay_ms` of a dataclass is the member `delayMs`, in both directions. Structures of
`msgspec` and typed dictionaries say their own names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable
from typing import Any, TypeAlias, TypeVar, cast

import msgspec

from .protocol.error import ErrorCode, WireError

T = TypeVar("T")

Json: TypeAlias = Any
"""A JSON value: `None`, a truth value, a number, a text, a list or a dictionary. Whoever reads it narrows
it."""

RawJson = msgspec.Raw
"""JSON text that is passed on unread.

As a type to read it takes the text as it came; returned or sent, it travels unchanged.

>>> write(RawJson(b'{"n": 1.50}'))
b'{"n": 1.50}'
"""

_checker = msgspec.json.Decoder(msgspec.Raw)


def _as_base(value: object) -> object:
    """A subclass of a plain value, such as the numbers of numeric libraries, is written as that value."""
    for base in (str, int, float):
        if isinstance(value, base):
            return base(value)
    raise TypeError(f"`{type(value).__name__}` has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_as_base)
_PLAIN = frozenset([type(None), bool, int, float, str, msgspec.Raw])


def write(value: object) -> bytes:
    """The JSON text of a value. Raises `TypeError` or `ValueError` where it has none.

    >>> write({"pong": True})
    b'{"pong":true}'
    """
    return _checked(bytes(value) if isinstance(value, msgspec.Raw) else _encoder.encode(_plain(value)))


def raw(value: object) -> RawJson:
    """The JSON of a value, ready to travel. Raises as `write` does."""
    return msgspec.Raw(write(value))


def _checked(text: bytes) -> bytes:
    """A `RawJson` anywhere in a value is only claimed to be JSON. A frame with anything else would be lost
    on the host, and whoever waits for it with it."""
    try:
        _checker.decode(text)
        if not text.isascii():
            text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        if not _holds_half_a_pair(text):
            raise ValueError(f"it holds a `RawJson` that is not JSON: {problem}") from None
    return text


def _holds_half_a_pair(text: bytes) -> bool:
    """Whether it is JSON all the same: a `\\ud800` alone is, and `msgspec` does not take it."""
    try:
        json.loads(text, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return b"\\u" in text


def _plain(value: object) -> object:
    """The value with its dataclasses as objects; what holds none is handed back as it is."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        members = cast("dict[object, object]", value)
        if set(map(type, members.values())) <= _PLAIN:
            return value
        return {name: _plain(member) for name, member in members.items()}
    if kind in (list, tuple, set, frozenset):
        items = cast("list[object]", value)
        if set(map(type, items)) <= _PLAIN:
            return value
        return [_plain(item) for item in items]
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, HasJson):
        return _plain(value.json_value())
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields}
    return value


@typing.runtime_checkable
class HasJson(typing.Protocol):
    """Whatever knows its own JSON, such as `RouteAnswer`."""

    def json_value(self) -> object:
        """The value that travels."""
        ...


def read(text: RawJson, wanted: type[T]) -> T:
    """Reads JSON as a type: a dataclass, a typed dictionary, `int`, `list[str]` …

    Raises `Misfit` with the member that does not fit.

    >>> @dataclasses.dataclass
    ... class Range:
    ...     n: int
    ...     delay_ms: int = 0
    >>> read(RawJson(b'{"n": 3, "delayMs": 5}'), Range)
    Range(n=3, delay_ms=5)
    >>> read(RawJson(b'{}'), Range)
    Traceback (most recent call last):
    bkg_sdk.json.Misfit: the member `n` is missing
    """
    try:
        found = _decoder(cast("Hashable", wanted)).decode(text)
        return cast("T", _built(found))
    except msgspec.DecodeError as problem:
        raise Misfit.of(str(problem)) from None
    except UnicodeDecodeError:
        raise Misfit("the text is not UTF-8", None) from None
    except RecursionError:
        raise Misfit("it is nested too deeply", None) from None


class Misfit(ValueError):
    """JSON does not fit the type that it was to be read as; `member` is where, such as
    `messages[0].role`."""

    def __init__(self, message: str, member: str | None) -> None:
        super().__init__(message)
        self.member = member

    @classmethod
    def of(cls, problem: str) -> Misfit:
        """Says in the words of this project what the reader found."""
        problem, _, place = problem.partition(" - at `")
        place = place.removesuffix("`").removeprefix("$").removeprefix(".")
        missing = "Object missing required field `"
        if problem.startswith(missing):
            name = problem.removeprefix(missing).removesuffix("`")
            place = f"{place}.{name}" if place else name
            return cls(f"the member `{place}` is missing", place)
        problem = problem[:1].lower() + problem[1:]
        return cls(f"`{place}`: {problem}", place) if place else cls(problem, None)

    def as_error(self, code: ErrorCode, what: str) -> WireError:
        """The failure that says so to whoever sent the JSON."""
        return WireError(code, f"{what} cannot be read: {self}", param=self.member)


class _Mirror(msgspec.Struct):
    """What a dataclass is read through, since only such a structure has members of other names."""


@functools.lru_cache(maxsize=1024)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_mirrored(wanted, ()))


def _mirrored(wanted: Any, inside: tuple[Any, ...]) -> Any:
    """The type with every dataclass in it replaced by its mirror."""
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        return _mirror(wanted, inside)
    arguments = typing.get_args(wanted)
    if not arguments or typing.get_origin(wanted) is typing.Literal:
        return wanted
    origin = typing.get_origin(wanted)
    if origin is typing.Annotated:
        return typing.Annotated[(_mirrored(arguments[0], inside), *arguments[1:])]
    replaced = tuple(each if each is Ellipsis else _mirrored(each, inside) for each in arguments)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[replaced]  # noqa: UP007 - the members are not known here
    return origin[replaced] if origin is not None else wanted


_mirrors: dict[type, type[_Mirror]] = {}
_mirrored_by: dict[type[_Mirror], type] = {}


def _mirror(wanted: type, inside: tuple[Any, ...]) -> type[_Mirror]:
    if wanted in _mirrors:
        return _mirrors[wanted]
    if wanted in inside:
        raise TypeError(f"`{wanted.__name__}` contains itself: read it as a `msgspec.Struct` instead")
    hints = typing.get_type_hints(wanted, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in dataclasses.fields(wanted):
        if not each.init:
            continue
        kind = _mirrored(hints[each.name], (*inside, wanted))
        if each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING:
            # The dataclass itself puts its default where the member is absent.
            fields.append((each.name, kind | msgspec.UnsetType, msgspec.UNSET))
        else:
            fields.append((each.name, kind))
    mirror = cast(
        "type[_Mirror]",
        msgspec.defstruct(
            wanted.__name__,
            fields,
            bases=(_Mirror,),
            rename={name[0]: _camel(name[0]) for name in fields},
            kw_only=True,
        ),
    )
    _mirrors[wanted] = mirror
    _mirrored_by[mirror] = wanted
    return mirror


def _built(found: object) -> object:
    """The value with every mirror replaced by the dataclass that it stands for."""
    kind = type(found)
    if isinstance(found, _Mirror):
        said = {name: getattr(found, name) for name in found.__struct_fields__}
        members = {name: _built(member) for name, member in said.items() if member is not msgspec.UNSET}
        try:
            return _mirrored_by[type(found)](**members)
        except (TypeError, ValueError) as problem:
            raise Misfit(str(problem), None) from None
    if kind is list:
        items = cast("list[object]", found)
        return found if set(map(type, items)) <= _PLAIN else [_built(item) for item in items]
    if kind is dict:
        return {name: _built(member) for name, member in cast("dict[object, object]", found).items()}
    if kind in (tuple, set, frozenset):
        return kind(_built(item) for item in cast("tuple[object, ...]", found))
    return found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)
