"""Works on one request at a time and hears nothing meanwhile.

`quirk.wait` waits until somebody opens the pipe `go` for writing, and notes which one it was.
"""

import os
from typing import Any

from base_plugin import DATA, Bus, note


def wait(payload: Any) -> Any:
    note(f"begins {payload}")
    (DATA / "go").open("rb").read()
    note(f"ends {payload}")
    return payload


os.mkfifo(DATA / "go")
bus = Bus()
bus.offer({"quirk.wait": wait})
bus.serve()
