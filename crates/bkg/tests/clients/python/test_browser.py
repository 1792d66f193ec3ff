"""Pages of other sites in a real browser: what they try with somebody's login, and what comes of it.

Three places to attack from: another site, another web server of the same machine (the same *site* for
a browser, which sends it all cookies), and the daemon itself under a foreign name (DNS rebinding).
Each test looks at the wire, at what the page got, and at the daemon, where nothing may have changed.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from browser import MISSING, Browser, Page, Profile, find_browser
from harness import ADMIN_PASSWORD, REPOSITORY, Host, apikeys, until

STOP = "/admin/plugins/misbehave/stop"
COOKIES = {"bkg_session", "bkg_refresh"}


class Elsewhere(BaseHTTPRequestHandler):
    """A web server that is not ours: an empty page at every address."""

    def do_GET(self) -> None:
        """Answers with the page; below `/unnamed` it keeps to itself where its requests come from."""
        page = b"<!doctype html><title>elsewhere</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        if self.path.startswith("/unnamed"):
            self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of the other web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(MISSING)
    names = ["evil.example", "rebind.example", "bkg.example"]
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile", names) as browser:
        yield browser


@pytest.fixture(params=["127.0.0.1", "evil.example"], ids=["same-site", "cross-site"])
def hostile(request: pytest.FixtureRequest, elsewhere: int) -> str:
    """A page that is not ours: on another port of the same name, or of another site."""
    return f"http://{request.param}:{elsewhere}/"


@pytest.fixture
def victim(browser: Browser, guarded: Host) -> Profile:
    """Somebody who is logged in as the administrator."""
    profile = browser.profile()
    assert log_in(profile.page(f"{guarded.url}/health")) == 200
    assert profile.cookies().keys() == COOKIES
    return profile


def log_in(page: Page) -> Any:
    """Logs in as a page of our own does."""
    return fetch(page, "/auth/login", "POST", {"username": "admin", "password": ADMIN_PASSWORD})


def fetch(page: Page, url: str, method: str = "GET", body: Any = None, **options: Any) -> Any:
    """The status of an answer that the page may read; else its type, or `refused`.

    Text is sent as text, everything else as JSON.
    """
    wanted = {"method": method, "credentials": "include", **options}
    if isinstance(body, str):
        wanted |= {"body": body}
    elif body is not None:
        wanted |= {"body": json.dumps(body), "headers": {"content-type": "application/json"}}
    answer = "answer => answer.status || answer.type, () => 'refused'"
    return page.run(f"fetch({json.dumps(url)}, {json.dumps(wanted)}).then({answer})")


def submit(page: Page, url: str, encoding: str, fields: dict[str, str]) -> None:
    """Sends a form, as a page does by itself when it is opened."""
    page.run(f"""(() => {{
        const form = document.body.appendChild(document.createElement('form'));
        Object.assign(form, {json.dumps({"method": "POST", "action": url, "enctype": encoding})});
        for (const [name, value] of Object.entries({json.dumps(fields)}))
            form.appendChild(Object.assign(document.createElement('input'), {{ name, value }}));
        form.submit();
    }})()""")


def state(host: Host) -> dict[str, Any]:
    """What an attack could change: users, keys, logins, a plugin, and what the audit log has of it."""
    users = host.http("GET", "/admin/users").json()["users"]
    keys = host.http("GET", "/admin/keys").json()["keys"]
    sessions = host.http("GET", "/admin/sessions").json()["sessions"]
    entries = host.http("GET", "/admin/audit?limit=1").json()["entries"]
    return {
        "users": [(user["name"], user["role"], user["disabled"], user["lastLoginAt"]) for user in users],
        "keys": [(key["id"], key["status"]) for key in keys],
        "sessions": [(session["id"], session["expiresAt"]) for session in sessions],
        "plugin": host.instance("misbehave")["pid"],
        "audit": entries[0]["seq"],
    }


def status_for(hostile: str, page: Page, method: str, url: str) -> int:
    """The status of what a page at `hostile` got, once the browser is seen to have done its part.

    It said whose page it was, and sent the login within the site alone: there the daemon has to refuse.
    """
    exchange = page.exchange(method, url)
    if "127.0.0.1" in hostile:
        assert (exchange.site, "bkg_session" in exchange.cookies) == ("same-site", True), exchange
    else:
        assert (exchange.site, exchange.cookies) == ("cross-site", set()), exchange
    assert exchange.status is not None
    return exchange.status


def test_no_script_reads_the_cookies_and_they_open_nothing_below_v1(guarded: Host, victim: Profile) -> None:
    page = victim.page(f"{guarded.url}/health")
    assert page.run("document.cookie") == ""
    for name, path in (("bkg_session", "/"), ("bkg_refresh", "/auth/refresh")):
        cookie = victim.cookies()[name]
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", path)
        assert cookie["domain"] == "127.0.0.1", "for this name alone, without the names below it"
    assert fetch(page, "/admin/plugins") == 200
    assert page.exchange("GET", f"{guarded.url}/admin/plugins").cookies == {"bkg_session"}
    assert fetch(page, "/v1/models") == 401
    assert page.exchange("GET", f"{guarded.url}/v1/models").cookies == {"bkg_session"}
    chat = {"model": "stand-in", "messages": [{"role": "user", "content": "hello"}]}
    assert fetch(page, "/v1/chat/completions", "POST", chat) == 401


def test_a_page_of_our_own_works_with_the_login_until_it_is_ended(guarded: Host, victim: Profile) -> None:
    page = victim.page(f"{guarded.url}/health")
    before = victim.cookies()
    assert fetch(page, "/admin/keys", "POST", {"name": "of a page", "scopes": ["llm.chat"]}) == 201
    (key,) = [
        key for key in guarded.http("GET", "/admin/keys").json()["keys"] if key["name"] == "of a page"
    ]
    assert fetch(page, f"/admin/keys/{key['id']}", "DELETE") == 200
    assert fetch(page, "/auth/refresh", "POST") == 200
    assert page.exchange("POST", f"{guarded.url}/auth/refresh").cookies == COOKIES
    assert not [
        name for name, cookie in victim.cookies().items() if cookie["value"] == before[name]["value"]
    ]
    assert fetch(page, "/admin/plugins") == 200
    assert fetch(page, "/auth/logout", "POST") == 200
    assert victim.cookies() == {}
    assert fetch(page, "/admin/plugins") == 401


@pytest.mark.parametrize("path", ["/admin/keys", "/admin/users", "/auth/me", "/v1/models", "/health"])
def test_a_foreign_page_reads_nothing(guarded: Host, victim: Profile, hostile: str, path: str) -> None:
    page = victim.page(hostile)
    url = guarded.url + path
    assert fetch(page, url) == "refused"
    status_for(hostile, page, "GET", url)
    # Where browsers may come to: not even as something that cannot be looked into.
    unseen = "opaque" if path.startswith("/v1/") else "refused"
    assert fetch(page, url, mode="no-cors") == unseen


def test_a_foreign_page_shows_and_runs_nothing_of_ours(
    guarded: Host, victim: Profile, hostile: str
) -> None:
    before = state(guarded)
    page = victim.page(hostile)
    for element in ("img", "script", "video"):
        url = f"{guarded.url}/admin/keys?for={element}"
        outcome = page.run(f"""new Promise(done => {{
            const element = document.body.appendChild(document.createElement('{element}'));
            element.onload = element.onloadeddata = () => done('loaded');
            element.onerror = () => done('refused');
            element.src = '{url}';
        }})""")
        assert outcome == "refused", element
        status_for(hostile, page, "GET", url)
    frame = page.run(f"""new Promise(done => {{
        const frame = document.body.appendChild(document.createElement('iframe'));
        frame.onload = () => done(frame.contentDocument === null ? 'sealed' : 'open');
        frame.src = '{guarded.url}/admin/keys';
    }})""")
    assert frame == "sealed"
    # No GET changes anything, whatever its address asks for.
    assert fetch(page, guarded.url + STOP, mode="no-cors") == "refused"
    assert page.exchange("GET", guarded.url + STOP).status == 405
    assert state(guarded) == before


# What a page can send without asking first, and what it must ask for (a preflight, which is not granted).
SENT_AT_ONCE: dict[str, Callable[[Page, str], Any]] = {
    "fetch": lambda page, url: fetch(page, url, "POST", mode="no-cors"),
    "beacon": lambda page, url: page.run(f"navigator.sendBeacon('{url}', '{{}}')"),
    "form": lambda page, url: submit(page, url, "application/x-www-form-urlencoded", {"a": "b"}),
    "text form": lambda page, url: submit(page, url, "text/plain", {'{"a": "': '"}'}),
    "upload": lambda page, url: submit(page, url, "multipart/form-data", {"a": "b"}),
}


@pytest.mark.parametrize("way", SENT_AT_ONCE)
def test_a_foreign_page_changes_nothing(guarded: Host, victim: Profile, hostile: str, way: str) -> None:
    before = state(guarded)
    page = victim.page(hostile)
    SENT_AT_ONCE[way](page, guarded.url + STOP)
    # A cookie that the browser kept back leaves nobody to refuse; one that it sent is refused by us.
    expected = 403 if "127.0.0.1" in hostile else 401
    assert status_for(hostile, page, "POST", guarded.url + STOP) == expected
    assert state(guarded) == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/admin/keys", {"scopes": ["admin"]}),
        ("POST", STOP, {}),
        ("DELETE", "/admin/users/admin", None),
        ("PUT", "/admin/roles/user", {"scopes": ["admin"]}),
        ("PATCH", "/admin/users/admin", {"disabled": True}),
    ],
)
def test_what_a_foreign_page_must_ask_for_is_not_granted(
    guarded: Host, victim: Profile, hostile: str, method: str, path: str, body: Any
) -> None:
    before = state(guarded)
    page = victim.page(hostile)
    assert fetch(page, guarded.url + path, method, body) == "refused"
    assert not page.exchange("OPTIONS", guarded.url + path).cookies
    assert state(guarded) == before


@pytest.mark.parametrize("way", ["fetch", "text form"])
@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh", "/auth/logout"])
def test_a_foreign_page_neither_logs_in_nor_out_nor_renews(
    guarded: Host, victim: Profile, hostile: str, path: str, way: str
) -> None:
    before, cookies = state(guarded), victim.cookies()
    page = victim.page(hostile)
    url = guarded.url + path
    login = json.dumps({"username": "admin", "password": ADMIN_PASSWORD, "x": ""})
    if way == "fetch":
        assert fetch(page, url, "POST", mode="no-cors", body=login) == "refused"
    else:
        # A form can send this as text, with an equals sign in the member that nobody reads.
        submit(page, url, "text/plain", {login.removesuffix('"}'): '"}'})
    # Where a login is not asked for, a page of another site is refused as such, also without a cookie.
    expected = 401 if path == "/auth/logout" and "evil" in hostile else 403
    assert status_for(hostile, page, "POST", url) == expected
    assert victim.cookies() == cookies
    assert state(guarded) == before


def open_socket(page: Page, url: str, *protocols: str) -> Any:
    """The type of the first message of a socket; else the code that it was closed with."""
    return page.run(f"""new Promise(done => {{
        const socket = new WebSocket({json.dumps(url)}, {json.dumps(protocols)});
        socket.onmessage = event => done(JSON.parse(event.data).type);
        socket.onclose = event => done(event.code);
    }})""")


def ticket_of(page: Page) -> Any:
    """A one-time ticket, for whoever is logged in at this page of our own."""
    return page.run("fetch('/auth/ticket', { method: 'POST' }).then(answer => answer.json())")["ticket"]


def pages_from(guarded: Host, elsewhere: int) -> dict[str, str]:
    """A page of another port of this machine, one of another site, and one of our own."""
    return {
        "same-site": f"http://127.0.0.1:{elsewhere}/",
        "cross-site": f"http://evil.example:{elsewhere}/",
        "own": f"{guarded.url}/health",
    }


@pytest.mark.parametrize("from_where", ["same-site", "cross-site", "own"])
def test_a_socket_is_for_pages_of_our_own(
    guarded: Host, victim: Profile, elsewhere: int, from_where: str
) -> None:
    pages = pages_from(guarded, elsewhere)
    before = state(guarded)
    page = victim.page(pages[from_where])
    own = victim.page(pages["own"])
    for path in ("/ws", "/ws/plugins"):
        url = f"ws://127.0.0.1:{guarded.ports['api']}{path}"
        # With the cookie that the browser sends by itself, and with a ticket, even one that was stolen.
        for protocols in (("bkg.v1",), ("bkg.v1", f"bkg.ticket.{ticket_of(own)}")):
            outcome = open_socket(page, url, *protocols)
            if from_where == "own":
                assert outcome == "bootstrap", url
            else:
                assert outcome == 1006
                assert "response code: 403" in page.socket_error(), url
    assert open_socket(page, f"ws://127.0.0.1:{guarded.ports['api']}/") == 1006
    assert "response code: 404" in page.socket_error()
    assert state(guarded) == before


def test_a_ticket_opens_one_socket(guarded: Host, victim: Profile) -> None:
    page = victim.page(f"{guarded.url}/health")
    url = f"ws://127.0.0.1:{guarded.ports['api']}/ws"
    ticket = ticket_of(page)
    assert open_socket(page, url, "bkg.v1", f"bkg.ticket.{ticket}") == "bootstrap"
    assert open_socket(page, url, "bkg.v1", f"bkg.ticket.{ticket}") == 1006
    assert "Authentication failed" in page.socket_error(), "this browser's word for 401"
    assert ticket not in guarded.log.read_text(errors="replace")


def test_under_a_foreign_name_there_is_no_socket(guarded: Host, victim: Profile) -> None:
    origin = f"rebind.example:{guarded.ports['api']}"
    page = victim.page(f"http://{origin}/health")
    assert open_socket(page, f"ws://{origin}/ws") == 1006
    assert "response code: 421" in page.socket_error()


def test_the_example_of_the_documentation_follows_a_log(guarded: Host, victim: Profile) -> None:
    (example,) = re.findall(r"```js\n(.*?)```", (REPOSITORY / "docs/live.md").read_text(), re.DOTALL)
    page = victim.page(f"{guarded.url}/health")
    # Its sockets are kept, to be broken here as a network breaks them.
    page.run(f"""(() => {{
        const sockets = window.sockets = [], lines = window.lines = [];
        window.WebSocket = class extends WebSocket {{
            constructor(...given) {{
                super(...given);
                sockets.push(this);
                this.addEventListener('message', ({{data}}) => {{
                    window.subscribed ||= JSON.parse(data).type === 'subscribed';
                }});
            }}
        }};
        window.followLogs = {example.replace("function followLogs", "function")};
        window.end = followLogs('misbehave', more => lines.push(...more.map(line => line.seq)), () => {{}});
    }})()""")

    def last() -> int:
        lines = guarded.http("GET", "/admin/plugins/misbehave/logs?tail=1").json()["lines"]
        return int(lines[0]["seq"]) if lines else 0

    def follows() -> None:
        due = last() + 20
        guarded.invoke("test.flood_logs", {"lines": 20})
        until(lambda: last() >= due, "the lines are there")
        until(lambda: due in page.run("lines"), "the page has them")

    # It follows from here on. Whatever comes before it is subscribed for the first time is not its to tell;
    # what comes before it is subscribed again is.
    until(lambda: page.run("!!window.subscribed"), "the page follows the log")
    for connections in (1, 2, 3):
        made = f"sockets.length === {connections}"
        page.run(f"new Promise(done => setInterval(() => {made} && done(), 10))")
        follows()
        page.run("sockets.at(-1).close()")
    page.run("end()")
    lines = page.run("lines")
    assert lines == list(range(lines[0], lines[-1] + 1))


@pytest.mark.parametrize("from_where", ["same-site", "cross-site", "own"])
def test_no_page_opens_a_socket_to_the_bus(
    guarded: Host, victim: Profile, elsewhere: int, from_where: str
) -> None:
    pages = pages_from(guarded, elsewhere)
    before = state(guarded)
    page = victim.page(pages[from_where])
    for path in ("/", "/ws"):
        url = f"ws://127.0.0.1:{guarded.ports['bus']}{path}"
        assert open_socket(page, url) == 1006
        assert "response code: 403" in page.socket_error(), url
    assert state(guarded) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/health/ready"),
        ("GET", "/v1/models"),
        ("GET", "/admin/plugins"),
        ("GET", "/admin/keys"),
        ("POST", STOP),
        ("POST", "/auth/login"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("POST", "/v1/chat/completions"),
    ],
)
def test_under_a_foreign_name_there_is_nothing(
    guarded: Host, victim: Profile, method: str, path: str
) -> None:
    before = state(guarded)
    # After rebinding, the daemon is the page's own origin: the browser lets it read and send everything.
    origin = f"http://rebind.example:{guarded.ports['api']}"
    page = victim.page(f"{origin}/health")
    body = {"username": "admin", "password": ADMIN_PASSWORD} if method == "POST" else None
    assert fetch(page, path, method, body) == 421
    exchange = page.exchange(method, origin + path)
    assert (exchange.cookies, exchange.site) == (set(), None), "nothing that the browser says helps here"
    assert state(guarded) == before


@pytest.mark.parametrize("page_of", ["/", "/unnamed"])
def test_under_an_allowed_name_the_origin_tells_whose_page_it_is(
    browser: Browser, elsewhere: int, start_host: Callable[..., Host], page_of: str
) -> None:
    # Over plain HTTP, browsers send `Sec-Fetch-Site` to this machine's own names alone.
    config = '[api]\nallowed_hosts = ["bkg.example"]\n'
    host = start_host(apikeys(), config=config, ADMIN_PASSWORD=ADMIN_PASSWORD)
    own = f"http://bkg.example:{host.ports['api']}"
    profile = browser.profile()
    page = profile.page(f"{own}/health")
    assert log_in(page) == 200
    assert page.exchange("POST", f"{own}/auth/login").site is None
    assert fetch(page, "/admin/keys", "POST", {"scopes": ["llm.chat"]}) == 201
    keys = host.http("GET", "/admin/keys").json()
    hostile = profile.page(f"http://bkg.example:{elsewhere}{page_of}")
    submit(hostile, f"{own}/admin/keys", "text/plain", {'{"scopes": ["admin"], "a": "': '"}'})
    exchange = hostile.exchange("POST", f"{own}/admin/keys")
    assert (exchange.site, "bkg_session" in exchange.cookies) == (None, True)
    assert exchange.status == 403
    if page_of == "/unnamed":
        assert exchange.sent["origin"] == "null"
    assert host.http("GET", "/admin/keys").json() == keys


def test_the_reference_is_shown_to_who_logs_in(guarded: Host, browser: Browser) -> None:
    page = browser.profile().page(f"{guarded.url}/docs")
    assert "has to know who reads" in page.run("document.body.innerText")
    page.run("""(() => {
        window.violations = [];
        document.addEventListener('securitypolicyviolation', event => violations.push(event.blockedURI));
        const form = document.querySelector('form');
        form.username.value = 'admin';
        form.password.value = 'not the password';
        form.requestSubmit();
    })()""")
    alert = "document.querySelector('[role=alert]').textContent"
    until(lambda: page.run(alert), "the page says why not")
    assert page.run("violations.length") == 0
    page.run(f"""(() => {{
        const form = document.querySelector('form');
        form.password.value = {json.dumps(ADMIN_PASSWORD)};
        form.requestSubmit();
    }})()""")
    until(
        lambda: (
            page.run(
                "document.readyState === 'complete' && document.querySelectorAll('main details').length"
            )
            or None
        ),
        "the whole reference is there",
    )
    # Its style is in force under the policy, its links lead somewhere, and it fits a small screen.
    assert page.run("getComputedStyle(document.body).margin") == "0px"
    links = "[...document.querySelectorAll('a[href^=\"#\"]')]"
    assert page.run(f"{links}.filter(link => !document.querySelector(link.hash)).length") == 0
    page.ask(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True},
    )
    page.run("document.querySelectorAll('details').forEach(shown => { shown.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= 360
