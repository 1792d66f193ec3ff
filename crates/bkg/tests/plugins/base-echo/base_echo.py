"""A plugin of the base contract, as an author writes it who has a WebSocket and a JSON parser.

It is strictly serial and knows nothing of tokens, streams or cancels: whatever the host needs beyond
this page of code must not be needed from a base plugin.
"""

import json
import os
from typing import Any

from websockets.sync.client import connect

NAME = os.environ.get("BKG_PLUGIN_NAME", "base-echo")


def answer(capability: str, payload: dict[str, Any]) -> Any:
    if capability == "base.echo":
        return payload
    text = payload["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"you said: {text}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    head = {"id": "chatcmpl-base", "object": "chat.completion", "created": 1, "model": NAME}
    return {**head, "choices": [choice], "usage": usage}


with connect(os.environ["BKG_PLUGIN_BUS_URL"]) as bus:
    offer = {"plugin": NAME, "port": "internal", "capabilities": ["base.echo", "llm.chat"]}
    bus.send(json.dumps({"type": "register", **offer}))
    bus.send(json.dumps({"type": "health", "plugin": NAME, "status": "up"}))
    for frame in bus:
        request = json.loads(frame)
        data = answer(request["capability"], request["payload"])
        response = {"requestId": request["requestId"], "success": True, "data": data, "error": None}
        bus.send(json.dumps({"type": "response", **response}))
