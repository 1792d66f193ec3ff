"""The class as a plugin, against a host in memory: no daemon, no socket. `./test.sh` runs it."""

from unittest import IsolatedAsyncioTestCase

from bkg_sdk.testing import TestHost
from bkg_sdk.wrap import wrap


class PluginTest(IsolatedAsyncioTestCase):
    async def test_the_class_is_found_and_registered(self) -> None:
        # `settings` is what `initialize` gets here. Ask with `host.request("my-plugin.execute", {…})`.
        plugin = wrap("my_class_plugin.py", "my-plugin.execute", settings={})
        async with TestHost(plugin) as host:
            (registration,) = host.seen.registrations
            self.assertEqual([one.id for one in registration.capabilities], ["my-plugin.execute"])
