"""What the package offers is what `__init__` says, and all of it is described with an example that is
run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bkg_sdk
from bkg_sdk import testing

SOURCES = Path(bkg_sdk.__file__).parent
RUST = Path(__file__).parents[3] / "crates/bkg-sdk/src"
OFFERED = [(name, getattr(bkg_sdk, name)) for name in bkg_sdk.__all__]


def test_the_flat_exports_are_what_the_package_says() -> None:
    offered = {
        name
        for name, value in vars(bkg_sdk).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert offered == set(bkg_sdk.__all__)
    assert sorted(bkg_sdk.__all__, key=str.lower) == sorted(set(bkg_sdk.__all__), key=str.lower)


def test_the_files_are_those_of_the_rust_sdk() -> None:
    ours = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py"} - {"__init__"}
    theirs = {path.stem for path in RUST.iterdir()} - {"lib"}
    # Code of the author that may block, and classes that are there already, are matters of Python alone.
    assert ours == theirs | {"work", "wrap"}


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.name)
def test_a_file_opens_with_what_it_is(path: Path) -> None:
    opening = ast.get_docstring(ast.parse(path.read_text()))
    assert opening, f"{path} says what it is"


@pytest.mark.parametrize(("name", "value"), OFFERED, ids=[name for name, _ in OFFERED])
def test_what_is_offered_is_described_with_an_example(name: str, value: Any) -> None:
    if name in ("Json", "RawJson"):
        # An alias: its description stands below it, where the doctests of its module find it.
        assert f"\n{name}" in (SOURCES / "json.py").read_text()
        return
    assert value.__doc__
    examples = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert any(test.examples for test in examples), f"`{name}` has an example"


@pytest.mark.parametrize("kind", [value for _, value in OFFERED if inspect.isclass(value)])
def test_what_can_be_done_with_it_is_described(kind: type) -> None:
    if not kind.__module__.startswith("bkg_sdk"):
        return
    for name, member in vars(kind).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        assert inspect.getdoc(member), f"`{kind.__name__}.{name}` says what it does"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    module = importlib.import_module("bkg_sdk.error")
    drawn = ast.get_docstring(ast.parse((SOURCES / "error.py").read_text()))
    assert drawn is not None
    stack: list[type[BaseException]] = [Exception]
    names = []
    for line in drawn.splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        if not words.strip() or not words.strip().split()[0].isidentifier() or not words.startswith("    "):
            continue
        name = words.split()[0]
        depth = (len(words) - len(words.lstrip())) // 4
        kind = getattr(module, name)
        del stack[depth:]
        assert kind.__bases__ == (stack[-1],), name
        stack.append(kind)
        names.append(name)
    assert set(names) == set(module.__all__) - {"ErrorCode"}


def test_testing_offers_what_a_test_needs() -> None:
    assert testing.__all__ == ["CancelReason", "Limits", "Seen", "TestHost", "TestRequest"]
    for name in testing.__all__:
        assert getattr(testing, name).__doc__


def examples(page: Path) -> Iterator[dict[str, Any]]:
    """The names that a page's examples leave, run one after the other as one module: after each of them."""
    names: dict[str, Any] = {"__name__": page.stem}
    for part in page.read_text().split("```python\n")[1:]:
        block = part.partition("```")[0]
        # What goes without the SDK is run by a daemon, in `test_operating.py`.
        if "websockets" not in block:
            exec(compile(block, page.name, "exec", dont_inherit=True), names)
            yield names


async def test_the_examples_of_the_readme_are_right() -> None:
    *_, names = examples(SOURCES.parents[1] / "README.md")
    await names["test_greeting"]()


async def test_the_examples_for_authors_are_right() -> None:
    blocks = examples(SOURCES.parents[3] / "docs/writing-a-plugin.md")
    # Before the next block gives its names other meanings.
    async with testing.TestHost(next(blocks)["plugin"], settings={"word": "salut"}) as host:
        assert await host.request("greeter.greet", {"name": "Ada"}) == {"greeting": "salut Ada"}
        assert await host.stream("greeter.count").collect() == [{"number": number} for number in range(3)]
    *_, names = blocks
    await names["test_a_number_is_doubled"]()
