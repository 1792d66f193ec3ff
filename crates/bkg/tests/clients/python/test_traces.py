"""Traces over OTLP: what is recorded of a request, where it goes; no collector disturbs anybody."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from collector import collecting
from harness import Answer, Host, apikeys, llmserver, misbehave, until
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from test_metrics import models, value

TRACE = "0af7651916cd43dd8448eb211c80319c"
REMOTE = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{REMOTE}-01"

StartHost = Callable[..., Host]


def config(url: str, **keys: Any) -> str:
    """A configuration that names a collector."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"endpoint": url, **keys}.items()]
    return "\n".join(["[telemetry.otlp]", *lines])


def chat(host: Host, *, stream: bool = False, headers: dict[str, str] | None = None) -> Answer:
    """A chat with the first model that there is."""
    body = {
        "model": models(host)[0],
        "messages": [{"role": "user", "content": "a-secret-prompt"}],
        "stream": stream,
    }
    return host.http("POST", "/v1/chat/completions?secret=query", body, headers=headers)


def test_a_chat_is_one_trace_from_the_client_to_the_plugin(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), llmserver(), config=config(collector.url, service_name="gateway-7"))
        model = models(host)[0]
        answer = chat(host, headers={"traceparent": SAMPLED, "tracestate": "vendor=1, other=2"})
        assert answer.status == 200
        server = collector.one("POST /v1/chat/completions")
        request = collector.one(f"chat {model}")
        attempt = collector.one("attempt llm.chat")
        call = collector.one("call llm.chat")
        line = [server, request, attempt, call]
        assert {span.trace for span in line} == {TRACE}
        assert [span.parent for span in line] == [REMOTE, server.id, request.id, attempt.id]
        kinds = [
            Span.SPAN_KIND_SERVER,
            Span.SPAN_KIND_CLIENT,
            Span.SPAN_KIND_INTERNAL,
            Span.SPAN_KIND_CLIENT,
        ]
        assert [span.span.kind for span in line] == kinds
        assert server.span.trace_state == "vendor=1,other=2"
        assert server.resource["service.name"] == "gateway-7"
        assert server.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "url.path": "/v1/chat/completions",
            "http.response.status_code": 200,
            "bkg.request_id": answer.headers["x-request-id"],
        }
        usage = answer.json()["usage"]
        assert request.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.provider.name": "llmserver",
            "gen_ai.usage.input_tokens": usage["prompt_tokens"],
            "gen_ai.usage.output_tokens": usage["completion_tokens"],
        }
        assert call.attributes["bkg.plugin"] == "llmserver"
        for span in line:
            assert span.span.start_time_unix_nano <= span.span.end_time_unix_nano
            assert b"secret" not in span.span.SerializeToString()
        for inner, outer in ((request, server), (attempt, request), (call, attempt)):
            assert inner.span.start_time_unix_nano >= outer.span.start_time_unix_nano - 1_000_000
        assert set(collector.paths) == {"/v1/traces"}
        until(lambda: value(host, "bkg_exported_spans_total") >= 4, "they are counted")


def test_a_stream_ends_its_spans_when_it_ends(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), llmserver(), config=config(collector.url))
        assert chat(host, stream=True).events()[-1] == "[DONE]"
        request = collector.one(f"chat {models(host)[0]}")
        assert request.attributes["gen_ai.request.stream"] is True
        assert request.attributes["gen_ai.response.time_to_first_chunk"] > 0
        assert request.attributes["gen_ai.usage.output_tokens"] > 0
        server, call = collector.one("POST /v1/chat/completions"), collector.one("call llm.chat")
        assert server.trace == call.trace, "the host begins a trace where none came"
        assert server.parent == ""


def test_a_failure_has_its_code_and_no_message(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), misbehave(), config=config(collector.url))
        assert host.invoke("test.crash").status == 502
        for name, code in (
            ("call test.crash", "plugin_disconnected"),
            ("attempt test.crash", "plugin_disconnected"),
            ("POST /api/plugins/{name}/invoke", "502"),
        ):
            span = collector.one(name)
            assert span.span.status.code == Status.STATUS_CODE_ERROR, name
            assert (span.attributes["error.type"], span.span.status.message) == (code, code)


