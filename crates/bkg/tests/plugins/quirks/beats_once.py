"""Beats `beats` times, 1 unless the settings say otherwise, and never again."""

from base_plugin import PLUGIN, SETTINGS, Bus

bus = Bus()
bus.offer()
for _ in range(SETTINGS.get("beats", 1)):
    bus.say("health", plugin=PLUGIN, status="up")
bus.serve()
