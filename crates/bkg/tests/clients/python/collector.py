"""A collector of traces that does as it is told: OTLP over HTTP, decoded by OpenTelemetry's own classes."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness import until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Exported:
    """A span, and what is said of all spans beside it."""

    span: Span
    resource: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        """What is said of it."""
        return attributes(self.span.attributes)

    @property
    def trace(self) -> str:
        """Its trace."""
        return str(self.span.trace_id.hex())

    @property
    def id(self) -> str:
        """Its number."""
        return str(self.span.span_id.hex())

    @property
    def parent(self) -> str:
        """The number of the span that it is a part of."""
        return str(self.span.parent_span_id.hex())


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes by name."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@dataclass
class Collector:
    """A collector that runs."""

    # What it answers from now on; 0 for nothing at all, until it is told otherwise.
    status: int = 200
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    spans: list[Exported] = field(default_factory=list)
    attempts: int = 0
    rejects: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """What the daemon is told."""
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Exported]:
        """The spans of this name."""
        return [span for span in list(self.spans) if span.span.name == name]

    def one(self, name: str) -> Exported:
        """The only span of this name, waiting for it."""
        found = until(lambda: self.named(name), f"a span `{name}` came: {self.names()}")
        assert len(found) == 1, found
        return found[0]

    def names(self) -> list[str]:
        """The names of all that came."""
        return [span.span.name for span in list(self.spans)]


@contextlib.contextmanager
def collecting(*, status: int = 200) -> Iterator[Collector]:
    """A collector, until the end."""
    collector = Collector(status=status)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            collector.attempts += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            while collector.status == 0 and not over.is_set():
                time.sleep(0.01)
            if collector.status == 200:
                collector.paths.append(self.path)
                collector.headers.append({name.lower(): text for name, text in self.headers.items()})
                take(collector, body)
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = collector.rejects
            data = answer.SerializeToString() if collector.status == 200 else b"no"
            self.send_response(collector.status or 503)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            over.set()
            server.shutdown()
            thread.join()


def take(collector: Collector, body: bytes) -> None:
    """Decodes what came; bytes that are no message, or have fields that it does not have, fail."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    assert request.SerializeToString() == body
    for resource in request.resource_spans:
        said = attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            collector.spans += [Exported(span, said) for span in scope.spans]
