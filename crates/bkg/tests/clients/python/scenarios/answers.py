"""What a `ping` answers to one question: the same JSON, the same failures.

Asked by `invoke`, so that the base contract is asked the same. Texts of failures differ between
languages; code, status and parameter do not.
"""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

from scenarios.scenario import Group, Need, Ping

_group = Group()
SCENARIOS = _group.scenarios


@_group.harmless()
def a_ping_is_answered_by_a_pong(ping: Ping) -> None:
    payloads: list[Any] = [None, {}, [1, 2], "ping"]
    for payload in payloads:
        assert ping.gets("ping", payload) == {"pong": True}


def meaning(text: str | bytes) -> Any:
    """What a JSON text says: an integer is no fraction, true is not 1, and members have no order."""

    def of(value: Any) -> Any:
        match value:
            case bool() | None | str():
                return value
            case int():
                return ("integer", value)
            case list():
                return [of(item) for item in value]
            case dict():
                return {name: of(member) for name, member in value.items()}
        return value

    return of(json.loads(text, parse_float=lambda digits: ("fraction", Fraction(digits))))


def echoes(ping: Ping, payload: str) -> None:
    """Fails if the payload comes back as anything else."""
    body = f'{{"capability": "{ping.capability("echo")}", "payload": {payload}}}'
    answer = ping.host.http("POST", f"/api/plugins/{ping.name}/invoke", body.encode())
    assert answer.status == 200, answer.body
    assert meaning(answer.body) == {"data": meaning(payload)}, payload[:200]


@_group.harmless()
def an_echo_keeps_plain_values(ping: Ping) -> None:
    for payload in ("null", "true", "false", '""', "[]", "{}", '{"a":null}', "[[],{}]", "[null,false,0]"):
        echoes(ping, payload)


@_group.harmless()
def an_echo_keeps_integers_of_any_size(ping: Ping) -> None:
    # 2^53 + 1 is the first integer that no double holds, 2^64 the first beyond a machine's words.
    for number in ("0", "-1", "9007199254740993", "-9007199254740993", "18446744073709551616"):
        echoes(ping, number)
    echoes(ping, '{"deep":[{"id":1234567890123456789012345678901234567890}],"id":12345678901234567}')


@_group.harmless()
def an_echo_keeps_the_difference_between_1_and_1_0(ping: Ping) -> None:
    echoes(ping, "[1,1.0,-1.0,0.0,100.0,1]")
    echoes(ping, '{"a":2.0,"b":2}')


@_group.harmless()
def an_echo_keeps_fractions(ping: Ping) -> None:
    echoes(ping, "[0.1,-0.5,1.5e-10,2.5e20,1.25,3.141592653589793]")


@_group.harmless()
def an_echo_keeps_texts(ping: Ping) -> None:
    for text in (
        r'"\u0000"',
        r'"a\u0000b"',
        r'"\"\\\/\b\f\n\r\t"',
        '"\u2028\u2029"',
        '"J\u00fcrg \u0130\u0131"',
    ):
        echoes(ping, text)
    # A pair of surrogates is one character, written either way.
    echoes(ping, r'["\ud83d\ude00","' + "\U0001f600" + '"]')
    echoes(ping, '"\ufeff \ufffd \uffff \U0010ffff"')


@_group.harmless()
def an_echo_keeps_half_a_character(ping: Ping) -> None:
    # JSON allows it, and JavaScript programs write it.
    for text in (r'"\ud800"', r'"a\udc00b"', r'{"\ud83d":1}'):
        echoes(ping, text)


@_group.harmless()
def an_echo_keeps_names(ping: Ping) -> None:
    echoes(ping, '{"":1," ":2,"__proto__":{"polluted":true},"constructor":3,"toString":null,"$http":4}')
    echoes(ping, '{"2":"b","1":"a","type":"request","requestId":"x","a.b":1,"\u00e9":1,"e\u0301":2}')
    echoes(ping, '{"__proto__":null,"hasOwnProperty":1,"class":1,"__class__":2}')


@_group.harmless()
def an_echo_keeps_depth(ping: Ping) -> None:
    # The daemon takes 64 levels, of which the body of `invoke` is one.
    depth = 60
    echoes(ping, "[" * depth + "]" * depth)
    echoes(ping, '{"a":' * depth + "1" + "}" * depth)


def large() -> str:
    """4 MiB of JSON with a bit of everything, the same each time."""
    chance = random.Random(20)
    items: list[str] = []
    while sum(len(item) for item in items) < 4 << 20:
        text = "".join(chance.choice('abc \u00e4\u20ac\U0001f600"\\\n') for _ in range(1000))
        items.append(json.dumps({"text": text, "number": chance.getrandbits(70), "share": chance.random()}))
    return f"[{','.join(items)}]"


@_group.harmless(Need.EXTENDED)
def an_echo_keeps_4_mib(ping: Ping) -> None:
    echoes(ping, large())


@an_echo_keeps_4_mib.otherwise
def what_no_base_plugin_must_take_is_not_sent(ping: Ping) -> None:
    pid = ping.pid
    answer = ping.ask("echo", "x" * (4 << 20))
    assert (answer.status, answer.error()["code"]) == (413, "payload_too_large")
    echoes(ping, '"' + "x" * 900_000 + '"')
    assert ping.pid == pid


def refused(ping: Ping, verb: str, payload: Any, param: str | None = None) -> None:
    """Fails unless the plugin itself says that the payload is wrong, and which member of it."""
    answer = ping.ask(verb, payload)
    found = (answer.status, answer.headers["x-bkg-error-source"])
    assert found == (400, "plugin"), (payload, answer.body)
    error = answer.error()
    assert (error["code"], error["param"]) == ("invalid_request", param), (payload, error)
    assert error["message"], error


NO_OBJECTS: list[Any] = [None, [], "Ada", 1, False]


@_group.harmless()
def a_greeting_takes_its_name_from_the_payload(ping: Ping) -> None:
    for name in ("Ada", "", "J\u00fcrg \U0001f600", "a\nb", "{name}", "%s"):
        assert ping.gets("greet", {"name": name}) == {"greeting": f"hello {name}"}
    assert ping.gets("greet", {"more": 1, "name": "Ada"}) == {"greeting": "hello Ada"}


@_group.harmless()
def a_greeting_of_nobody_is_refused(ping: Ping) -> None:
    for name in (None, 1, True, 1.5, ["Ada"], {"name": "Ada"}):
        refused(ping, "greet", {"name": name}, "name")
    refused(ping, "greet", {}, "name")
    refused(ping, "greet", {"Name": "Ada"}, "name")
    # Where there are no members, none is named.
    for payload in NO_OBJECTS:
        refused(ping, "greet", payload)


@_group.harmless()
def an_unknown_capability_is_not_found(ping: Ping) -> None:
    for verb in ("nothing", "PING", "ping.ping"):
        answer = ping.ask(verb, {})
        assert (answer.status, answer.error()["code"]) == (404, "not_found"), verb
        assert answer.headers["x-bkg-error-source"] == "host"


@_group.harmless()
def fifty_questions_at_once_keep_their_answers_apart(ping: Ping) -> None:
    def ask(number: int) -> None:
        payload = {"number": number, "filler": str(number) * (number * 100)}
        assert ping.gets("echo", payload) == payload
        assert ping.gets("greet", {"name": str(number)}) == {"greeting": f"hello {number}"}

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
