// What a plugin asks of others, and the events it sends and gets.

import assert from "node:assert/strict";
import { test } from "node:test";

import { CallError, Plugin, RawJson, type Request, WireError } from "bkg-sdk";
import { TestHost } from "bkg-sdk/testing";

import { failure, hosting } from "./tools.js";

const relay = (request: Request): Promise<RawJson> => request.callRaw("other.thing", request.rawPayload);

test("a call on behalf of a caller names the request behind it, and JSON passes as it came", async () => {
  await hosting(
    new Plugin().answer("test.relay", relay),
    async (host) => {
      const request = host.startRequest("test.relay", RawJson.parse("[1.0,12345678901234567890]"));
      assert.equal((await request.rawOutcome()).text, "[1.0,12345678901234567890]");
      const [asked] = host.seen.asked;
      assert.deepEqual([asked?.parentRequestId, asked?.timeoutMs], [request.id, 60_000]);
    },
    { answering: { "other.thing": (request) => request.payload } },
  );
});

test("a failure of whoever answers comes through", async () => {
  const thing = (): never => {
    throw new WireError("rate_limited", "later", { retryAfterMs: 5 });
  };
  await hosting(
    new Plugin().answer("test.relay", relay),
    async (host) => {
      const error = await failure(host.request("test.relay", null));
      assert.deepEqual([error.code, error.message, error.retryAfterMs], ["rate_limited", "later", 5]);
    },
    { answering: { "other.thing": thing } },
  );
});

test("a call that takes too long is given up and cancelled", async () => {
  const plugin = new Plugin()
    .answer("test.hasty", (request) => request.call("other.silent", null, { timeoutMs: 1 }))
    .answer("test.hasty-stream", async (request) => {
      for await (const chunk of request.callStream("other.silent", null, { timeoutMs: 1 })) {
        assert.fail(`${JSON.stringify(chunk)} came from nowhere`);
      }
    });
  await hosting(
    plugin,
    async (host) => {
      assert.equal((await failure(host.request("test.hasty", null))).code, "timeout");
      await host.until("the call is cancelled", (seen) => seen.gaveUp.length === 1);
      assert.equal((await failure(host.request("test.hasty-stream", null))).code, "timeout");
      await host.until("the stream is cancelled", (seen) => seen.gaveUp.length === 2);
    },
    { silent: ["other.silent"] },
  );
});

test("a cancelled handler cancels what it asked for", async () => {
  const problems: unknown[] = [];
  const plugin = new Plugin().answer("test.wait", (request) =>
    request.call("other.silent", null).catch((problem: unknown) => {
      problems.push(problem);
      throw problem;
    }),
  );
  await hosting(
    plugin,
    async (host) => {
      const request = host.startRequest("test.wait", null);
      await host.until("the call has come", (seen) => seen.asked.length === 1);
      request.cancel();
      await host.until("the call is cancelled", (seen) => seen.gaveUp.length === 1);
      assert.ok(problems[0] instanceof WireError && problems[0].code === "cancelled");
    },
    { silent: ["other.silent"] },
  );
});

test("a call that its handler forgot is cancelled with the answer", async () => {
  const plugin = new Plugin().answer("test.forget", (request) => {
    request.call("other.silent", null).catch(() => undefined);
  });
  await hosting(
    plugin,
    async (host) => {
      await host.request("test.forget", null);
      await host.until("the call is cancelled", (seen) => seen.gaveUp.length === seen.asked.length);
    },
    { silent: ["other.silent"] },
  );
});

test("a call ends with the signal that it was given", async () => {
  const plugin = new Plugin().answer("test.abort", async (request) => {
    const leave = new AbortController();
    const call = request.call("other.silent", null, { signal: leave.signal });
    leave.abort(new Error("changed my mind"));
    await assert.rejects(call, /changed my mind/);
    await assert.rejects(
      request.call("other.silent", null, { signal: AbortSignal.abort(new Error("before")) }),
      /before/,
    );
  });
  await hosting(plugin, async (host) => assert.equal(await host.request("test.abort", null), null), {
    silent: ["other.silent"],
  });
});

