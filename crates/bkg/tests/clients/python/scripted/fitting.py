"""Values that fit a JSON Schema, made out of what a text says.

Where the text has `name=value` or `name: value` for a property, that is taken; numbers and quoted texts go
to the other properties in their order. Not a model: the same schema and text give the same value, always.
"""

import json
import re
from typing import Any

Schema = dict[str, Any]


class Clues:
    """What a text offers to whoever looks for values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.numbers = [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", text)]
        self.quoted = [one or other for one, other in re.findall(r'"([^"]+)"|\'([^\']+)\'', text)]

    def named(self, name: str) -> str | None:
        """The value that the text gives this name."""
        found = re.search(rf"\b{re.escape(name)}\s*[=:]\s*(\"[^\"]*\"|[^\s,;)]+)", self.text)
        return found.group(1).strip('"') if found else None

    def number(self, otherwise: float) -> float:
        """The next number."""
        return self.numbers.pop(0) if self.numbers else otherwise

    def words(self) -> str:
        """The next quoted text, or everything."""
        return self.quoted.pop(0) if self.quoted else self.text


def fitting(schema: Schema, clues: Clues, name: str = "", *, root: Schema | None = None) -> Any:
    """A value that fits the schema; the definitions that it refers to stand in `root`."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return fitting(target, clues, name, root=root)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return fitting(schema[choice][0], clues, name, root=root)
    if "const" in schema:
        return schema["const"]
    told: str | None = clues.named(name) if name else None
    if "enum" in schema:
        return told if told in schema["enum"] else schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            members: Schema = schema.get("properties", {})
            required: list[str] = schema.get("required", list(members))
            wanted = [member for member in members if member in required]
            return {member: fitting(members[member], clues, member, root=root) for member in wanted}
        case "array":
            number = max(1, schema.get("minItems", 1))
            item = schema.get("items", {"type": "string"})
            return [fitting(item, clues, name, root=root) for _ in range(number)]
        case "integer":
            return int(float(told)) if told else int(clues.number(schema.get("minimum", 0)))
        case "number":
            return float(told) if told else clues.number(schema.get("minimum", 0.5))
        case "boolean":
            return told != "false"
        case "null":
            return None
        case _:
            return clues.words() if told is None else told


def mentioned(text: str) -> dict[str, str]:
    """An object for somebody who asks for JSON without a schema: the names that the text quotes."""
    names = re.findall(r"[\"'`](\w+)[\"'`]", text) or ["answer"]
    return {name: f"the {name} of: {text[:40]}" for name in names}


def compact(value: Any) -> str:
    """JSON as models write it: on one line, with the characters themselves."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
