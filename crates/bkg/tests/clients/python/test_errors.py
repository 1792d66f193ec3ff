"""Which failure has which status, code and headers, and that every error has the same form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from harness import Answer, Host

CHAT = {"model": "stand-in", "messages": [{"role": "user", "content": "hello"}]}
UNKNOWN_KEY = "bkg_sk_0000000000000000_nobody"


@dataclass
class Case:
    """One request that fails, and how."""

    name: str
    status: int
    method: str = "POST"
    path: str = "/v1/chat/completions"
    body: Any = None
    key: str | None = None
    headers: dict[str, str] | None = None
    code: str | None = None
    param: str | None = None


CASES = [
    Case("no key", 401, body=CHAT, key="", code="invalid_api_key"),
    Case("an unknown key", 401, body=CHAT, key=UNKNOWN_KEY, code="invalid_api_key"),
    Case("a key that is no key", 401, body=CHAT, key="x" * 500, code="invalid_api_key"),
    Case(
        "another scheme",
        401,
        body=CHAT,
        key="",
        headers={"Authorization": "Basic eDp5"},
        code="invalid_api_key",
    ),
    Case("no key for the models", 401, "GET", "/v1/models", key="", code="invalid_api_key"),
    Case("no key for a plugin", 401, "GET", "/admin/plugins", key=""),
    Case(
        "an unknown model",
        404,
        body={**CHAT, "model": "nothing-here"},
        code="model_not_found",
        param="model",
    ),
    Case("a model without a name", 400, body={"messages": []}, param="model"),
    Case("a model that is no text", 400, body={**CHAT, "model": 7}, param="model"),
    Case("no JSON", 400, body=b'{"model": '),
    Case("no object", 400, body=b"[1, 2]"),
    Case("no body", 400, body=b""),
    Case("not UTF-8", 400, body=b'{"model": "\xff"}'),
    Case("another content type", 415, body=b"model=x", headers={"Content-Type": "text/plain"}),
    Case("an unknown path", 404, "GET", "/v1/nothing"),
    Case("an unknown path elsewhere", 404, "GET", "/nothing"),
    Case("an unknown plugin", 404, "GET", "/admin/plugins/nothing"),
    Case("GET of a chat", 405, "GET"),
    Case("DELETE of the models", 405, "DELETE", "/v1/models"),
    Case("PUT of the plugins", 405, "PUT", "/admin/plugins", body={}),
    Case("a path that climbs", 404, "GET", "/v1/../admin/plugins"),
    Case("a plugin's refusal", 429, body={**CHAT, "model": "test/refuses"}, code="rate_limit_exceeded"),
    Case("a plugin's failure", 502, body={**CHAT, "model": "test/unauthorized"}),
]


def send(host: Host, case: Case) -> Answer:
    return host.http(case.method, case.path, case.body, key=case.key, headers=case.headers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_failure_has_its_status_and_the_one_form(host: Host, case: Case) -> None:
    answer = send(host, case)
    assert answer.status == case.status, answer.body
    error = answer.error()
    assert answer.headers.get_content_type() == "application/json"
    assert answer.headers["x-request-id"]
    if case.code is not None:
        assert error["code"] == case.code
    if case.param is not None:
        assert error["param"] == case.param


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 405], ids=lambda case: case.name)
def test_a_wrong_method_is_told_the_right_ones(host: Host, case: Case) -> None:
    allowed = {method.strip() for method in send(host, case).headers["allow"].split(",")}
    assert case.method not in allowed
    assert allowed & {"GET", "POST"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        ("GET", "/admin/plugins", None),
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
        ("POST", "/v1/embeddings", {"model": "stand-in-embed", "input": "x"}),
    ],
)
def test_every_answer_has_a_request_id_of_its_own(host: Host, method: str, path: str, body: Any) -> None:
    ids = [host.http(method, path, body).headers["x-request-id"] for _ in range(2)]
    assert all(ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("model", "status", "source"),
    [("test/unauthorized", 502, "plugin"), ("test/refuses", 429, "plugin"), ("nothing-here", 404, "host")],
)
def test_an_error_says_who_failed(host: Host, model: str, status: int, source: str) -> None:
    answer = host.http("POST", "/v1/chat/completions", {**CHAT, "model": model})
    assert (answer.status, answer.headers["x-bkg-error-source"]) == (status, source)


def test_a_refusal_says_when_to_come_back(host: Host) -> None:
    answer = host.http("POST", "/v1/chat/completions", {**CHAT, "model": "test/refuses"})
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def test_work_that_may_have_happened_is_not_to_be_tried_again(host: Host) -> None:
    answer = host.http("POST", "/v1/chat/completions", {**CHAT, "model": "test/unauthorized"})
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("capability", "payload", "status", "code"),
    [
        ("test.error", {"code": "conflict", "message": "m"}, 409, "conflict"),
        ("test.error", {"code": "forbidden", "message": "m"}, 502, "plugin_error"),
        ("test.error", {"code": "of_my_own", "message": "m"}, 502, None),
        ("test.string_error", {"message": "just a text"}, 502, "plugin_error"),
        ("test.both", {"success": False}, 409, "conflict"),
    ],
)
def test_a_plugins_error_keeps_no_status_that_belongs_to_the_host(
    host: Host, capability: str, payload: Any, status: int, code: str | None
) -> None:
    answer = host.invoke(capability, payload)
    error = answer.error()
    assert answer.status == status, answer.body
    assert code is None or error["code"] == code
    assert answer.headers["x-bkg-error-source"] == "plugin"


def test_a_deadline_is_a_timeout(host: Host) -> None:
    answer = host.invoke("test.wait", {}, timeoutMs=200)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")


def test_a_body_beyond_the_limit_is_too_large_for_the_host(host: Host) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * (64 << 20)}]}
    with pytest.raises(openai.APIStatusError) as raised:
        host.openai().chat.completions.create(**body)  # type: ignore[call-overload]
    assert raised.value.status_code == 413
    assert raised.value.code == "payload_too_large"


def test_a_body_beyond_a_base_plugins_frame_is_refused_and_harms_nobody(host: Host) -> None:
    before = host.instance("base-echo")["pid"]
    body = {"model": "base-echo", "messages": [{"role": "user", "content": "x" * (2 << 20)}]}
    answer = host.http("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.error()["code"]) == (413, "payload_too_large")
    assert host.invoke("base.echo", {"a": 1}, plugin="base-echo").json() == {"data": {"a": 1}}
    assert host.instance("base-echo")["pid"] == before


def test_the_sdk_raises_what_the_status_means(host: Host) -> None:
    client = host.openai()
    with pytest.raises(openai.AuthenticationError) as unauthorized:
        host.openai(api_key=UNKNOWN_KEY).models.list()
    assert unauthorized.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**CHAT, "model": "nothing-here"})  # type: ignore[call-overload]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(**{**CHAT, "model": "test/refuses"})  # type: ignore[call-overload]
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**CHAT, "model": 7})  # type: ignore[call-overload]


def test_a_wrong_key_is_told_whatever_the_size_of_the_request(host: Host) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * (12 << 20)}]}
    answer = host.http("POST", "/v1/chat/completions", body, key=UNKNOWN_KEY)
    assert (answer.status, answer.error()["code"]) == (401, "invalid_api_key")


def test_a_stream_that_fails_before_its_first_chunk_is_an_ordinary_error(host: Host) -> None:
    with pytest.raises(openai.RateLimitError):
        host.openai().chat.completions.create(**{**CHAT, "model": "test/refuses"}, stream=True)  # type: ignore[call-overload]


def test_without_a_plugin_the_service_is_unavailable(start_host: Callable[..., Host]) -> None:
    host = start_host()
    with pytest.raises(openai.InternalServerError) as raised:
        host.openai().chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert (raised.value.status_code, raised.value.code) == (503, "plugin_unavailable")
    assert host.openai().models.list().data == []


def test_an_error_in_a_large_and_deep_body_is_still_an_error(host: Host) -> None:
    answer = host.http("POST", "/v1/chat/completions", b"[" * 100_000)
    assert (answer.status, answer.error()["type"]) == (400, "invalid_request_error")
