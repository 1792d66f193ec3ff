// A plugin comes, beats, comes back, and goes in order.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { Environment, Health, Plugin, RunError } from "bkg-sdk";
import { TestHost } from "bkg-sdk/testing";
import { pauseAfter } from "#sdk/reconnect";

import { failure, gate, hosting } from "./tools.js";

const LONG_MS = 60_000;

/** A plugin whose `test.hold` answers when the test says so, and that tells when it is to stop. */
function holder(): { plugin: Plugin; release: () => void } {
  const released = gate();
  const plugin = new Plugin()
    .answer("test.hold", () => released.opened)
    .answer("test.here", () => undefined)
    .background((host) => {
      host.stopping.addEventListener("abort", () => host.publish("stopping", null));
    });
  return { plugin, release: () => released.open() };
}

test("a broken link is dialled again with the secret of the last", async () => {
  await hosting(holder().plugin, async (host) => {
    const lost = host.startRequest("test.hold", null);
    for (const round of [1, 2, 3]) {
      host.breakLink();
      await host.until("the plugin comes back", (seen) => seen.registrations.length === round + 1);
      await host.request("test.here", null);
    }
    assert.equal((await failure(lost.outcome())).code, "plugin_disconnected");
    const shown = host.seen.registrations.map(({ token, resume }) => [token?.reveal(), resume?.reveal()]);
    assert.deepEqual(shown, [
      ["test-launch-token", undefined],
      [undefined, "resume-0"],
      [undefined, "resume-1"],
      [undefined, "resume-2"],
    ]);
    assert.equal(host.seen.dropped, 0, "no answer of an old session reached a new one");
  });
});

test("a refused plugin does not try again", async () => {
  const rejecting = { code: "forbidden", message: "`test.here` is not in the entry" } as const;
  await assert.rejects(TestHost.launch(holder().plugin, { rejecting }).ended(), (error) => {
    assert.ok(error instanceof RunError);
    assert.deepEqual([error.reason, error.code, error.exitCode], ["rejected", "forbidden", 78]);
    assert.match(error.message, /`test\.here` is not in the entry/);
    return true;
  });
});

test("a host out of reach ends the plugin with the reason", async () => {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const url = `ws://127.0.0.1:${String((listener.address() as AddressInfo).port)}`;
  await new Promise((resolve) => listener.close(resolve));
  const environment = new Environment({ busUrl: url, name: "test", token: "t" });
  await assert.rejects(new Plugin({ patienceMs: 1 }).serve(environment), (error) => {
    assert.ok(error instanceof RunError);
    assert.deepEqual([error.reason, error.exitCode], ["unreachable", 69]);
    assert.ok(error.message.includes(url), error.message);
    return true;
  });
});

test("drain finishes what is there and then closes in order", async () => {
  const { plugin, release } = holder();
  await hosting(plugin, async (host) => {
    const held = host.startRequest("test.hold", null);
    await host.request("test.here", null);
    host.drain(LONG_MS);
    await host.until("the plugin knows of the drain", (seen) => seen.published.length > 0);
    release();
    assert.equal(await held.outcome(), null);
    await host.ended();
    assert.deepEqual(host.seen.closed, [1000]);
  });
});

test("what is not finished at the drain's deadline is cancelled", async () => {
  await hosting(holder().plugin, async (host) => {
    const held = host.startRequest("test.hold", null);
    await host.request("test.here", null);
    host.drain(1);
    assert.equal((await failure(held.outcome())).code, "cancelled");
    await host.ended();
    assert.deepEqual(host.seen.closed, [1000]);
  });
});

test("a signal after the drain cuts it short", async () => {
  await hosting(holder().plugin, async (host) => {
    const held = host.startRequest("test.hold", null);
    await host.request("test.here", null);
    host.drain(LONG_MS);
    await host.until("the plugin knows of the drain", (seen) => seen.published.length > 0);
    host.signal();
    assert.equal((await failure(held.outcome())).code, "cancelled");
    await host.ended();
  });
});

