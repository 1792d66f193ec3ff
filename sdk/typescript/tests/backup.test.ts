// A backup lists what the plugin wrote, and says so where it could not.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Plugin } from "bkg-sdk";

import { failure, hosting } from "./tools.js";

test("what the handler leaves in the directory is what the host is told", async () => {
  const place = await mkdtemp(join(tmpdir(), "bkg-backup-"));
  try {
    const plugin = new Plugin().backup(async (directory) => {
      await mkdir(join(directory, "deep/er"), { recursive: true });
      await writeFile(join(directory, "deep/er/notes.txt"), "b");
      await writeFile(join(directory, "a.db"), "a");
      await symlink("/etc/passwd", join(directory, "link"));
    });
    await hosting(plugin, async (host) => {
      assert.deepEqual(
        host.seen.registrations[0]?.capabilities.map(({ id }) => id),
        ["lifecycle.backup"],
      );
      const copied = await host.request("lifecycle.backup", { directory: place });
      assert.deepEqual(copied, { files: ["a.db", "deep/er/notes.txt"] });
    });
  } finally {
    await rm(place, { recursive: true });
  }
});

test("what the handler cannot do is a reason", async () => {
  const plugin = new Plugin().backup(() => {
    throw new Error("no such file `notes.txt`");
  });
  await hosting(plugin, async (host) => {
    const error = await failure(host.request("lifecycle.backup", { directory: tmpdir() }));
    assert.equal(error.code, "plugin_error");
    assert.match(error.message, /the backup failed: .*notes.txt/);
    assert.equal((await failure(host.request("lifecycle.backup", {}))).code, "invalid_request");
  });
});
