"""Takes its name from the file at BKG_PLUGIN_CONFIG_PATH; BKG_PLUGIN_NAME means nothing to it."""

import os

from base_plugin import ENTRY, Bus

os.environ["BKG_PLUGIN_NAME"] = "somebody-else"
bus = Bus()
bus.offer(plugin=ENTRY["name"])
bus.serve()
