"""Starts direct, nginx and the daemon, loads them in turns, and writes medians and ratios.

Direct replays the very bytes that the daemon answered, so that all rows carry the same. The systems
take turns within each round, so that a machine that slows down slows all of them. Everything listens
on loopback, is bounded in time, and is stopped by the process id that this script started.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CHUNKS = 1_000
PASSWORD = "measured, not guessed"

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 100000000;
    tcp_nodelay on;
    upstream direct {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://direct;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Workload:
    """What is sent, over how many connections, and how many chunks each answer has."""

    name: str
    body: dict[str, Any]
    connections: int
    chunks: int = 1


@dataclass(frozen=True)
class System:
    """Something that answers, and the processes that it costs."""

    name: str
    port: int
    key: str
    processes: dict[str, int]


@dataclass(frozen=True)
class Sample:
    """One turn of one system: rates per second, times in microseconds."""

    requests_per_second: float
    chunks_per_second: float
    p50: float
    p99: float
    cpu: dict[str, float]


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "stand-in", "messages": [{"role": "user", "content": text}], **fields}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(found: Callable[[], Any], what: str, within: float = 30.0) -> Any:
    deadline = time.monotonic() + within
    while not (result := found()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {within:.0f} s: {what}")
        time.sleep(0.02)
    return result


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Runs a server for as long as the block lasts; what it says goes into `log`."""
    with log.open("w") as sink:
        process = subprocess.Popen(command, stderr=sink, stdin=subprocess.DEVNULL, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(port: int, key: str, body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as response:
        return bytes(response.read())


def get_json(port: int, key: str, path: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as response:
        return json.load(response)


@contextlib.contextmanager
def backplane(directory: Path, threads: int | None) -> Iterator[System]:
    """The daemon with llmserver and an API key, on everything that it does by default."""
    data = directory / "data"
    config = directory / "bkg.toml"
    config.write_text("" if threads is None else f"[runtime]\nthreads = {threads}\n")
    # The bundled plugins, but certainly their release builds, whichever of their builds is the newest.
    plugins = directory / "plugins"
    for name in ("apikeys", "llmserver"):
        shutil.copytree(REPOSITORY / "plugins" / name, plugins / name, ignore=shutil.ignore_patterns("src"))
        binary = TARGET / f"release/bkg-plugin-{name}"
        (plugins / name / "start.sh").write_text(f"#!/bin/sh\nexec '{binary}'\n")
    command = [str(TARGET / "release/bkg"), "serve", "--data-dir", str(data), "--config", str(config)]
    command += ["--plugins-dir", str(plugins), "--api-port", "0", "--bus-port", "0"]
    log = directory / "bkg.log"
    environment = {**os.environ, "ADMIN_PASSWORD": PASSWORD}
    with running(command, log, stdout=subprocess.DEVNULL, env=environment) as daemon:

        def ports() -> dict[str, Any] | None:
            if daemon.poll() is not None:
                sys.exit(f"the daemon left with {daemon.returncode}:\n{log.read_text()}")
            path = data / "ports.json"
            return dict(json.loads(path.read_text())) if path.exists() else None

        port = until(ports, "the daemon is ready")["api"]
        root = (data / "root.key").read_text().strip()
        wanted = {"user": "admin", "scopes": ["llm.chat"]}
        key = json.loads(post(port, root, wanted, "/admin/keys"))["key"]

        def plugin() -> Any:
            shown = get_json(port, root, "/admin/plugins/llmserver")
            return shown["status"] == "running" and shown["instances"]

        (instance,) = until(plugin, "llmserver is running")
        yield System("backplane", port, key, {"daemon": daemon.pid, "plugin": instance["pid"]})


@contextlib.contextmanager
def direct(directory: Path, answer: bytes, stream: bytes) -> Iterator[System]:
    """The server without a hop."""
    (directory / "answer.json").write_bytes(answer)
    (directory / "stream.txt").write_bytes(stream)
    command = [str(TARGET / "release/examples/bench_direct")]
    command += ["--answer", str(directory / "answer.json"), "--stream", str(directory / "stream.txt")]
    with running(command, directory / "direct.log", stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield System("direct", port, "none", {"server": server.pid})


@contextlib.contextmanager
def nginx(directory: Path, upstream: System) -> Iterator[System]:
    """nginx as a reverse proxy in front of direct."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, upstream=upstream.port, port=port))
    log = directory / "nginx.log"
    command = ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with running(command, log, stdout=subprocess.DEVNULL) as master:

        def worker() -> int | None:
            if master.poll() is not None:
                sys.exit(f"nginx left with {master.returncode}:\n{log.read_text()}")
            children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
            return int(children[0]) if children else None

        processes = {"nginx": until(worker, "nginx is running"), **upstream.processes}
        yield System("nginx", port, "none", processes)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from /proc/PID/stat (fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def load(system: System, workload: Workload, seconds: int) -> Sample:
    """One turn: wrk for some seconds, with the processes' time before and after."""
    before = {name: cpu_seconds(pid) for name, pid in system.processes.items()}
    run = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(workload.connections), "--timeout", "30s"),
            *("--duration", f"{seconds}s", "--script", str(Path(__file__).with_name("chat.lua"))),
            f"http://127.0.0.1:{system.port}/v1/chat/completions",
        ],
        env={**os.environ, "BENCH_BODY": json.dumps(workload.body), "BENCH_KEY": system.key},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    after = {name: cpu_seconds(pid) for name, pid in system.processes.items()}
    result = json.loads(run.stdout.splitlines()[-1])
    if result["failed"] or not result["requests"]:
        sys.exit(
            f"{system.name}, {workload.name}: {result['failed']} of {result['requests']} requests failed"
        )
    rate = result["requests"] / (result["microseconds"] / 1e6)
    return Sample(
        requests_per_second=rate,
        chunks_per_second=rate * workload.chunks,
        p50=result["p50"],
        p99=result["p99"],
        cpu={name: (after[name] - before[name]) * 1e6 / result["requests"] for name in before},
    )


def median(samples: list[Sample]) -> Sample:
    """The median of each figure by itself."""

    def of(figure: Callable[[Sample], float]) -> float:
        return statistics.median(map(figure, samples))

    return Sample(
        requests_per_second=of(lambda sample: sample.requests_per_second),
        chunks_per_second=of(lambda sample: sample.chunks_per_second),
        p50=of(lambda sample: sample.p50),
        p99=of(lambda sample: sample.p99),
        cpu={part: statistics.median(sample.cpu[part] for sample in samples) for part in samples[0].cpu},
    )


def verdict(value: float, bar: float, *, at_least: bool) -> str:
    return "reached" if (value >= bar if at_least else value <= bar) else "missed"


def table(medians: dict[str, dict[str, Sample]], about: dict[str, Any]) -> str:
    """The figures as Markdown, and beside them the bars of `docs/performance.md` that they belong to."""
    lines = [
        "# The hop, measured",
        "",
        f"{about['processor']}, {about['cores']} cores, {about['kernel']}; daemon on {about['threads']} "
        f"runtime threads; medians of {about['rounds']} interleaved rounds of {about['seconds']} s; commit "
        f"{about['commit']}.",
        "CPU is user and system time of all processes behind the port, per request, load tool excluded.",
    ]
    for workload, systems in medians.items():
        streamed = workload.startswith("stream")
        base = systems["direct"]
        unit = "chunks/s" if streamed else "requests/s"
        lines += ["", f"## {workload}", ""]
        lines += [
            f"| | {unit} | of direct | p50 | added p50 | p99 | CPU | of which |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, sample in systems.items():
            rate = sample.chunks_per_second if streamed else sample.requests_per_second
            cpu = ", ".join(f"{part} {value:,.1f} µs" for part, value in sample.cpu.items())
            lines.append(
                f"| {name} | {rate:,.0f} | {sample.requests_per_second / base.requests_per_second:.2f} "
                f"| {sample.p50:,.0f} µs | {sample.p50 - base.p50:+,.0f} µs | {sample.p99:,.0f} µs "
                f"| {sum(sample.cpu.values()):,.1f} µs | {cpu} |"
            )
    lines += ["", "## Bars", "", "| bar | figure | |", "|---|---|---|"]
    for name, value, bar, at_least in bars(medians):
        comparison = "≥" if at_least else "≤"
        lines.append(
            f"| {name} {comparison} {bar:g} | {value:.2f} | {verdict(value, bar, at_least=at_least)} |"
        )
    return "\n".join(lines) + "\n"


def bars(medians: dict[str, dict[str, Sample]]) -> Iterator[tuple[str, float, float, bool]]:
    """Name, figure, bar, and whether more is better, for each bar that these workloads can judge."""
    one, many, streams = medians.values()
    added = {name: sample.p50 - one["direct"].p50 for name, sample in one.items()}
    yield "1 connection: added p50 in µs", added["backplane"], 40, False
    if added["nginx"] > 0:
        yield "1 connection: added p50, in nginx's", added["backplane"] / added["nginx"], 2, False
    rate = {name: sample.requests_per_second for name, sample in many.items()}
    yield "64 connections: share of direct", rate["backplane"] / rate["direct"], 0.60, True
    yield "64 connections: in nginx's", rate["backplane"] / rate["nginx"], 1.0, True
    yield "64 connections: CPU per request in µs", sum(many["backplane"].cpu.values()), 16, False
    rate = {name: sample.chunks_per_second for name, sample in streams.items()}
    yield "64 streams: chunks/s, of direct", rate["backplane"] / rate["direct"], 1.5, True


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s")
    parser.add_argument("--rounds", type=int, help="turns of each system (default 5)")
    parser.add_argument("--seconds", type=int, help="length of a turn (default 5)")
    parser.add_argument("--threads", type=int, help="runtime threads of the daemon (default: its own)")
    parser.add_argument("--name", default="bench", help="name of the two files in target/bench/")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    seconds = arguments.seconds or (2 if arguments.quick else 5)

    # So that a terminated run stops what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bkg-bench-")))
        ours = stack.enter_context(backplane(directory, arguments.threads))
        small = chat("Hello, who are you?")
        # The stand-in says each word of the question again, one chunk each.
        long = chat(" ".join(["word"] * CHUNKS), stream=True)
        stream = post(ours.port, ours.key, long)
        if not stream.endswith(b"data: [DONE]\n\n"):
            sys.exit("the daemon's stream did not end as it must")
        chunks = stream.count(b"\n\n") - 1
        base = stack.enter_context(direct(directory, post(ours.port, ours.key, small), stream))
        proxy = stack.enter_context(nginx(directory, base))
        for system in (base, proxy):
            if post(system.port, system.key, long) != stream:
                sys.exit(f"{system.name} does not answer what the daemon answers")

        workloads = [
            Workload("chat, 1 connection", small, 1),
            Workload("chat, 64 connections", small, 64),
            Workload(f"streams of {chunks} chunks, 64 connections", long, 64, chunks),
        ]
        systems = [base, proxy, ours]
        samples: dict[str, dict[str, list[Sample]]] = {
            workload.name: {system.name: [] for system in systems} for workload in workloads
        }
        for workload in workloads:
            for system in systems:
                load(system, workload, 1)  # Warm caches and connections; not counted.
            for number in range(rounds):
                for system in systems[number % 3 :] + systems[: number % 3]:
                    sample = load(system, workload, seconds)
                    samples[workload.name][system.name].append(sample)
                    figures = f"{sample.requests_per_second:9,.0f}/s, p50 {sample.p50:9,.0f} µs"
                    print(
                        f"{workload.name}, round {number + 1}, {system.name:<9} {figures}", file=sys.stderr
                    )

    about = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "threads": arguments.threads or "the default number of",
        "rounds": rounds,
        "seconds": seconds,
        "commit": subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        or "none",
    }
    medians = {
        workload: {name: median(turns) for name, turns in systems.items()}
        for workload, systems in samples.items()
    }
    written = table(medians, about)
    folder = TARGET / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{arguments.name}.md").write_text(written)
    everything = {
        "about": about,
        "samples": {
            workload: {name: [asdict(turn) for turn in turns] for name, turns in systems.items()}
            for workload, systems in samples.items()
        },
    }
    (folder / f"{arguments.name}.json").write_text(json.dumps(everything, indent=1))
    print(written)
    print(f"written to {folder / arguments.name}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    main()