test("a signal alone says stopping and lets work finish", async () => {
  const { plugin, release } = holder();
  await hosting(plugin, async (host) => {
    const held = host.startRequest("test.hold", null);
    await host.request("test.here", null);
    host.signal();
    await host.until("the plugin says stopping", (seen) => seen.health.at(-1)?.status === "stopping");
    release();
    assert.equal(await held.outcome(), null);
    await host.ended();
    assert.deepEqual(host.seen.closed, [1000]);
  });
});

test("a link that breaks during the drain is not dialled again", async () => {
  await hosting(holder().plugin, async (host) => {
    const held = host.startRequest("test.hold", null);
    await host.request("test.here", null);
    host.drain(LONG_MS);
    await host.until("the plugin knows of the drain", (seen) => seen.published.length > 0);
    host.breakLink();
    assert.equal((await failure(held.outcome())).code, "plugin_disconnected");
    await host.ended();
    assert.equal(host.seen.registrations.length, 1);
  });
});

test("the plugin's own work is told to stop, and what it throws is logged", async () => {
  const told = gate();
  const plugin = new Plugin()
    .background((host) => {
      host.stopping.addEventListener("abort", () => told.open());
    })
    .background(() => Promise.reject(new Error("no index")));
  await hosting(plugin, async (host) => {
    await host.until("the failure is logged", (seen) => String(seen.logs[0]?.message).includes("no index"));
    host.drain(LONG_MS);
    await told.opened;
    await host.ended();
  });
});

test("beats carry health and the figures of the own process", async () => {
  const plugin = new Plugin().answer("test.worry", ({ host }) => {
    host.setHealth(Health.Degraded, "the index is loading");
    host.setFigure("queue", 3);
    host.setFigure("cpu", 1e9);
    host.setFigure("nothing", Number.NaN);
    host.setFigure("__proto__", 4);
  });
  await hosting(
    plugin,
    async (host) => {
      await host.until("the plugin beats", (seen) => seen.health.length > 3);
      assert.ok(host.seen.health.every(({ status }) => status === "up"));
      await host.request("test.worry", null);
      await host.until("a beat carries the figure", (seen) =>
        Object.hasOwn(seen.telemetry.at(-1)?.further ?? {}, "queue"),
      );
      const { health, telemetry } = host.seen;
      const { plugin, status, detail } = health.at(-1) ?? assert.fail();
      assert.deepEqual([plugin, status, detail], ["test", "degraded", "the index is loading"]);
      const last = telemetry.at(-1);
      assert.deepEqual(Object.entries(last?.further ?? {}), [
        ["queue", 3],
        ["__proto__", 4],
      ]);
      assert.ok((last?.memBytes ?? 0) > 1_000_000 && (last?.cpu ?? -1) >= 0 && (last?.cpu ?? 1e9) < 1e6);
    },
    { limits: { heartbeatMs: 2 } },
  );
});

test("credits and health overtake what waits, and a cancel frees a full socket", async () => {
  const large = "x".repeat(200 << 10);
  const plugin = new Plugin().stream("test.flood", async (_, chunks) => {
    for (;;) {
      await chunks.send(large);
    }
  });
  await hosting(plugin, async (host) => {
    const stream = host.streamWithCredit("test.flood", null, 1_000);
    await stream.next();
    stream.cancel();
    await host.until("the stream is answered", (seen) => seen.answers.length === 1);
  });
});

test("pauses grow to a bound", () => {
  const pauses = [...Array(9).keys()].map((attempts) => pauseAfter(attempts, 1));
  assert.deepEqual(pauses, [10, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  assert.equal(pauseAfter(100_000, 0.5), 2500);
});

test("a plugin can be run again after its end", async () => {
  const { plugin } = holder();
  for (let run = 0; run < 2; run += 1) {
    await hosting(plugin, async (host) => assert.equal(await host.request("test.here", null), null));
  }
});

test("a host tells at once of a plugin that ended before it registered", async () => {
  await assert.rejects(TestHost.start(new Plugin().answer("nodot", () => null)), RunError);
});
