"""A page of the documentation as a list of fenced blocks, and what of them is typed and what is answered.

Nothing here runs anything. Text of a page and text of a program are the same if they differ in nothing but
what is another one each time: moments, durations, ids, numbers of two digits and more, and the width of
columns. `…` stands for anything, on a line of its own for any number of lines.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

# What is different each time. `id` and `instance` name one thing, wherever on the page they stand.
VARYING = {
    "moment": r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    "instance": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "id": r"\b[A-Za-z0-9]{16}\b",
    "span": r"\b\d+(?:\.\d+)? (?:ms|s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?",
    "number": r"\b\d{2,}\b",
}
NAMES = ("instance", "id")
TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in VARYING.items()))


@dataclass(frozen=True)
class Command:
    """What is typed, and in a transcript what comes; `None` where the page does not say."""

    text: str
    output: str | None = None

    def __str__(self) -> str:
        """As the page has it, but for the prompt."""
        return self.text if self.output is None else f"{self.text}\n{self.output}"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    text: str
    commands: list[Command] = field(default_factory=list)


def read(page: Path) -> list[Block]:
    """Every fenced block in its order."""
    blocks = []
    opened: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is None:
            if line.startswith("```"):
                opened = (number, line.removeprefix("```").strip(), [])
        elif line == "```":
            start, language, lines = opened
            blocks.append(Block(start, language, "\n".join(lines), commands(language, lines)))
            opened = None
        else:
            opened[2].append(line)
    assert opened is None, f"{page}: the block of line {number} has no end"
    return blocks


def commands(language: str, lines: list[str]) -> list[Command]:
    """What is typed in a block: every line of shell, or what stands behind a prompt."""
    if language == "sh":
        joined = re.sub(r" \\\n\s*", " ", "\n".join(lines)).splitlines()
        return [Command(line) for line in joined if line.strip() and not line.lstrip().startswith("#")]
    if language or not lines or not lines[0].startswith("$ "):
        return []
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return [Command(text, "\n".join(output)) for text, output in found]


def compare(page: str, actual: str, *, whole: bool = True) -> dict[str, str] | None:
    """Which names the program gave to what the page names; `None` if it said something else.

    Without `whole` the page may be a part of what the program said.
    """
    page, actual = narrow(page), narrow(actual)
    pattern, tokens, end = "", [], 0
    for token in TOKEN.finditer(page):
        kind = str(token.lastgroup)
        tokens.append((kind, token.group()))
        pattern += literal(page[end : token.start()]) + f"({VARYING[kind]})"
        end = token.end()
    pattern += literal(page[end:])
    found = re.fullmatch(pattern, actual) if whole else re.search(pattern, actual)
    if found is None:
        return None
    pairs = zip(tokens, found.groups(), strict=True)
    return {name: value for (kind, name), value in pairs if kind in NAMES}


def narrow(text: str) -> str:
    """Without what depends on the width of columns."""
    return "\n".join(re.sub(r"(?<=\S)\s{2,}", "  ", line).rstrip() for line in text.strip("\n").split("\n"))


def literal(text: str) -> str:
    """The pattern of this text with what stands for anything in it."""
    pattern = re.escape(text)
    pattern = re.sub(r"(?m)^…\\?$\n?", r"[\\s\\S]*", pattern)
    return pattern.replace("…", r"[^\n]*")
