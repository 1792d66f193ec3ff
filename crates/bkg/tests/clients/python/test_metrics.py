"""`GET /metrics`, read by Prometheus' own parsers, and that no client makes its labels."""

import json
from collections.abc import Callable, Iterator

import pytest
from harness import Answer, Host, apikeys, llmserver, misbehave, until
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A daemon whose figures are these tests' alone."""
    host = Host(tmp_path_factory.mktemp("metrics"), apikeys(), llmserver(), misbehave()).start()
    yield host
    host.stop()


def scrape(host: Host, accept: str | None = None) -> Answer:
    """The page."""
    answer = host.http("GET", "/metrics", headers={"Accept": accept} if accept else None)
    assert answer.status == 200, answer.body
    return answer


def families(host: Host) -> dict[str, Metric]:
    """Every metric by its name."""
    found = list(read_prometheus(scrape(host).body.decode()))
    names = [metric.name for metric in found]
    assert len(names) == len(set(names)), "a family stands there once"
    return {metric.name: metric for metric in found}


def value(host: Host, sample: str, **labels: str) -> float:
    """The sum of the samples with these labels among theirs."""
    return sum(
        found.value
        for metric in families(host).values()
        for found in metric.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )


def chat(host: Host, model: str, *, stream: bool = False) -> Answer:
    """A chat."""
    messages = [{"role": "user", "content": "hi"}]
    return host.http(
        "POST", "/v1/chat/completions", {"model": model, "messages": messages, "stream": stream}
    )


def models(host: Host) -> list[str]:
    """What can be chatted with."""
    return [model["id"] for model in host.http("GET", "/v1/models").json()["data"]]


def test_both_forms_are_what_their_own_parsers_read(own: Host) -> None:
    chat(own, models(own)[0])
    plain, opened = scrape(own), scrape(own, OPENMETRICS)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    left = {metric.name: metric.type for metric in read_prometheus(plain.body.decode())}
    strict = read_openmetrics(opened.body.decode())  # type: ignore[no-untyped-call]
    right = {metric.name: metric.type for metric in strict}
    assert left == right
    assert {"bkg_http_requests", "bkg_requests", "bkg_bus_frames", "process_open_fds"} <= left.keys()


def test_only_who_has_the_scope_reads_it(own: Host) -> None:
    assert own.http("GET", "/metrics", key="").status == 401
    made = own.http("POST", "/admin/keys", {"user": "admin", "name": "other", "scopes": ["llm.chat"]})
    assert own.http("GET", "/metrics", key=made.json()["key"]).status == 403
    made = own.http("POST", "/admin/keys", {"user": "admin", "name": "scraper", "scopes": ["metrics"]})
    assert own.http("GET", "/metrics", key=made.json()["key"]).status == 200


def test_a_chat_is_counted_with_its_model_its_tokens_and_its_times(own: Host) -> None:
    model = models(own)[0]
    labels = {"capability": "llm.chat", "plugin": "llmserver", "model": model}
    route = {"method": "POST", "route": "/v1/chat/completions"}

    def seen() -> list[float]:
        return [
            value(own, "bkg_requests_total", outcome="ok", **labels),
            value(own, "bkg_request_duration_seconds_count", **labels),
            value(own, "bkg_request_time_to_first_token_seconds_count", **labels),
            value(own, "bkg_http_requests_total", status="2xx", **route),
            value(own, "bkg_http_request_duration_seconds_count", **route),
        ]

    before, tokens = seen(), value(own, "bkg_tokens_total", direction="out", **labels)
    assert chat(own, model).status == 200
    assert chat(own, model, stream=True).events()[-1] == "[DONE]"
    wanted = [count + more for count, more in zip(before, (2, 2, 1, 2, 2), strict=True)]
    until(lambda: seen() == wanted, f"both are counted: {wanted}")
    assert value(own, "bkg_tokens_total", direction="out", **labels) > tokens
    assert value(own, "bkg_bus_frames_total", direction="out", kind="request") > 0
    assert value(own, "bkg_bus_bytes_total", direction="in", kind="chunk") > 0


def test_what_clients_make_up_is_no_label(own: Host) -> None:
    """10,000 names, of models, paths, methods and capabilities: the number of series stays what it was."""

    def series() -> set[str]:
        lines = scrape(own).body.decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    def ask(connection: object, number: int) -> None:
        name = f"made-up-{number}"
        body: dict[str, object] = {"model": name, "messages": []}
        for method, path, data in (
            ("POST", "/v1/chat/completions", json.dumps(body)),
            ("GET", f"/{name}/{number}", None),
            ("POST", "/api/plugins/misbehave/invoke", json.dumps({"capability": f"x.{name}"})),
            (f"M{number}", "/v1/models", None),
        ):
            connection.request(method, path, data, head)  # type: ignore[attr-defined]
            connection.getresponse().read()  # type: ignore[attr-defined]

    head = {"Authorization": f"Bearer {own.key}", "Content-Type": "application/json"}
    connection = own.connection()
    ask(connection, 0)
    before = series()
    for number in range(1, 2_500):
        ask(connection, number)
    connection.close()
    after = series()
    assert "made-up" not in "".join(after)
    # Classes of status and kinds of frames may come to what was there, names may not.
    assert len(after - before) < 10, after - before
    assert value(own, "bkg_requests_total", model="other", outcome="model_not_found") == 2_500


def test_a_crash_a_restart_and_a_state_are_seen(start_host: Callable[..., Host]) -> None:
    host = start_host(apikeys(), misbehave())
    assert value(host, "bkg_plugin_state", plugin="misbehave", state="running") == 1
    assert value(host, "bkg_plugin_state", plugin="misbehave") == 1
    assert value(host, "bkg_plugin_starts_total", plugin="misbehave") == 1
    host.invoke("test.crash")
    counts = ("bkg_plugin_crashes_total", "bkg_plugin_restarts_total")
    until(lambda: all(value(host, name, plugin="misbehave") == 1 for name in counts), "it is counted")
    assert host.lifecycle("misbehave", "stop").status == 200
    assert value(host, "bkg_plugin_state", plugin="misbehave", state="stopped") == 1
    assert value(host, "bkg_plugin_crashes_total", plugin="misbehave") == 1, "being stopped is no crash"


def test_the_host_itself_is_measured(own: Host) -> None:
    for name in (
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
        "bkg_uptime_seconds",
    ):
        assert value(own, name) > 0, name
    assert value(own, "bkg_build_info") == 1
    until(lambda: value(own, "bkg_plugin_resident_memory_bytes", plugin="llmserver") > 0, "it is measured")
