"""Runs the plugin: `python -m repoagent`, started by `start.sh`."""

import os
import sys
from pathlib import Path

from repoagent.plugin import build


def main() -> None:
    """Runs until the host or a signal ends it."""
    data = os.environ.get("BKG_PLUGIN_DATA_DIR")
    if not data:
        print(
            "error: `BKG_PLUGIN_DATA_DIR` is not set: the host sets it for what it starts", file=sys.stderr
        )
        sys.exit(78)
    plugin = build(Path(data))
    plugin.twin.announce(os.environ.get("BKG_PLUGIN_CONFIG_PATH"))
    plugin.run()


if __name__ == "__main__":
    main()
