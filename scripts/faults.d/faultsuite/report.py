"""What a run says: the table on the terminal, JSON for programs, and the figures of
`docs/reliability.md`.

It only writes. Several runs of a row stand beside one another, and one that missed is never hidden by
another.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .trial import Figure, Form, Row

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass
class Result:
    """One row and what each run of it found."""

    row: Row
    runs: list[list[Figure]]
    skipped: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every figure of every run kept its bar, and there was one."""
        return bool(self.runs) and all(run and all(figure.ok for figure in run) for run in self.runs)


def show(result: Result) -> None:
    """Prints a row and its figures."""
    if result.skipped is not None:
        print(f"- {result.row.id}: skipped: {result.skipped}", flush=True)
        return
    verdict = "ok" if result.ok else "MISSED"
    print(f"- {result.row.id}: {verdict}, {result.seconds:.0f} s", flush=True)
    for number, run in enumerate(result.runs, 1):
        for figure in run:
            mark = " " if figure.ok else "!"
            which = f"run {number}: " if len(result.runs) > 1 else ""
            print(f"  {mark} {which}{figure.name}: {figure.measured} [{figure.bar}]", flush=True)


def summary(results: list[Result]) -> str:
    """The last line."""
    skipped = sum(result.skipped is not None for result in results)
    failed = sum(result.skipped is None and not result.ok for result in results)
    return f"{len(results) - skipped - failed} passed, {failed} failed, {skipped} skipped"


def table(results: list[Result]) -> str:
    """One line for each row, for the terminal."""
    lines = []
    for result in results:
        missed = [figure for run in result.runs for figure in run if not figure.ok]
        count = sum(len(run) for run in result.runs)
        verdict = "skipped" if result.skipped is not None else "ok" if result.ok else "MISSED"
        figures = result.skipped or f"{count - len(missed)} of {count} figures within their bars"
        lines.append(f"{result.row.id:<18} {verdict:<8} {figures}")
    return "\n".join(lines)


def as_json(results: list[Result], form: Form) -> str:
    """Everything, for programs."""
    rows = [
        {
            "row": result.row.id,
            "fault": result.row.fault,
            "bar": result.row.bar,
            "ok": result.ok,
            "skipped": result.skipped,
            "seconds": round(result.seconds, 1),
            "runs": [[asdict(figure) for figure in run] for run in result.runs],
        }
        for result in results
    ]
    return json.dumps({"form": form, "at": now(), **machine(), "rows": rows}, indent=2, ensure_ascii=False)


def now() -> str:
    """The day."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def machine() -> dict[str, str | int]:
    """What the figures depend on, without the machine's name."""
    meminfo = Path("/proc/meminfo").read_text().split()
    memory = int(meminfo[meminfo.index("MemTotal:") + 1]) >> 20
    return {
        "cores": os.cpu_count() or 0,
        "memoryGib": memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "architecture": platform.machine(),
    }


def write_page(path: Path, results: list[Result], form: Form, profile: str) -> None:
    """Puts the figures between their marks in the page; the words around them are the page's own."""
    page = path.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    path.write_text(f"{page[:begin]}\n{figures_of(results, form, profile)}{page[end:]}")


def figures_of(results: list[Result], form: Form, profile: str) -> str:
    """The part of the page that a run writes."""
    of = machine()
    runs = max((len(result.runs) for result in results), default=1)
    text = f"""
Measured on {now()} with `scripts/faults --{form} --runs {runs}`, {profile} build, on {of["cores"]} cores,
{of["memoryGib"]} GiB, {of["system"]}, {of["architecture"]}. The load, the plugins and the witness share
the cores with the host.

| row | fault | what must hold | kept |
|---|---|---|---|
"""
    for result in results:
        row = result.row
        kept = (
            f"not tried: {result.skipped}"
            if result.skipped is not None
            else "yes"
            if result.ok
            else "**no**"
        )
        text += f"| [{row.id}](#{row.id}) | {row.fault} | {row.bar} | {kept} |\n"
    for result in results:
        text += f"\n### {result.row.id}\n\n{wrapped(result.row.measured_how)}\n"
        if result.skipped is not None:
            text += f"\nNot tried: {result.skipped}.\n"
            continue
        text += "\n| figure | measured | bar |\n|---|---|---|\n"
        for name, bar, measured, ok in beside(result.runs):
            text += f"| {name} | {measured} | {bar}{'' if ok else ' **missed**'} |\n"
    return text


def beside(runs: list[list[Figure]]) -> list[tuple[str, str, str, bool]]:
    """The figures of several runs: name, bar, what each measured, and whether all kept it."""
    found: dict[str, list[Figure]] = {}
    for run in runs:
        for figure in run:
            found.setdefault(figure.name, []).append(figure)
    rows = []
    for name, figures in found.items():
        bars = list(dict.fromkeys(figure.bar for figure in figures))
        measured = " · ".join(figure.measured.replace("|", "\\|") for figure in figures)
        rows.append((name, " · ".join(bars), measured, all(figure.ok for figure in figures)))
    return rows


def wrapped(text: str, width: int = 118) -> str:
    """A paragraph in lines."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
