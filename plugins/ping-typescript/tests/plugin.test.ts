// The plugin against the host in memory: no daemon, no socket.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { RawJson, WireError } from "bkg-sdk";
import { TestHost, type TestHostOptions } from "bkg-sdk/testing";

import { DEFAULTS, plugin } from "../src/plugin.js";

/** Runs a test with the plugin under a host that gets its log lines. */
async function hosting(work: (host: TestHost) => Promise<void> | void, options: TestHostOptions = {}): Promise<void> {
  const host = await TestHost.start(plugin(), { name: "ping-typescript", bridgesConsole: true, ...options });
  try {
    await work(host);
  } finally {
    await host.close();
  }
}

/** What a failure says: its code, and which parameter was wrong. */
async function refusal(work: Promise<unknown>): Promise<[string, string | undefined]> {
  try {
    await work;
  } catch (problem) {
    assert.ok(problem instanceof WireError);
    return [problem.code, problem.param];
  }
  return assert.fail("it was answered, and a failure was expected");
}

test("a ping is answered by a pong and counted", async () => {
  await hosting(
    async (host) => {
      for (let ping = 0; ping < 3; ping += 1) {
        assert.deepEqual(await host.request("ping-typescript.ping", null), { pong: true });
      }
      await host.until("a beat carries the figure", (seen) => seen.telemetry.at(-1)?.further["pings"] === 3);
    },
    { limits: { heartbeatMs: 2 } },
  );
});

test("an echo is what was sent, to the last digit", async () => {
  await hosting(async (host) => {
    const payload = '{"b":1.50,"a":null,"n":12345678901234567890,"f":1.0,"e":1E400,"__proto__":{"x":"\\u00e9"}}';
    const answer = await host.startRequest("ping-typescript.echo", RawJson.parse(payload)).rawOutcome();
    assert.equal(answer.text, payload);
  });
});

test("a greeting follows the settings while it runs", async () => {
  await hosting(async (host) => {
    const greeting = (): Promise<unknown> => host.request("ping-typescript.greet", { name: "Ada" });
    assert.deepEqual(await greeting(), { greeting: "hello Ada" });
    await host.configure({ greeting: "salut" });
    assert.deepEqual(await greeting(), { greeting: "salut Ada" });
    assert.deepEqual(await refusal(host.configure({ greeting: " " })), ["invalid_config", undefined]);
    assert.deepEqual(await greeting(), { greeting: "salut Ada" });
    for (const wrong of [{}, { name: 1 }]) {
      assert.deepEqual(await refusal(host.request("ping-typescript.greet", wrong)), ["invalid_request", "name"]);
    }
    for (const wrong of [null, []]) {
      assert.deepEqual(await refusal(host.request("ping-typescript.greet", wrong)), ["invalid_request", undefined]);
    }
    for (const wrong of [{}, { name: 1 }]) {
      assert.deepEqual(await refusal(host.request("ping-typescript.greet", wrong)), ["invalid_request", "name"]);
    }
  });
});

test("counting comes in chunks", async () => {
  await hosting(async (host) => {
    const stream = host.stream("ping-typescript.count", { n: 100, delayMs: 0 });
    assert.deepEqual(
      await stream.collect(),
      [...Array(100).keys()].map((number) => ({ number })),
    );
    assert.equal(await stream.outcome(), null);
    assert.deepEqual(await refusal(host.request("ping-typescript.count", { n: 1 })), ["invalid_request", undefined]);
    for (const wrong of [{}, { n: -1 }, { n: 1.5 }]) {
      const counted = host.stream("ping-typescript.count", wrong).outcome();
      assert.deepEqual(await refusal(counted), ["invalid_request", "n"]);
    }
    const delayed = host.stream("ping-typescript.count", { n: 1, delayMs: null }).outcome();
    assert.deepEqual(await refusal(delayed), ["invalid_request", "delayMs"]);
  });
});

test("a count that nobody waits for any more ends", async () => {
  await hosting(async (host) => {
    const stream = host.streamWithCredit("ping-typescript.count", { n: 1e9, delayMs: 1 }, 1);
    assert.deepEqual(await stream.next(), { number: 0 });
    stream.cancel();
    await host.until("it is answered", (seen) => seen.answers.length === 1);
    const outcome = host.seen.answers[0]?.outcome;
    assert.ok(outcome?.ok === false && outcome.error.code === "cancelled");
  });
});

