"""No quirk of its own: for start scripts that have one."""

from base_plugin import Bus

bus = Bus()
bus.offer()
bus.serve()
