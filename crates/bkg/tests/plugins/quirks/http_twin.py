"""Has an HTTP twin of its own, which answers every path as the file `says` tells: with a status, or not.

`quirk.well` fails while the file `ill` is there. `quirk.wait` waits until somebody opens the pipe `go`.
Another port is registered than the one that is listened on where the file `register` holds one.
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from base_plugin import DATA, Bus, Failure


class Twin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        says = (DATA / "says").read_text() if (DATA / "says").exists() else "200"
        if says == "nothing":
            threading.Event().wait()
        self.send_response(int(says))
        self.send_header("location", "/well")
        self.end_headers()
        self.wfile.write(b"so it says\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def well(_: Any) -> Any:
    if (DATA / "ill").exists():
        raise Failure({"code": "internal", "message": "not well"})
    return {}


def wait(payload: Any) -> Any:
    (DATA / "go").open("rb").read()
    return payload


if not (DATA / "go").exists():
    os.mkfifo(DATA / "go")
twin = ThreadingHTTPServer(("127.0.0.1", 0), Twin)
twin.daemon_threads = True
threading.Thread(target=twin.serve_forever, daemon=True).start()
port = twin.server_address[1]
if (DATA / "register").exists():
    port = json.loads((DATA / "register").read_text())
bus = Bus()
bus.offer({"quirk.well": well, "quirk.wait": wait}, port=port)
bus.serve()