def test_headers_and_address_may_come_from_the_environment(start_host: StartHost) -> None:
    with collecting() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-collector,x-tenant=7",
            "OTEL_SERVICE_NAME": "by-variable",
        }
        host = start_host(apikeys(), config=config("http://127.0.0.1:1"), **environment)
        host.http("GET", "/v1/models")
        span = collector.one("GET /v1/models")
        assert span.resource["service.name"] == "by-variable"
        head = collector.headers[0]
        assert (head["authorization"], head["x-tenant"]) == ("Bearer of-the-collector", "7")
        assert head["content-type"] == "application/x-protobuf"
        # Nobody is shown the credential.
        shown = host.http("GET", "/admin/system").body + host.log.read_bytes()
        assert b"of-the-collector" not in shown
        assert b'"authorization":"***"' in host.http("GET", "/admin/system").body


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (SAMPLED, SAMPLED),
        (f"00-{TRACE}-{REMOTE}-00", f"00-{TRACE}-{REMOTE}-00"),
        (f"cc-{TRACE}-{REMOTE}-01-more", SAMPLED),
        (f"00-{TRACE}-{REMOTE}-01-more", None),
        (f"ff-{TRACE}-{REMOTE}-01", None),
        (f"00-{'0' * 32}-{REMOTE}-01", None),
        (f"00-{TRACE.upper()}-{REMOTE}-01", None),
        ("", None),
        (None, None),
    ],
)
def test_without_a_collector_what_came_is_passed_on(
    guarded_echo: Host, given: str | None, passed: str | None
) -> None:
    assert traceparent_at_plugin(guarded_echo, given) == passed


@pytest.fixture(scope="module")
def guarded_echo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon without a collector, with a plugin that shows what it is asked."""
    host = Host(tmp_path_factory.mktemp("no-collector"), apikeys(), misbehave()).start()
    yield host
    host.stop()


def traceparent_at_plugin(host: Host, given: str | None) -> str | None:
    """What reaches a plugin of what a client says."""
    body = {"capability": "test.frame", "payload": None}
    headers = {"traceparent": given} if given is not None else None
    answer = host.http("POST", "/api/plugins/misbehave/invoke", body, headers=headers)
    assert answer.status == 200, answer.body
    found = json.loads(answer.json()["data"]["frame"]).get("traceparent")
    assert found is None or isinstance(found, str)
    return found


def test_with_a_collector_the_plugin_stands_below_the_call(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), misbehave(), config=config(collector.url))
        at_plugin = traceparent_at_plugin(host, SAMPLED)
        call = collector.one("call test.frame")
        assert at_plugin == f"00-{TRACE}-{call.id}-01"
        unsampled = f"00-{TRACE}-{REMOTE}-00"
        assert traceparent_at_plugin(host, unsampled) == unsampled
        assert traceparent_at_plugin(host, None) is not None
        until(
            lambda: len(collector.named("call test.frame")) == 2,
            "the one that is not recorded is not there",
        )


def test_a_ratio_of_zero_records_nothing_but_what_came_recorded(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), misbehave(), config=config(collector.url, sample_ratio=0))
        at_plugin = traceparent_at_plugin(host, None)
        assert at_plugin is not None
        assert at_plugin.endswith("-00")
        traceparent_at_plugin(host, SAMPLED)
        assert collector.one("call test.frame").trace == TRACE


@pytest.mark.parametrize("status", [0, 500, 503, None], ids=["hanging", "failing", "busy", "away"])
def test_a_collector_that_takes_nothing_disturbs_nobody(start_host: StartHost, status: int | None) -> None:
    with collecting(status=status or 0) as collector:
        url = collector.url if status is not None else f"http://127.0.0.1:{unused_port()}"
        host = start_host(apikeys(), llmserver(), misbehave(), config=config(url))
        # More than the queue holds: each has three spans.
        connection = host.connection()
        head = {"Authorization": f"Bearer {host.key}", "Content-Type": "application/json"}
        body = json.dumps({"capability": "test.echo", "payload": 1})
        for _ in range(3_000):
            connection.request("POST", "/api/plugins/misbehave/invoke", body, head)
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b'{"data":1}')
        connection.close()
        assert chat(host).status == 200
        if status == 500:
            # Not one that is tried again.
            until(lambda: value(host, "bkg_dropped_spans_total", reason="refused") > 0, "they are dropped")
        else:
            until(
                lambda: value(host, "bkg_dropped_spans_total", reason="queue_full") > 0, "they are counted"
            )
        if status is not None:
            until(lambda: collector.attempts > 0, "somebody asked")
        begun = time.monotonic()
        host.stop()
        assert time.monotonic() - begun < 15, "the stop waits for a bounded time"


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_collector_that_comes_back_gets_what_waited(start_host: StartHost) -> None:
    with collecting(status=503) as collector:
        host = start_host(apikeys(), config=config(collector.url))
        host.http("GET", "/v1/models")
        until(lambda: collector.attempts >= 1, "it was tried")
        collector.status = 200
        assert collector.one("GET /v1/models")
        until(lambda: "takes spans again" in host.log.read_text(), "the log says so")


def test_what_waits_at_the_stop_is_handed_over(start_host: StartHost) -> None:
    with collecting() as collector:
        host = start_host(apikeys(), config=config(collector.url))
        host.http("GET", "/v1/models")
        host.stop()
        assert collector.named("GET /v1/models")


def test_what_a_collector_rejects_of_a_batch_is_counted(start_host: StartHost) -> None:
    with collecting() as collector:
        collector.rejects = 1
        host = start_host(apikeys(), config=config(collector.url))
        host.http("GET", "/v1/models")
        until(lambda: value(host, "bkg_dropped_spans_total", reason="refused") > 0, "it is counted")
