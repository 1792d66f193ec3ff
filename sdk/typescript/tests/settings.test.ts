// Settings are in force before the first answer, and a verdict means what it says.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Plugin, RawJson, Settings } from "bkg-sdk";
import type { TestHost } from "bkg-sdk/testing";

import { failure, gate, hosting } from "./tools.js";

function greeter(): { plugin: Plugin; settings: Settings<{ word: string }> } {
  const settings = new Settings(
    { word: "hello" },
    {
      check: (offered) => {
        if (offered.word === "") {
          throw new Error("`word` is empty");
        }
      },
    },
  );
  return { plugin: new Plugin({ settings }).answer("test.greet", () => settings.get().word), settings };
}

const greeting = (host: TestHost): Promise<unknown> => host.request("test.greet", null);

test("the first answer is given under the host's settings", async () => {
  await hosting(
    greeter().plugin,
    async (host) => {
      assert.equal(await greeting(host), "salut");
      assert.deepEqual(host.seen.registrations[0]?.meta, { hotConfig: true, configDryRun: true });
    },
    { settings: { word: "salut" } },
  );
});

test("no settings mean the defaults", async () => {
  for (const settings of [null, {}]) {
    await hosting(greeter().plugin, async (host) => assert.equal(await greeting(host), "hello"), { settings });
  }
});

test("settings that are accepted are in force and those refused change nothing", async () => {
  await hosting(
    greeter().plugin,
    async (host) => {
      await host.configure({ word: "ciao" });
      assert.equal(await greeting(host), "ciao");
      const wrong: [object | string, RegExp][] = [
        [{ word: "" }, /`word` is empty/],
        [{ word: 1 }, /`word` is a number, and must be a text/],
        [[], /not an object/],
        [RawJson.parse('{"__proto__":{"word":"x"},"word":null}'), /`word` is null/],
      ];
      for (const [settings, reason] of wrong) {
        const error = await failure(host.configure(settings));
        assert.equal(error.code, "invalid_config");
        assert.match(error.message, reason);
        assert.equal(await greeting(host), "ciao");
      }
      assert.ok(host.seen.health.every(({ status }) => status === "up"));
    },
    { settings: { word: "salut" } },
  );
});

test("a dry run says what the check says and puts nothing in force", async () => {
  await hosting(
    greeter().plugin,
    async (host) => {
      await host.dryRun({ word: "ciao" });
      assert.equal(await greeting(host), "salut");
      for (const wrong of [{ word: "" }, { word: 1 }]) {
        assert.equal((await failure(host.dryRun(wrong))).code, "invalid_config");
      }
      assert.equal(await greeting(host), "salut");
      assert.ok(host.seen.health.every(({ status }) => status === "up"));
      await host.configure({ word: "ciao" });
      assert.equal(await greeting(host), "ciao");
    },
    { settings: { word: "salut" } },
  );
});

test("a dry run does not make a plugin with wrong settings look right", async () => {
  await hosting(
    greeter().plugin,
    async (host) => {
      await host.dryRun({ word: "hi" });
      assert.match((await failure(greeting(host))).message, /`word` is empty/);
    },
    { settings: { word: "" } },
  );
});

test("only settings with a check announce dry runs", async () => {
  await hosting(new Plugin({ settings: new Settings({ word: "hello" }) }), async (host) => {
    assert.deepEqual(host.seen.registrations[0]?.meta, { hotConfig: true });
    assert.match((await failure(host.dryRun({ word: 1 }))).message, /`word` is a number/);
  });
  await hosting(new Plugin(), async (host) => {
    assert.equal((await failure(host.dryRun({}))).code, "invalid_config");
  });
});

test("a plugin whose first settings are wrong is down until they are right", async () => {
  await hosting(
    greeter().plugin,
    async (host) => {
      const error = await failure(greeting(host));
      assert.equal(error.code, "plugin_error");
      assert.match(error.message, /`word` is empty/);
      await host.until("the plugin is down", (seen) => seen.health.at(-1)?.status === "down");
      assert.equal(host.seen.health.at(-1)?.detail, "`word` is empty");
      await host.configure({ word: "hi" });
      assert.equal(await greeting(host), "hi");
      await host.until("the plugin is up", (seen) => seen.health.at(-1)?.status === "up");
    },
    { settings: { word: "" } },
  );
});

test("a check may take its time and requests wait for the first", async () => {
  const checked = gate();
  const settings = new Settings({ word: "hello" }, { check: () => checked.opened });
  const plugin = new Plugin({ settings }).answer("test.greet", () => settings.get().word);
  await hosting(
    plugin,
    async (host) => {
      const waiting = host.startRequest("test.greet", null);
      const given = host.startRequest("test.greet", null);
      // The plugin is alive meanwhile: it answers what needs no settings.
      assert.equal((await failure(host.request("test.unknown", null))).code, "not_found");
      given.cancel();
      await host.until("the cancelled one is answered", (seen) => seen.answers.length === 2);
      checked.open();
      assert.equal(await waiting.outcome(), "late");
    },
    { settings: { word: "late" } },
  );
});

test("a plugin that takes no settings does not claim to", async () => {
  await hosting(new Plugin(), async (host) => {
    assert.deepEqual(host.seen.registrations[0]?.meta, {});
    assert.equal((await failure(host.configure({}))).code, "invalid_config");
  });
});

test("settings that are in force already are not applied again", async () => {
  let applied = 0;
  const settings = new Settings({ word: "hello" }, { check: () => void (applied += 1) });
  await hosting(
    new Plugin({ settings }),
    async (host) => {
      host.breakLink();
      await host.until("the plugin comes back", (seen) => seen.registrations.length === 2);
      // Verdicts come in turn, so the second registration's has been given before this one.
      await host.configure({ word: "ciao" });
      assert.deepEqual([settings.get().word, applied], ["ciao", 2]);
    },
    { settings: { word: "salut" } },
  );
});

test("more changes than can wait are refused while one is being applied", async () => {
  const checked = gate();
  const settings = new Settings({ n: 0 }, { check: () => checked.opened });
  await hosting(new Plugin({ settings }), async (host) => {
    const pushed = [...Array(9).keys()].map((n) => host.configure({ n: n + 1 }));
    assert.equal((await failure(pushed.at(-1) ?? Promise.resolve())).code, "overloaded");
    checked.open();
    await Promise.all(pushed.slice(0, -1));
    assert.equal(settings.get().n, 8);
  });
});

test("settings of a shape of their own are read by the plugin", async () => {
  const settings = new Settings(new Map<string, string>(), {
    read: (json) => new Map(Object.entries(json ?? {}).map(([name, value]) => [name, String(value)])),
  });
  await hosting(new Plugin({ settings }), async (host) => {
    await host.configure({ a: 2 });
    assert.equal(settings.get().get("a"), "2");
  });
});

test("whoever follows the changes sees the newest", async () => {
  const { plugin, settings } = greeter();
  const words: string[] = [];
  plugin.background(async (host) => {
    for await (const { word } of settings.changes(host.stopping)) {
      words.push(word);
      host.publish("word", word);
    }
  });
  await hosting(plugin, async (host) => {
    await host.until("the first are seen", (seen) => seen.published.length === 1);
    await host.configure({ word: "ciao" });
    await host.until("the change is seen", (seen) => seen.published.length === 2);
    host.signal();
    await host.ended();
    assert.deepEqual(words, ["hello", "ciao"]);
  });
});
