"""The daemon reached from elsewhere: the official client and a real browser over its own TLS, and nginx in
front of it with the configuration that `docs/operating.md` prints.

Addresses of 127.0.0.0/8 stand for other machines. `tests/it/listen.rs` has the rules one by one.
"""

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from browser import MISSING, Browser, find_browser
from harness import ADMIN_PASSWORD, REPOSITORY, Host, apikeys, llmserver, until
from openai import APIConnectionError, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

NAME = "bkg.example.org"
LOGIN = {"username": "admin", "password": ADMIN_PASSWORD}
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Certificate:
    """A certificate that whoever trusts it takes from `localhost` and from `NAME`."""

    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a client believes that trusts this certificate and no other."""
        return ssl.create_default_context(cafile=self.cert)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; on Debian: sudo apt-get install openssl")
    directory = tmp_path_factory.mktemp("certificate")
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-days",
        "1",
        "-subj",
        "/CN=Backplane",
        "-addext",
        f"subjectAltName=DNS:localhost,DNS:{NAME}",
    ]
    command += ["-keyout", str(made.key), "-out", str(made.cert)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def over_tls(start_host: Callable[..., Host], certificate: Certificate) -> Host:
    """A daemon with a listener that speaks TLS."""
    config = f"""
        api.listen = ["127.0.0.1:0"]
        api.allowed_hosts = ["{NAME}"]
        tls.cert = "{certificate.cert}"
        tls.key = "{certificate.key}"
    """
    return start_host(apikeys(), llmserver(), config=config, ADMIN_PASSWORD=ADMIN_PASSWORD)


def tls_port(host: Host) -> int:
    """The port of the one listener besides loopback."""
    (address,) = host.ports["listen"]
    return int(address.rpartition(":")[2])


def chat(client: OpenAI) -> tuple[str | None, str]:
    """The same question twice: answered at once, and as a stream."""
    question: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}
    whole = client.chat.completions.create(model="stand-in", messages=[question])
    pieces = client.chat.completions.create(model="stand-in", messages=[question], stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    return whole.choices[0].message.content, streamed


def test_the_official_client_works_over_tls_and_believes_nobody_else(
    over_tls: Host, certificate: Certificate
) -> None:
    url = f"https://localhost:{tls_port(over_tls)}/v1"
    with httpx2.Client(verify=certificate.context()) as trusting:
        whole, streamed = chat(over_tls.openai(base_url=url, http_client=trusting))
    assert whole
    assert whole == streamed
    with pytest.raises(APIConnectionError):
        over_tls.openai(base_url=url).models.list()


def test_a_browser_keeps_a_login_over_tls(over_tls: Host, tmp_path: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip(MISSING)
    own = f"https://{NAME}:{tls_port(over_tls)}"
    with Browser(program, tmp_path / "profile", [NAME]) as browser:
        profile = browser.profile()
        page = profile.page("about:blank")
        page.ask("Security.setIgnoreCertificateErrors", {"ignore": True})
        page.go(f"{own}/health")

        def post(path: str, body: object) -> object:
            wanted = {
                "method": "POST",
                "headers": {"content-type": "application/json"},
                "body": json.dumps(body),
            }
            return page.run(f"fetch('{path}', {json.dumps(wanted)}).then(answer => answer.status)")

        assert post("/auth/login", LOGIN) == 200
        cookies = profile.cookies()
        assert cookies.keys() == {"__Host-bkg_session", "__Secure-bkg_refresh"}
        assert all(cookie["secure"] and cookie["httpOnly"] for cookie in cookies.values())
        assert post("/admin/keys", {"scopes": ["llm.chat"]}) == 201
        assert page.exchange("POST", f"{own}/admin/keys").cookies == {"__Host-bkg_session"}
        assert post("/auth/refresh", {}) == 200
        assert post("/auth/logout", {}) == 200
        assert profile.cookies() == {}


@pytest.fixture
def proxied(
    start_host: Callable[..., Host], certificate: Certificate, tmp_path: Path
) -> Iterator[tuple[Host, int]]:
    """A daemon behind nginx, and the port at which nginx speaks TLS."""
    if NGINX is None:
        pytest.skip("nginx is not installed; on Debian: sudo apt-get install nginx-light")
    config = f'[api]\ntrusted_proxies = ["127.0.0.1"]\nallowed_hosts = ["{NAME}"]\n'
    host = start_host(apikeys(), llmserver(), config=config, ADMIN_PASSWORD=ADMIN_PASSWORD)
    process, port = start_nginx(NGINX, tmp_path / "nginx", host, certificate)
    yield host, port
    process.terminate()
    process.wait(timeout=30)


def start_nginx(
    program: str, directory: Path, host: Host, certificate: Certificate
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts nginx with the documented configuration."""
    directory.mkdir()
    # nginx takes no port of the kernel's choice, so one may be gone by the time it asks.
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (directory / "nginx.conf").write_text(nginx_configuration(directory, port, host, certificate))
        command = [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if serves(process, port):
            return process, port
    raise AssertionError((directory / "log").read_text(errors="replace"))


def nginx_configuration(directory: Path, port: int, host: Host, certificate: Certificate) -> str:
    """What the documentation has, but for paths and ports."""
    page = (REPOSITORY / "docs/operating.md").read_text()
    (site,) = re.findall(r"^```nginx\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    for there, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/bkg/fullchain.pem", str(certificate.cert)),
        ("/etc/ssl/bkg/privkey.pem", str(certificate.key)),
        ("127.0.0.1:43119", f"127.0.0.1:{host.ports['api']}"),
    ):
        assert site.count(there) == 1, there
        site = site.replace(there, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory / kind};\n" for kind in kinds)
    process = f"daemon off;\nmaster_process off;\npid {directory / 'pid'};\nevents {{}}\n"
    return f"{process}http {{\naccess_log off;\n{paths}{site}}}\n"


