"""Says more than the host knows: members and types of its own, and more of them than are borne of what
cannot be read. What is of the extended contract alone means nothing from it either.
"""

from base_plugin import PLUGIN, Bus

bus = Bus()
bus.offer(colour="green", nested={"type": "register"}, version="1.0", homepage=None)
bus.say("health", plugin=PLUGIN, status="up", mood="sunny", uptime=3)
for number in range(300):
    bus.say("metrics", plugin=PLUGIN, number=number)
    bus.say("subscribe", topic="weather")
bus.say("log", plugin=PLUGIN, level="chatty", message={"not": "a text"}, thread=7)
bus.serve()
