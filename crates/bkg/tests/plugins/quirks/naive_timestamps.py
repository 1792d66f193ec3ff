"""Logs with every kind of timestamp that existing plugins write, and with none."""

from base_plugin import PLUGIN, Bus

TIMESTAMPS = [
    "2026-01-02T03:04:05Z",
    "2026-01-02T05:04:05.5+02:00",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05.250",
    "2026-01-02 03:04:05",
    1767323045.5,
    "yesterday",
    None,
]

bus = Bus()
bus.offer()
for number, timestamp in enumerate(TIMESTAMPS):
    bus.say("log", plugin=PLUGIN, level="info", message=f"line {number}", timestamp=timestamp)
bus.say("log", plugin=PLUGIN, level="info", message=f"line {len(TIMESTAMPS)}")
bus.serve()
