"""A plugin that breaks every rule of the bus on command, one capability per rule.

It is a test's instrument, not an example: it speaks the extended contract by hand, without an SDK, so
that nothing of the host's own code vouches for what is on the wire. Whatever a request does not ask
for stays well behaved, so each test sees one broken rule at a time. README.md lists the commands.
"""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import commands  # noqa: F401  (enters the commands)
import faults
import models  # noqa: F401  (enters the models)
from session import Plugin


def main() -> None:
    """Reads the entry that the host left for this launch, and serves."""
    entry = json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())
    settings = entry.get("settings") or {}
    if settings.get("leaveChild"):
        subprocess.Popen(["sleep", "100000"], start_new_session=True)
    faults.at_start(settings.get("fault", ""))
    if settings.get("ignoreTerm") or settings.get("fault") == "ends-at-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(Plugin(entry).run())


if __name__ == "__main__":
    main()