def serves(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until the process listens, or is gone."""
    until(lambda: listens(port) or process.poll() is not None, "nginx listens or leaves")
    return process.poll() is None


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client(certificate: Certificate, port: int, address: str) -> httpx2.Client:
    """Somebody who comes to `NAME` from an address of this machine."""
    transport = httpx2.HTTPTransport(verify=certificate.context(), local_address=address)

    def lead_there(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = NAME
        request.headers["host"] = f"{NAME}:{port}"

    hooks = {"request": [lead_there]}
    return httpx2.Client(transport=transport, base_url=f"https://127.0.0.1:{port}", event_hooks=hooks)


def test_behind_nginx_the_daemon_sees_clients_and_not_the_proxy(
    proxied: tuple[Host, int], certificate: Certificate
) -> None:
    host, port = proxied
    with client(certificate, port, "127.0.0.5") as visitor:
        wrong = {**LOGIN, "password": "wrong"}
        claimed = {
            "x-forwarded-for": "203.0.113.9",
            "x-forwarded-proto": "http",
            "x-forwarded-host": "evil",
        }
        assert visitor.post("/auth/login", json=wrong, headers=claimed).status_code == 401
        login = visitor.post("/auth/login", json=LOGIN, headers=claimed)
        assert login.status_code == 200, login.text
        cookies = [header.split("=")[0] for header in login.headers.get_list("set-cookie")]
        assert cookies == ["__Host-bkg_session", "__Secure-bkg_refresh"]
        session = login.headers.get_list("set-cookie")[0].split(";")[0]
        for origin, due in ((f"https://{NAME}:{port}", 201), (f"https://{NAME}", 403)):
            headers = {"cookie": session, "origin": origin}
            made = visitor.post("/admin/keys", json={"scopes": ["llm.chat"]}, headers=headers)
            assert made.status_code == due, made.text
        whole, streamed = chat(host.openai(base_url=f"https://127.0.0.1:{port}/v1", http_client=visitor))
        assert whole
        assert whole == streamed
    rows = host.http("GET", "/admin/audit?action=login").json()["entries"]
    assert {row["address"] for row in rows} == {"127.0.0.5"}
    assert {row["kind"] for row in rows} == {"done", "failed"}