const numbers = (): number[] => [...Array(1000).keys()];

test("a streamed call grants credit as it reads", async () => {
  const plugin = new Plugin().answer("test.sum", async (request) => {
    const stream = request.callStream("other.numbers", null);
    let sum = 0;
    for await (const number of stream) {
      sum += Number(number);
    }
    assert.equal(await stream.outcome(), null);
    return sum;
  });
  await hosting(plugin, async (host) => assert.equal(await host.request("test.sum", null), 499_500), {
    streaming: { "other.numbers": numbers },
  });
});

test("a stream that is left before its end is cancelled", async () => {
  const plugin = new Plugin().answer("test.first", async (request) => {
    for await (const number of request.callStream("other.numbers", null)) {
      return number;
    }
    return null;
  });
  await hosting(
    plugin,
    async (host) => {
      assert.equal(await host.request("test.first", null), 0);
      await host.until("the stream is cancelled", (seen) => seen.gaveUp.length === 1);
    },
    { streaming: { "other.numbers": numbers } },
  );
});

test("a stream that fails says so after the chunks that came", async () => {
  const taken: unknown[] = [];
  const plugin = new Plugin().answer("test.read", async (request) => {
    for await (const chunk of request.callStream("other.large", null)) {
      taken.push(chunk);
    }
  });
  await hosting(
    plugin,
    async (host) => {
      assert.equal((await failure(host.request("test.read", null))).code, "plugin_error");
      assert.deepEqual(taken, [1]);
    },
    { limits: { chunk: 1000 }, streaming: { "other.large": () => [1, "x".repeat(2000)] } },
  );
});

test("a call needs a session and a name", async () => {
  const problems: unknown[] = [];
  const plugin = new Plugin().background(async (host) => {
    // The plugin's own work begins before it is registered.
    await host.call("other.thing", null).catch((problem: unknown) => problems.push(problem));
    await host.call("nodot", null).catch((problem: unknown) => problems.push(problem));
    await host.update({}).catch((problem: unknown) => problems.push(problem));
  });
  await hosting(plugin, () => {
    const reasons = problems.map((problem) => (problem instanceof CallError ? problem.reason : problem));
    assert.deepEqual(reasons, ["notConnected", "name", "notConnected"]);
  });
});

test("a call that is too large is not sent", async () => {
  const plugin = new Plugin().answer("test.large", async (request) => {
    await assert.rejects(
      request.call("other.thing", "x".repeat(5 << 10)),
      (problem) => problem instanceof CallError && problem.reason === "tooLarge",
    );
  });
  await hosting(plugin, async (host) => assert.equal(await host.request("test.large", null), null), {
    limits: { frameFromPlugin: 4 << 10 },
  });
});

test("a call is lost with its session", async () => {
  const problems: unknown[] = [];
  const plugin = new Plugin().background(async (host) => {
    while (!host.stopping.aborted && problems.length === 0) {
      await host.call("other.silent", null).catch((problem: unknown) => {
        if (problem instanceof CallError && problem.reason === "disconnected") {
          problems.push(problem);
        }
      });
      await new Promise(setImmediate);
    }
  });
  await hosting(
    plugin,
    async (host) => {
      await host.until("the call has come", (seen) => seen.asked.length === 1);
      host.breakLink();
      await host.until("the plugin comes back", (seen) => seen.registrations.length === 2);
      assert.equal(problems.length, 1);
    },
    { silent: ["other.silent"] },
  );
});

test("models change when the host agrees", async () => {
  const plugin = (): Plugin =>
    new Plugin()
      .model("old", "test.rename")
      .answer("test.rename", (request) =>
        request.host.setModels([{ id: request.read(String), capability: "test.rename" }]),
      );
  const modelsAfterReturn = async (host: TestHost): Promise<unknown> => {
    host.breakLink();
    await host.until("the plugin comes back", (seen) => seen.registrations.length === 2);
    return host.seen.registrations[1]?.models[0]?.id;
  };
  await hosting(plugin(), async (host) => {
    await host.request("test.rename", "new");
    assert.equal(host.seen.registrations[0]?.models[0]?.id, "new");
    assert.equal(await modelsAfterReturn(host), "new", "what holds is registered again");
  });
  await hosting(
    plugin(),
    async (host) => {
      assert.equal((await failure(host.request("test.rename", "new"))).code, "forbidden");
      assert.equal(await modelsAfterReturn(host), "old");
    },
    { refusingUpdates: new WireError("forbidden", "not in the entry") },
  );
});