test("routes take from the path what capabilities take from the payload", async () => {
  await hosting(async (host) => {
    const http = { method: "GET", path: "/greetings/Ada", params: { name: "Ada" } };
    const greeted = await host.send({ capability: "ping-typescript.greet", http }).rawOutcome();
    assert.equal(greeted.text, '{"greeting":"hello Ada"}');

    const counted = (n: string, delayMs: string): ReturnType<TestHost["send"]> => {
      const http = { method: "GET", path: `/count/${n}`, params: { n }, query: [["delayMs", delayMs]] as const };
      return host.send({ capability: "ping-typescript.count", stream: true, http });
    };
    assert.equal((await counted("3", "1").collect()).length, 3);
    assert.deepEqual(await refusal(counted("x", "0").outcome()), ["invalid_request", "n"]);
    assert.deepEqual(await refusal(counted("3", "-1").outcome()), ["invalid_request", "delayMs"]);
  });
});

test("bytes come back in reverse", async () => {
  await hosting(async (host) => {
    const http = { method: "POST", path: "/reverse", body: "base64" } as const;
    const answer = await host.send({ capability: "ping-typescript.reverse", payload: "AAH/", http }).outcome();
    assert.deepEqual(answer, {
      $http: { status: 200, headers: { "content-type": ["application/octet-stream"] }, base64: "/wEA" },
    });
    assert.deepEqual(await refusal(host.request("ping-typescript.reverse", null)), ["invalid_request", undefined]);
  });
});

test("a relayed call names the request that it is made for, and hands on what came", async () => {
  await hosting(
    async (host) => {
      const order = RawJson.parse('{"capability":"other.thing","payload":{"x":1.0}}');
      const request = host.startRequest("ping-typescript.relay", order);
      assert.equal((await request.rawOutcome()).text, '{"x":1.0}');
      assert.equal(host.seen.asked[0]?.parentRequestId, request.id);
      assert.equal(await host.request("ping-typescript.relay", { capability: "other.thing" }), null);
      const nobody = host.request("ping-typescript.relay", { capability: "other.unknown" });
      assert.deepEqual(await refusal(nobody), ["plugin_unavailable", undefined]);
    },
    { answering: { "other.thing": (request) => request.payload } },
  );
});

test("a relayed call carries the trace on", async () => {
  await hosting(
    async (host) => {
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
      const seen = host.send({ capability: "ping-typescript.trace", payload: null, traceparent });
      assert.deepEqual(await seen.outcome(), { traceparent });
      const payload = { capability: "other.thing" };
      await host.send({ capability: "ping-typescript.relay", payload, traceparent }).outcome();
      assert.equal(host.seen.asked[0]?.traceparent, traceparent);
    },
    { answering: { "other.thing": (request) => request.payload } },
  );
});

test("health is what it was told to be", async () => {
  await hosting(async (host) => {
    await host.request("ping-typescript.feel", { health: "degraded", detail: "tired" });
    await host.until("the plugin says so", ({ health }) => {
      const last = health.at(-1);
      return last?.status === "degraded" && last.detail === "tired";
    });
    for (const health of ["fine", "__proto__"]) {
      assert.deepEqual(await refusal(host.request("ping-typescript.feel", { health })), ["invalid_request", "health"]);
    }
  });
});

test("a greeting is logged with its request", async () => {
  await hosting(async (host) => {
    const request = host.startRequest("ping-typescript.greet", { name: "Ada" });
    await request.outcome();
    await host.until("the line has come", ({ logs }) => logs.some(({ requestId }) => requestId === request.id));
    const line = host.seen.logs.find(({ requestId }) => requestId === request.id);
    assert.deepEqual([line?.level, line?.message, line?.fields?.text], ["info", "greeting a guest", '{"name":"Ada"}']);
  });
});

test("its files say what it registers", async () => {
  const read = (name: string): Record<string, unknown> =>
    JSON.parse(readFileSync(new URL(`../../../${name}`, import.meta.url), "utf8")) as Record<string, unknown>;
  const entry = read("plugin.json");
  await hosting((host) => {
    const [registration] = host.seen.registrations;
    assert.ok(registration);
    assert.equal(entry["name"], registration.plugin);
    assert.equal(entry["version"], registration.version);
    assert.equal(read("package.json")["version"], registration.version);
    assert.deepEqual(entry["capabilities"], ["ping-typescript.*"]);
    assert.ok(registration.capabilities.every(({ id }) => id.startsWith("ping-typescript.")));
    assert.deepEqual(
      registration.routes.map(
        ({ method, path, streaming }) => `${method} ${path}${streaming === true ? " streaming" : ""}`,
      ),
      ["GET /", "GET /greetings/{name}", "GET /count/{n} streaming", "POST /reverse"],
    );
    assert.deepEqual(read("config.json"), DEFAULTS);
  });
});
