"""Sends telemetry whose figures are texts, null or absent, as often as its library likes."""

from base_plugin import PLUGIN, Bus

bus = Bus()
bus.offer()
for _ in range(100):
    bus.say("telemetry", plugin=PLUGIN)
    bus.say("telemetry", plugin=PLUGIN, cpu=None, mem_bytes=None)
    bus.say("telemetry", plugin=PLUGIN, cpu="12 %", mem_bytes="40 MiB", uptime="a while", threads=[1])
bus.say("telemetry", plugin=PLUGIN, cpu="n/a", mem_bytes=1048576, queue=3)
bus.serve()
