"""The roots that are open to callers, and the bounds that hold for whoever works on them.

Made anew from each version of the settings, and never changed. What the operator's `ignore` names is not
there for callers, in listings as in reads and writes; a `.gitignore` only keeps files out of listings.
"""

from dataclasses import dataclass, field

from repoagent.confined import Root
from repoagent.ignoring import Patterns
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath


@dataclass(frozen=True)
class Bounds:
    """How much of anything one request may read, find or answer."""

    file_bytes: int = 1 << 20
    output_bytes: int = 1 << 20
    results: int = 1_000
    entries: int = 200_000
    depth: int = 64
    seconds: float = 60.0
    hard_links: bool = False


@dataclass(frozen=True)
class Workspace:
    """All roots; the first is the one that a request means if it names none."""

    roots: tuple[Root, ...]
    hidden: Patterns = field(default_factory=lambda: Patterns([]))
    bounds: Bounds = field(default_factory=Bounds)

    def root(self, name: str | None) -> Root:
        """The root that `name` names, by its name or its path."""
        if name is None or name == "":
            return self.roots[0]
        for root in self.roots:
            if name in (root.name, root.path):
                return root
        known = ", ".join(f"`{root.name}`" for root in self.roots)
        raise Refusal("not_found", f"there is no root `{name}`; there are {known}", param="root")

    def hides(self, path: RelativePath, *, directory: bool) -> bool:
        """Whether the operator's `ignore` names the entry, or a directory on the way to it."""
        for depth in range(1, len(path.parts)):
            if self.hidden.verdict(b"/".join(path.parts[:depth]), directory=True):
                return True
        return bool(path.parts) and bool(self.hidden.verdict(path.raw, directory=directory))

    def admit(self, path: RelativePath) -> None:
        """Raises `Refusal` if callers have no business at the path."""
        if self.hides(path, directory=False) or self.hides(path, directory=True):
            raise Refusal("not_found", f"`{path.text}` is left out by the setting `ignore`", param="path")
