"""Says how it is in a word of its own: the one that the settings name."""

from base_plugin import PLUGIN, SETTINGS, Bus

bus = Bus()
bus.offer()
bus.say("health", plugin=PLUGIN, status=SETTINGS["word"], detail=["because", 3])
bus.serve()
