"""Settings are in force before the first answer, and a verdict means what it says."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from bkg_sdk import Host, Plugin, Request, Settings, WireError
from bkg_sdk.testing import TestHost


@dataclass
class Greeting:
    first_word: str = "hello"


async def check(new: Greeting) -> None:
    if not new.first_word:
        raise ValueError("`firstWord` is empty")


def greeter(settings: Settings[Greeting] | None = None) -> Plugin:
    settings = settings or Settings(Greeting, check=check)
    plugin = Plugin(settings=settings)

    @plugin.answer("test.greet")
    async def greet(_: Request) -> str:
        return settings.get().first_word

    return plugin


async def test_the_first_answer_is_given_under_the_hosts_settings() -> None:
    async with TestHost(greeter(), settings={"firstWord": "salut"}) as host:
        assert await host.request("test.greet") == "salut"
        assert host.seen.registrations[0].takes_hot_config()
        assert host.seen.registrations[0].takes_dry_runs()


@pytest.mark.parametrize("nothing", [None, {}])
async def test_no_settings_mean_the_defaults(nothing: object) -> None:
    async with TestHost(greeter(), settings=nothing) as host:
        assert await host.request("test.greet") == "hello"


async def test_settings_that_are_accepted_are_in_force_and_those_refused_change_nothing() -> None:
    async with TestHost(greeter(), settings={"firstWord": "salut"}) as host:
        await host.configure({"firstWord": "ciao"})
        assert await host.request("test.greet") == "ciao"
        for wrong, reason, param in [
            ({"firstWord": ""}, "`firstWord` is empty", None),
            ({"firstWord": 1}, "`firstWord`: expected `str`, got `int`", "firstWord"),
        ]:
            with pytest.raises(WireError) as refused:
                await host.configure(wrong)
            error = refused.value
            assert (error.code, error.param, reason in error.message) == ("invalid_config", param, True)
            assert await host.request("test.greet") == "ciao"
        assert {health.status for health in host.seen.health} == {"up"}


async def test_a_dry_run_says_what_the_check_says_and_puts_nothing_in_force() -> None:
    async with TestHost(greeter(), settings={"firstWord": "salut"}) as host:
        await host.dry_run({"firstWord": "ciao"})
        assert await host.request("test.greet") == "salut"
        for wrong in ({"firstWord": ""}, {"firstWord": 1}):
            with pytest.raises(WireError, match="invalid_config"):
                await host.dry_run(wrong)
        assert await host.request("test.greet") == "salut"
        assert {health.status for health in host.seen.health} == {"up"}
        await host.configure({"firstWord": "ciao"})
        assert await host.request("test.greet") == "ciao"


async def test_a_dry_run_does_not_make_a_plugin_with_wrong_settings_look_right() -> None:
    async with TestHost(greeter(), settings={"firstWord": ""}) as host:
        await host.dry_run({"firstWord": "hi"})
        with pytest.raises(WireError, match="`firstWord` is empty"):
            await host.request("test.greet")


async def test_only_settings_with_a_check_announce_dry_runs() -> None:
    async with TestHost(greeter(Settings(Greeting))) as host:
        assert host.seen.registrations[0].meta == {"hotConfig": True}
        with pytest.raises(WireError, match="`firstWord`: expected `str`"):
            await host.dry_run({"firstWord": 1})
    async with TestHost(Plugin()) as host:
        with pytest.raises(WireError, match="invalid_config"):
            await host.dry_run({})


async def test_a_plugin_whose_first_settings_are_wrong_is_down_until_they_are_right() -> None:
    async with TestHost(greeter(), settings={"firstWord": ""}) as host:
        with pytest.raises(WireError, match="`firstWord` is empty") as refused:
            await host.request("test.greet")
        assert refused.value.code == "plugin_error"
        await host.until("it is down", lambda seen: seen.health[-1].status == "down")
        assert host.seen.health[-1].detail == "`firstWord` is empty"
        await host.configure({"firstWord": "hi"})
        assert await host.request("test.greet") == "hi"
        await host.until("it is up", lambda seen: seen.health[-1].status == "up")


async def test_a_check_may_take_its_time_and_requests_wait_for_the_first() -> None:
    gate = asyncio.Event()

    async def slow(_: Greeting) -> None:
        await gate.wait()

    async with TestHost(greeter(Settings(Greeting, check=slow)), settings={"firstWord": "late"}) as host:
        waiting, given_up = host.start_request("test.greet"), host.start_request("test.greet")
        # The plugin is alive meanwhile: it answers what needs no settings.
        with pytest.raises(WireError, match="not_found"):
            await host.request("test.unknown")
        given_up.cancel()
        await host.until("the cancel is answered", lambda seen: len(seen.answers) == 2)
        assert host.seen.answers[1][1].code == "cancelled"
        gate.set()
        assert await waiting.outcome() == "late"


async def test_a_check_may_be_a_plain_function_and_what_it_cannot_do_is_a_reason() -> None:
    def opens(new: Greeting) -> None:
        if new.first_word == "missing":
            raise FileNotFoundError(2, "No such file", new.first_word)
        if new.first_word == "broken":
            raise LookupError

    async with TestHost(greeter(Settings(Greeting, check=opens))) as host:
        await host.configure({"firstWord": "ciao"})
        with pytest.raises(WireError, match="No such file: 'missing'"):
            await host.configure({"firstWord": "missing"})
        with pytest.raises(WireError, match="LookupError"):
            await host.configure({"firstWord": "broken"})
        assert await host.request("test.greet") == "ciao"


async def test_a_plugin_that_takes_no_settings_does_not_claim_to() -> None:
    async with TestHost(Plugin()) as host:
        assert not host.seen.registrations[0].takes_hot_config()
        with pytest.raises(WireError, match="invalid_config"):
            await host.configure({})


async def test_settings_that_are_in_force_already_are_not_applied_again() -> None:
    applied = 0

    async def counting(_: Greeting) -> None:
        nonlocal applied
        applied += 1

    settings = Settings(Greeting, check=counting)
    async with TestHost(greeter(settings), settings={"firstWord": "salut"}) as host:
        host.break_link()
        await host.until("the plugin comes back", lambda seen: len(seen.registrations) == 2)
        # Verdicts come in turn, so the second registration's has been given before this one.
        await host.configure({"firstWord": "ciao"})
        assert (settings.get().first_word, applied) == ("ciao", 2)


async def test_changes_come_after_they_are_in_force() -> None:
    settings = Settings(Greeting)
    plugin = greeter(settings)

    @plugin.background
    async def follow(host: Host) -> None:
        async for new in settings.changes():
            host.publish("changed", [new.first_word, settings.get().first_word])

    async with TestHost(plugin, settings={"firstWord": "salut"}) as host:
        await host.until("the first is told", lambda seen: len(seen.published) == 1)
        await host.configure({"firstWord": "ciao"})
        await host.until("the second is told", lambda seen: len(seen.published) == 2)
        assert host.seen.published == [("changed", ["salut", "salut"]), ("changed", ["ciao", "ciao"])]


async def test_more_changes_than_can_wait_are_refused() -> None:
    gate = asyncio.Event()

    async def slow(_: Greeting) -> None:
        await gate.wait()

    async with TestHost(greeter(Settings(Greeting, check=slow))) as host:
        changes = [asyncio.create_task(host.configure({"firstWord": str(n)})) for n in range(12)]
        await host.until("some are answered", lambda seen: any(task.done() for task in changes))
        gate.set()
        verdicts = await asyncio.gather(*changes, return_exceptions=True)
        refused = [verdict.code for verdict in verdicts if isinstance(verdict, WireError)]
        assert refused
        assert set(refused) == {"overloaded"}


def test_settings_without_defaults_need_an_initial_value_to_be_read_early() -> None:
    @dataclass
    class Needed:
        word: str

    with pytest.raises(LookupError, match="no settings are in force yet"):
        Settings(Needed).get()
    assert Settings(Needed, initial=Needed("x")).get() == Needed("x")
    assert "x" not in repr(Settings(Needed, initial=Needed("canary x")))


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, KeyError, RecursionError])
async def test_a_check_that_breaks_refuses_and_leaves_the_next_settings_their_turn(
    raised: type[BaseException],
) -> None:
    async def breaks(new: Greeting) -> None:
        if new.first_word == "break":
            raise raised

    async with TestHost(greeter(Settings(Greeting, check=breaks)), settings={"firstWord": "salut"}) as host:
        with pytest.raises(WireError, match="invalid_config"):
            await host.configure({"firstWord": "break"})
        await host.configure({"firstWord": "ciao"})
        assert await host.request("test.greet") == "ciao"


async def test_a_check_that_does_not_let_itself_be_cancelled_does_not_keep_the_plugin() -> None:
    async def stubborn(new: Greeting) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with TestHost(greeter(Settings(Greeting, check=stubborn))) as host:
        host.drain(within=0.01)
        await host.ended()