test("an update that cannot be written does not take the verdict of the next", async () => {
  const plugin = new Plugin().model("old", "test.rename").answer("test.rename", async ({ host }) => {
    const model = { id: "new", capability: "test.rename" };
    await assert.rejects(host.setModels([{ ...model, dimensions: 1n as unknown as number }]), TypeError);
    await host.setModels([model]);
  });
  await hosting(plugin, async (host) => assert.equal(await host.request("test.rename", null), null));
});

test("events go to subscribers of their topic, also after a broken link", async () => {
  const plugin = new Plugin().background(async (host) => {
    for await (const event of host.subscribe("orders")) {
      host.publish("seen", event.rawData);
    }
  });
  await hosting(plugin, async (host) => {
    for (const round of [1, 2]) {
      await host.until("the topic is wanted", (seen) => seen.topics.join() === "orders");
      host.event("others", 0);
      host.event("orders", RawJson.parse(`${String(round)}.0`));
      await host.until("the event comes back", (seen) => seen.published.length === round);
      assert.equal(host.seen.published.at(-1)?.data.text, `${String(round)}.0`);
      host.breakLink();
      await host.until("the plugin comes back", (seen) => seen.registrations.length === round + 1);
    }
  });
});

test("a topic is given up with its last subscriber", async () => {
  const plugin = new Plugin().answer("test.once", async (request) => {
    const [first, second] = [request.host.subscribe("orders"), request.host.subscribe("orders")];
    second.close();
    for await (const event of first) {
      return event.data;
    }
    return null;
  });
  await hosting(plugin, async (host) => {
    const request = host.startRequest("test.once", null);
    await host.until("the topic is wanted", (seen) => seen.topics.join() === "orders");
    host.event("orders", 7);
    assert.equal(await request.outcome(), 7);
    await host.until("the topic is given up", (seen) => seen.topics.length === 0);
  });
});

test("a subscriber that falls behind misses the oldest events and can ask how many", async () => {
  const plugin = new Plugin().answer("test.late", async (request) => {
    const orders = request.host.subscribe("orders");
    await request.call("other.flood", null);
    const { value } = await orders.next();
    return [value?.data, orders.missed];
  });
  const started: { host?: TestHost } = {};
  const flood = (): null => {
    for (let number = 0; number < 300; number += 1) {
      started.host?.event("orders", number);
    }
    return null;
  };
  const host = await TestHost.start(plugin, { answering: { "other.flood": flood } });
  started.host = host;
  try {
    assert.deepEqual(await host.request("test.late", null), [44, 44]);
  } finally {
    await host.close();
  }
});

test("a clear no of the host is an answer, and what is not understood opens nothing", async () => {
  const answers = [
    { allowed: true, user: "ada", keyId: "key-1", scopes: ["repo.read"] },
    { allowed: false, reason: "scope" },
    { allowed: "yes", user: "eve", scopes: [] },
  ];
  const plugin = new Plugin().answer("test.ask", (request) => request.host.authorize("token-1", "repo.read"));
  await hosting(
    plugin,
    async (host) => {
      assert.deepEqual(await host.request("test.ask", null), answers[0]);
      assert.deepEqual(host.seen.asked[0]?.payload.read(), { token: "token-1", scope: "repo.read" });
      assert.equal(host.seen.asked[0].parentRequestId, undefined, "it is the plugin's own question");
      assert.deepEqual(await host.request("test.ask", null), answers[1]);
      assert.equal((await failure(host.request("test.ask", null))).code, "plugin_error");
    },
    {
      answering: {
        "host.authorize": (() => {
          let next = 0;
          return () => answers[next++];
        })(),
      },
    },
  );
});
