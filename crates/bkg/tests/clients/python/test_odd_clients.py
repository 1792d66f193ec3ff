"""What real clients and proxies send that the official ones do not: older HTTP, other framings, odd names.

Each is answered as the plain request is, and the connection stays usable after every error.
"""

import json
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from harness import Host, scripted, until

CHAT = "/v1/chat/completions"
SAID = "You said: hello"


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted-chat", "messages": [{"role": "user", "content": "hello"}], **fields}


def request(host: Host, body: Any, *, path: str = CHAT, version: str = "1.1", head: str = "") -> bytes:
    """A request as bytes; `head` are further lines."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = "" if "transfer-encoding" in head else f"content-length: {len(payload)}\r\n"
    name = "host: localhost\r\n" if version == "1.1" else ""
    lines = f"{name}authorization: Bearer {host.key}\r\ncontent-type: application/json\r\n{length}{head}"
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode() + payload


def exchange(host: Host, sent: bytes) -> bytes:
    """Everything that is answered until the host closes the connection."""
    with socket.create_connection(("127.0.0.1", host.ports["api"]), timeout=30) as connection:
        connection.sendall(sent)
        answered = b""
        while part := connection.recv(65536):
            answered += part
        return answered


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_of_http_1_0_is_answered_without_chunks(models: Host, stream: bool) -> None:
    answered = exchange(models, request(models, ask(stream=stream), version="1.0"))
    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    assert b"transfer-encoding" not in head.lower()
    if stream:
        assert body.startswith(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(body)["choices"][0]["message"]["content"] == SAID


def chunked(body: bytes) -> bytes:
    """The body in pieces of seven bytes, with an extension and a trailer that nobody knows."""
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    framed = b"".join(b"%x;odd=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\nx-trailer: yes\r\n\r\n"


@pytest.mark.parametrize(
    "form",
    [
        {"head": "transfer-encoding: chunked\r\n"},
        {"path": "http://localhost/v1/chat/completions"},
        {"path": CHAT + "?api-version=2024-06-01"},
        {"head": "accept: text/html, application/xml;q=0.9\r\n"},
        {"head": "accept: text/event-stream\r\n"},
        {"head": "accept: nothing;;q=of=the=kind\r\n"},
        {"head": "openai-beta: assistants=v2\r\nopenai-organization: org-1\r\nx-request-id: mine\r\n"},
    ],
    ids=["chunked", "absolute", "query", "html", "events", "no accept", "headers"],
)
def test_a_request_in_an_odd_form_is_answered_as_the_plain_one(models: Host, form: dict[str, str]) -> None:
    body = json.dumps(ask()).encode()
    sent = chunked(body) if "transfer-encoding" in form.get("head", "") else body
    form = {**form, "head": form.get("head", "") + "connection: close\r\n"}
    head, _, answered = exchange(models, request(models, sent, **form)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(answered)["choices"][0]["message"]["content"] == SAID


@pytest.mark.parametrize(("key", "status"), [(None, b"100"), ("bkg_sk_0_nobody", b"401")])
def test_who_waits_for_leave_to_send_a_body_gets_it_or_is_refused(
    models: Host, key: str | None, status: bytes
) -> None:
    sent = request(models, ask(), head="expect: 100-continue\r\n")
    if key is not None:
        sent = sent.replace(models.key.encode(), key.encode())
    head, _, body = sent.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", models.ports["api"]), timeout=30) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 " + status)
        if status == b"100":
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


FAILURES: dict[str, Callable[[Host], bytes]] = {
    "no JSON": lambda host: request(host, b"{nope"),
    "an unknown model": lambda host: request(host, ask(model="nothing")),
    "an unknown path": lambda host: request(host, ask(), path="/v1/nothing"),
    "a wrong method": lambda host: request(host, ask(), path="/v1/models"),
    "a wrong key": lambda host: request(host, ask()).replace(host.key.encode(), b"bkg_sk_0_nobody"),
    "a wrong type": lambda host: request(host, ask()).replace(b"application/json", b"text/plain"),
    "a busy model": lambda host: request(host, ask(model="scripted-busy")),
    "a broken stream": lambda host: request(host, ask(model="scripted-breaks", stream=True)),
    "a large body that nobody reads": lambda host: request(host, b" " * (3 << 20), path="/v1/nothing"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_connection_is_good_for_the_next_request_after(models: Host, failure: str) -> None:
    sent = FAILURES[failure](models) + request(models, ask(), head="connection: close\r\n")
    answered = exchange(models, sent)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answered)
    assert len(statuses) == 2, answered
    assert statuses[1] == b"200"
    assert answered.endswith(b"}")


@pytest.mark.parametrize(("path", "status"), [("/v1/models", 200), (CHAT, 405)])
def test_head_has_the_headers_and_no_body(models: Host, path: str, status: int) -> None:
    answer = models.http("HEAD", path)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers["x-request-id"]


def test_a_page_of_another_site_gets_no_leave(models: Host) -> None:
    asked = {"Origin": "http://other.example", "Access-Control-Request-Method": "POST"}
    answer = models.http("OPTIONS", CHAT, key="", headers=asked)
    assert answer.status == 405
    assert answer.headers["access-control-allow-origin"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"n": None, "stop": None, "tools": None, "tool_choice": None, "response_format": None},
        {"stream": None, "stream_options": None, "max_tokens": None, "user": None},
        {"tools": []},
    ],
    ids=["nulls", "more nulls", "no tools"],
)
def test_what_says_nothing_changes_nothing(models: Host, fields: dict[str, Any]) -> None:
    answer = models.http("POST", CHAT, ask(**fields))
    assert answer.json()["choices"][0]["message"]["content"] == SAID


def test_other_options_of_a_stream_reach_the_plugin(host: Host) -> None:
    options = {"include_usage": False, "include_obfuscation": False, "continuous_usage_stats": None}
    body = {**ask(model="test/frame", stream=True), "stream_options": options}
    answer = host.http("POST", CHAT, body)
    frame = json.loads(json.loads(answer.events()[0])["choices"][0]["delta"]["content"])
    assert frame["payload"]["stream_options"] == {**options, "include_usage": True}


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions"])
def test_a_client_with_the_wrong_base_address_is_told_the_right_one(models: Host, path: str) -> None:
    answer = models.http("POST", path, ask())
    assert answer.status == 404
    assert answer.error()["message"].endswith(
        "correct the client's base address, `/v1/chat/completions` is there"
    )


def test_a_name_longer_than_any_models_is_refused_and_not_kept(models: Host) -> None:
    answer = models.http("POST", CHAT, ask(model="m" * 1_000_000))
    assert (answer.status, answer.error()["param"]) == (400, "model")
    assert len(answer.body) < 1_000
    assert len(models.http("GET", "/admin/requests").body) < 1_000_000


NAMES = ["modèle/größe", "模型:latest", "a b", "100%", "a/b/c", "a+b", "q?x=1#y"]


def test_names_of_models_may_be_anything(start_host: Callable[..., Host]) -> None:
    host = start_host(*(scripted(f"names-{at}", prefix=f"{name} ") for at, name in enumerate(NAMES)))
    client = host.openai()
    listed = {model.id for model in client.models.list()}
    for name in NAMES:
        model = f"{name} chat"
        assert model in listed
        assert client.models.retrieve(model).id == model
        assert host.http("GET", f"/v1/models/{quote(model, safe='')}").json()["id"] == model
        answer = client.chat.completions.create(**ask(model=model))
        assert (answer.model, answer.choices[0].message.content) == (model, SAID)


def test_arguments_of_a_tool_may_be_huge(models: Host) -> None:
    arguments = json.dumps({"text": "größer \U0001f600 " * 200_000})
    function = {"name": "write", "arguments": arguments}
    call = {"id": "call_größe_1", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "write"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "written"},
    ]
    answer = models.http("POST", CHAT, {"model": "scripted-chat", "messages": messages})
    assert answer.json()["choices"][0]["message"]["content"] == "The tool said: written"


def test_a_client_that_breaks_off_in_the_middle_of_its_body_leaves_nothing(models: Host) -> None:
    served = len(models.served("scripted"))
    with socket.create_connection(("127.0.0.1", models.ports["api"]), timeout=30) as connection:
        connection.sendall(request(models, ask())[:-20])
    until(lambda: models.instance("scripted")["inFlight"] == 0, "nothing is open")
    assert len(models.served("scripted")) == served
