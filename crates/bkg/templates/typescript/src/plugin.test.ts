// The plugin against a host in memory: no daemon, no socket. `./test.sh` runs it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { TestHost } from "bkg-sdk/testing";

import { plugin } from "./plugin.js";

test("a guest is greeted with the word from the settings", async () => {
  await using host = await TestHost.start(plugin);
  assert.deepEqual(await host.request("my-plugin.greet", { name: "Ada" }), { greeting: "hello Ada" });

  await host.configure({ greeting: "salut" });
  assert.deepEqual(await host.request("my-plugin.greet", { name: "Ada" }), { greeting: "salut Ada" });
});

test("nobody is not greeted", async () => {
  await using host = await TestHost.start(plugin);
  await assert.rejects(host.request("my-plugin.greet", { name: "" }), { code: "invalid_request", param: "name" });
});

test("counting comes in chunks", async () => {
  await using host = await TestHost.start(plugin);
  const numbers = await host.stream("my-plugin.count", { n: 3 }).collect();
  assert.deepEqual(numbers, [{ number: 0 }, { number: 1 }, { number: 2 }]);
});
