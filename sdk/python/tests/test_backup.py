"""A backup lists what the plugin wrote, and says so where it could not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bkg_sdk import Plugin, WireError
from bkg_sdk.testing import TestHost


async def test_what_the_handler_leaves_in_the_directory_is_what_the_host_is_told(tmp_path: Path) -> None:
    plugin = Plugin()

    @plugin.backup
    async def copy(directory: Path) -> None:
        (directory / "deep" / "er").mkdir(parents=True)
        (directory / "deep" / "er" / "notes.txt").write_text("b")
        (directory / "a.db").write_text("a")
        (directory / "link").symlink_to("/etc/passwd")

    async with TestHost(plugin) as host:
        assert [each.id for each in host.seen.registrations[0].capabilities] == ["lifecycle.backup"]
        copied = await host.request("lifecycle.backup", {"directory": str(tmp_path)})
        assert copied == {"files": ["a.db", "deep/er/notes.txt"]}


async def test_a_plain_function_may_copy_and_what_it_cannot_do_is_a_reason(tmp_path: Path) -> None:
    plugin = Plugin()

    @plugin.backup
    def copy(directory: Path) -> None:
        raise FileNotFoundError(2, "No such file", "notes.txt")

    async with TestHost(plugin) as host:
        with pytest.raises(WireError, match=r"the backup failed: .*notes\.txt") as failed:
            await host.request("lifecycle.backup", {"directory": str(tmp_path)})
        assert failed.value.code == "plugin_error"
        with pytest.raises(WireError, match="invalid_request"):
            await host.request("lifecycle.backup", {})
