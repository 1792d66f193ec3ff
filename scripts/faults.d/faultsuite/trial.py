"""One run of one row: how large it is to be, and the figures that it finds beside their bars.

Nothing here knows what a fault is. `Trial` is what a row is handed; most rows ask it for a `stage`, which
brings the host, the clients and the rules that always hold.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rows
from harness import PluginFolder

if TYPE_CHECKING:
    from .stage import Stage

# What the short form, which runs on a machine that does other things too, allows where a bar is a time.
SHORT_FORM_ALLOWS = 5


class Form(StrEnum):
    """How much a run tries."""

    SHORT = "short"
    FULL = "full"


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, beside what it must not miss."""

    name: str
    measured: str
    bar: str
    ok: bool


class Skipped(Exception):
    """The row cannot run here; the text says what is missing."""


@dataclass
class Trial:
    """What a row works with."""

    form: Form
    directory: Path
    figures: list[Figure] = field(default_factory=list)

    def count(self, short: int, full: int) -> int:
        """How many times something is done."""
        return full if self.form is Form.FULL else short

    def figure(self, name: str, measured: str, bar: str, ok: bool) -> None:
        """Notes a figure."""
        self.figures.append(Figure(name, measured, bar, ok))

    def none(self, name: str, found: Collection[Any]) -> None:
        """Notes how many of something there were that must not be there; the first are shown."""
        shown = "".join(f"; {one}" for one in list(found)[:3])
        self.figure(name, f"{len(found)}{shown}", "0", not found)

    def equal(self, name: str, found: int | str, wanted: int | str) -> None:
        """Notes something that must be exactly this."""
        self.figure(name, str(found), str(wanted), found == wanted)

    def within(self, name: str, taken: float, bar: float) -> None:
        """Notes a time in milliseconds and its bar; the short form allows five times that, and says so."""
        allowed = bar * (1 if self.form is Form.FULL else SHORT_FORM_ALLOWS)
        said = f"≤ {bar:.0f} ms" + ("" if self.form is Form.FULL else f" × {SHORT_FORM_ALLOWS}")
        self.figure(name, f"{taken:.1f} ms", said, taken <= allowed)

    def at_most(self, name: str, found: float, bar: float, unit: str) -> None:
        """Notes a quantity that is not a time, and its bar."""
        self.figure(name, f"{found:.1f} {unit}", f"≤ {bar:g} {unit}", found <= bar)

    def skip(self, reason: str) -> None:
        """Ends the row: it cannot be tried here."""
        raise Skipped(reason)

    def stage(
        self, *plugins: PluginFolder, config: str = "", **options: Any
    ) -> "AbstractAsyncContextManager[Stage]":
        """A host with these plugins and a witness; the rules that always hold are judged at its end."""
        from .stage import stage

        return stage(self, *plugins, config=config, **options)


Play = Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One line of the table: a fault, what must hold, and the play that tries it."""

    id: str
    fault: str
    bar: str
    play: Play

    @property
    def measured_how(self) -> str:
        """What the page says of how it is measured: the function's own words."""
        return " ".join((self.play.__doc__ or "").split())


ROWS: dict[str, Row] = {}
# The order of the table; rows that are not named come last, by name.
ORDER = (
    "killed-in-request",
    "killed-in-stream",
    "hangs",
    "client-leaves",
    "slow-reader",
    "log-flood",
    "bad-frames",
    "name-claimed",
    "host-killed",
    "power-cut",
    "host-terminated",
    "disk-full",
    "io-error",
    "database-damaged",
    "second-host",
    "descriptors",
    "clock-jump",
    "slow-connections",
    "swap",
    "bad-swap",
    "down-plugin",
)


def row(name: str, *, fault: str, bar: str) -> Callable[[Play], Play]:
    """Makes a function the row `name`. Its docstring says how the figures are measured."""

    def enter(play: Play) -> Play:
        assert name not in ROWS, f"there are two rows `{name}`"
        ROWS[name] = Row(name, fault, bar, play)
        return play

    return enter


def all_rows() -> list[Row]:
    """Every row below `rows/`, in the order of the table."""
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"rows.{module.name}")
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(ROWS.values(), key=lambda row: (place.get(row.id, len(place)), row.id))
