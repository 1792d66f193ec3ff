"""The plugin against a host in memory: no daemon, no socket. `./test.sh` runs it."""

from unittest import IsolatedAsyncioTestCase

from bkg_sdk import WireError
from bkg_sdk.testing import TestHost
from plugin import plugin


class PluginTest(IsolatedAsyncioTestCase):
    async def test_a_guest_is_greeted_with_the_word_from_the_settings(self) -> None:
        async with TestHost(plugin) as host:
            greeted = await host.request("my-plugin.greet", {"name": "Ada"})
            self.assertEqual(greeted, {"greeting": "hello Ada"})

            await host.configure({"greeting": "salut"})
            greeted = await host.request("my-plugin.greet", {"name": "Ada"})
            self.assertEqual(greeted, {"greeting": "salut Ada"})

    async def test_nobody_is_not_greeted(self) -> None:
        async with TestHost(plugin) as host:
            with self.assertRaises(WireError) as failed:
                await host.request("my-plugin.greet", {"name": ""})
            self.assertEqual((failed.exception.code, failed.exception.param), ("invalid_request", "name"))

    async def test_counting_comes_in_chunks(self) -> None:
        async with TestHost(plugin) as host:
            numbers = [chunk async for chunk in host.stream("my-plugin.count", {"n": 3})]
            self.assertEqual(numbers, [{"number": 0}, {"number": 1}, {"number": 2}])
