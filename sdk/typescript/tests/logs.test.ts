// Log lines reach the host, with their level, their facts and their request.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Plugin } from "bkg-sdk";
import { cut, KEPT, LONGEST_MESSAGE, Logs } from "#sdk/log";

import { hosting } from "./tools.js";

test("what `console` writes becomes log lines of its request", async () => {
  const before = console.info;
  const plugin = new Plugin().answer("test.work", async (request) => {
    await Promise.resolve();
    console.warn("taking %s", "long", { model: "small", attempts: 3, slow: true });
    console.debug("not wanted");
    request.host.log("debug", "done");
  });
  await hosting(
    plugin,
    async (host) => {
      const request = host.startRequest("test.work", null);
      await request.outcome();
      await host.until("both lines have come", (seen) => seen.logs.some(({ message }) => message === "done"));
      const lines = host.seen.logs.filter(({ requestId }) => requestId === request.id);
      assert.deepEqual(
        lines.map(({ plugin, level, message, fields }) => [plugin, level, message, fields?.text]),
        [
          ["test", "warn", "taking long", '{"model":"small","attempts":3,"slow":true}'],
          ["test", "debug", "done", undefined],
        ],
      );
      assert.ok(lines.every(({ timestamp }) => timestamp !== undefined));
      assert.ok(
        host.seen.logs.some(({ level, message }) => level === "info" && message === "registered with the host"),
      );
    },
    { bridgesConsole: true },
  );
  assert.equal(console.info, before, "the console is what it was");
});

test("a line whose inspection logs does not come round again", async () => {
  const plugin = new Plugin().answer("test.tricky", () => {
    const tricky = {
      get name(): string {
        console.info("again");
        return "x";
      },
    };
    console.info("%o", tricky);
  });
  await hosting(
    plugin,
    async (host) => {
      await host.request("test.tricky", null);
      assert.ok(!host.seen.logs.some(({ message }) => message === "again"));
    },
    { bridgesConsole: true },
  );
});

test("lines from before the registration come after it in order", async () => {
  const plugin = new Plugin().background((host) => {
    for (const n of [0, 1, 2]) {
      host.log("debug", `early ${String(n)}`, { n });
    }
  });
  await hosting(plugin, async (host) => {
    await host.until("the lines have come", (seen) => seen.logs.length === 3);
    assert.deepEqual(
      host.seen.logs.map(({ message, fields, requestId }) => [message, fields?.text, requestId]),
      [0, 1, 2].map((n) => [`early ${String(n)}`, `{"n":${String(n)}}`, undefined]),
    );
  });
});

test("what was logged last leaves before the plugin closes", async () => {
  const plugin = new Plugin().background((host) => {
    host.stopping.addEventListener("abort", () => {
      for (let number = 0; number < 100; number += 1) {
        host.log("info", "x".repeat(10_000));
      }
      host.log("info", "the last word");
    });
  });
  await hosting(plugin, async (host) => {
    host.drain(60_000);
    await host.ended();
    assert.equal(host.seen.logs.at(-1)?.message, "the last word");
    assert.deepEqual(host.seen.closed, [1000]);
  });
});

test("lines without a session are kept and the oldest are counted as lost", () => {
  const logs = new Logs("test");
  for (let number = 0; number < KEPT + 3; number += 1) {
    logs.write("info", `line ${String(number)}`);
  }
  const kept = logs.takeKept();
  assert.deepEqual([kept.length, kept[0]], [KEPT, "info: line 3"]);
});

test("a long message is cut between characters and says by how much", () => {
  for (const character of ["é", "€", "😀", "a"]) {
    const message = cut(character.repeat(2 * LONGEST_MESSAGE));
    const [, start = "", left = ""] = /^(.*)… \((\d+) more bytes\)$/.exec(message) ?? [];
    assert.equal(start, character.repeat(Array.from(start).length));
    assert.equal(Buffer.byteLength(start) + Number(left), 2 * Buffer.byteLength(character) * LONGEST_MESSAGE);
    assert.ok(Buffer.byteLength(start) <= LONGEST_MESSAGE);
  }
  assert.equal(cut("short"), "short");
});

test("facts that have no JSON form do not cost the line", () => {
  const logs = new Logs("test");
  logs.write("info", "big", { big: 1n });
  assert.match(String(logs.takeKept()[0]), /^info: big .*1n/);
});

test("an error among the facts says what it is", () => {
  const logs = new Logs("test");
  logs.write("info", "broken", { error: new TypeError("no index", { cause: new Error("no disk") }), tries: 2 });
  const [line] = logs.takeKept();
  assert.match(String(line), /TypeError: no index.*no disk.*"tries":2/);
});
