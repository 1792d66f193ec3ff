// Every request is answered exactly once, whatever becomes of its handler.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import { Capability, DefinitionError, Plugin, RawJson, type Request, RouteAnswer, RunError, WireError } from "bkg-sdk";

import { failure, gate, hosting } from "./tools.js";
import { TestHost } from "bkg-sdk/testing";

const echo = (request: Request): RawJson => request.rawPayload;

test("a request is answered with what the handler returns", async () => {
  await hosting(new Plugin().answer("test.echo", echo), async (host) => {
    const payload = RawJson.parse('{"b":1.0e2,"a":"\\u00e9","big":12345678901234567890,"__proto__":{"x":1}}');
    assert.equal((await host.startRequest("test.echo", payload).rawOutcome()).text, payload.text);
    assert.equal(host.inFlight, 0);
  });
});

test("what a payload is read into reaches no prototype", async () => {
  const plugin = new Plugin();
  plugin.answer("test.read", (request) => {
    const { payload } = request;
    assert.ok(typeof payload === "object" && payload !== null && !Array.isArray(payload));
    return {
      polluted: "x" in {},
      names: Object.keys(payload),
      inherited: Object.getPrototypeOf(payload) === Object.prototype,
    };
  });
  await hosting(plugin, async (host) => {
    const answer = await host.request("test.read", RawJson.parse('{"__proto__":{"x":1},"constructor":2}'));
    assert.deepEqual(answer, { polluted: false, names: ["__proto__", "constructor"], inherited: true });
  });
});

test("names of objects' own members are no capabilities", async () => {
  await hosting(new Plugin().answer("test.echo", echo), async (host) => {
    assert.equal((await failure(host.request("constructor.name", null))).code, "not_found");
  });
});

test("an error travels whole", async () => {
  const plugin = new Plugin().answer("test.refuse", () => {
    throw new WireError("invalid_request", "no", { param: "messages[0]", details: RawJson.parse("1.0") });
  });
  await hosting(plugin, async (host) => {
    const error = await failure(host.request("test.refuse", null));
    assert.deepEqual(
      [error.code, error.message, error.param, error.details?.text],
      ["invalid_request", "no", "messages[0]", "1.0"],
    );
  });
});

test("a payload that does not fit is the caller's mistake", async () => {
  const number = (json: unknown): number => {
    if (typeof json !== "number") {
      throw new Error("a number is expected");
    }
    return json;
  };
  await hosting(
    new Plugin().answer("test.double", (request) => 2 * request.read(number)),
    async (host) => {
      assert.equal(await host.request("test.double", 4), 8);
      const error = await failure(host.request("test.double", "4"));
      assert.equal(error.code, "invalid_request");
      assert.match(error.message, /a number is expected/);
    },
  );
});

test("a capability without a handler is not found", async () => {
  await hosting(new Plugin().answer("test.echo", echo), async (host) => {
    const error = await failure(host.request("test.other", null));
    assert.equal(error.code, "not_found");
    assert.match(error.message, /test\.other/);
  });
});

test("a handler that breaks answers, is logged, and harms no other", async () => {
  const plugin = new Plugin()
    .answer("test.breaks", () => {
      throw new TypeError("a secret detail");
    })
    .answer("test.throws-anything", () => {
      throw Object.create(null);
    })
    .answer("test.unwritable", () => ({ cyclic: 1n as unknown as number }))
    .answer("test.echo", echo);
  await hosting(plugin, async (host) => {
    for (const capability of ["test.breaks", "test.unwritable", "test.throws-anything"]) {
      const error = await failure(host.request(capability, null));
      assert.equal(error.code, "plugin_error");
      assert.doesNotMatch(error.message, /secret/);
    }
    assert.equal(await host.request("test.echo", 1), 1);
    await host.until("every line has come", (seen) => seen.logs.length === 3);
    const [line] = host.seen.logs;
    assert.match(String(line?.message), /test\.breaks.*a secret detail/);
    assert.equal(line?.level, "error");
  });
});

test("whatever a handler throws, the request is answered once", async () => {
  const poisoned = (): never => {
    throw new Error("not even to be looked at");
  };
  const thrown: Record<string, unknown> = {
    "test.message": Object.defineProperty(new Error("x"), "message", { get: poisoned }),
    "test.symbol": Object.assign(new Error("x"), { message: Symbol("x") }),
    "test.code": new WireError(1n as unknown as string, "m"),
    "test.proxy": new Proxy({}, { getPrototypeOf: poisoned }),
    "test.inspected": { [inspect.custom]: poisoned },
  };
  const plugin = new Plugin().answer("test.echo", echo);
  for (const [capability, problem] of Object.entries(thrown)) {
    plugin.answer(capability, () => {
      throw problem;
    });
  }
  await hosting(plugin, async (host) => {
    for (const capability of Object.keys(thrown)) {
      assert.equal((await failure(host.request(capability, null))).code, "plugin_error", capability);
    }
    assert.equal(await host.request("test.echo", 1), 1);
    assert.deepEqual([host.inFlight, host.seen.dropped], [0, 0]);
    assert.equal(host.seen.answers.length, Object.keys(thrown).length + 1);
  });
});

test("handlers run at the same time", async () => {
  const met = gate();
  let waiting = 0;
  const plugin = new Plugin().answer("test.meet", async () => {
    waiting += 1;
    if (waiting === 2) {
      met.open();
    }
    await met.opened;
  });
  await hosting(plugin, async (host) => {
    const both = [host.startRequest("test.meet", null), host.startRequest("test.meet", null)];
    assert.deepEqual(await Promise.all(both.map((request) => request.outcome())), [null, null]);
  });
});

test("a cancelled request is answered so at once, and its handler is told", async () => {
  const told = gate<unknown>();
  const release = gate();
  const plugin = new Plugin()
    .answer("test.stall", async (request) => {
      request.signal.addEventListener("abort", () => told.open(request.signal.reason));
      // It does not listen: its late answer reaches nobody.
      await release.opened;
      return "late";
    })
    .answer("test.echo", echo);
  await hosting(plugin, async (host) => {
    const request = host.startRequest("test.stall", null);
    // The answer to a later request shows that the first is with its handler.
    await host.request("test.echo", null);
    request.cancel();
    assert.ok((await told.opened) instanceof WireError);
    await host.until("the cancelled request is answered", (seen) => seen.answers.length === 2);
    release.open();
    await host.request("test.echo", null);
    const answers = host.seen.answers.filter(({ requestId }) => requestId === request.id);
    assert.equal(answers.length, 1);
    const [answer] = answers;
    assert.ok(answer?.outcome.ok === false);
    assert.equal(answer.outcome.error.code, "cancelled");
    assert.deepEqual([host.inFlight, host.seen.dropped], [0, 0]);
  });
});

test("a handler may listen for its cancel as often as it likes", async () => {
  const warnings: string[] = [];
  const warned = ({ name }: Error): unknown => warnings.push(name);
  process.on("warning", warned);
  const plugin = new Plugin().answer("test.listen", ({ signal, host }) => {
    for (let count = 0; count < 20; count += 1) {
      signal.addEventListener("abort", () => count);
      host.stopping.addEventListener("abort", () => count);
    }
  });
  await hosting(plugin, async (host) => assert.equal(await host.request("test.listen", null), null));
  process.off("warning", warned);
  assert.deepEqual(warnings, []);
});

test("what fails because of a cancel is no line in the log", async () => {
  const plugin = new Plugin()
    .answer(
      "test.wait",
      (request) =>
        new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(new Error("aborted")))),
    )
    .answer("test.echo", echo);
  await hosting(plugin, async (host) => {
    const request = host.startRequest("test.wait", null);
    await host.request("test.echo", null);
    request.cancel("deadline");
    await host.until("the cancelled request is answered", (seen) => seen.answers.length === 2);
    await host.request("test.echo", null);
    assert.deepEqual(host.seen.logs, []);
  });
});

test("an answer that is too large becomes an error", async () => {
  const plugin = new Plugin().answer("test.large", () => "x".repeat(5 << 10));
  await hosting(
    plugin,
    async (host) => {
      assert.equal((await failure(host.request("test.large", null))).code, "payload_too_large");
    },
    { limits: { frameFromPlugin: 4 << 10 } },
  );
});

test("a handler sees who asks and how", async () => {
  const plugin = new Plugin().answer("test.describe", (request) => [
    request.caller?.user,
    request.timeoutMs,
    request.correlationId,
    request.http?.param("__proto__"),
    request.http?.param("toString"),
    request.http?.queryValue("v"),
    request.http?.header("Accept"),
    request.wantsStream,
  ]);
  await hosting(plugin, async (host) => {
    const answer = await host
      .send({
        capability: "test.describe",
        caller: { user: "ada", scopes: [] },
        timeoutMs: 1500,
        correlationId: "c-1",
        http: {
          method: "GET",
          path: "/x",
          params: Object.fromEntries([["__proto__", "p"]]),
          query: [
            ["v", "1"],
            ["v", "2"],
          ],
          headers: { accept: "text/html" },
        },
      })
      .outcome();
    assert.deepEqual(answer, ["ada", 1500, "c-1", "p", null, "1", "text/html", false]);
  });
});

test("the body of an HTTP request is its bytes, whatever it is", async () => {
  const plugin = new Plugin().answer("test.body", (request) => new RouteAnswer(200, { bytes: request.body() }));
  await hosting(plugin, async (host) => {
    const ask = async (body: "none" | "text" | "base64" | "json" | "form", payload: string | null): Promise<string> => {
      const http = { method: "POST", path: "/", body };
      const answer = (await host.send({ capability: "test.body", payload, http }).outcome()) as {
        $http: { base64: string };
      };
      return Buffer.from(answer.$http.base64, "base64").toString("latin1");
    };
    assert.equal(await ask("none", null), "");
    assert.equal(await ask("text", "é"), "\xc3\xa9");
    assert.equal(await ask("base64", "AAH/"), "\x00\x01\xff");
    const large = "AAH/".repeat(3 << 20);
    assert.equal((await ask("base64", large)).length, 9 << 20);
    for (const [body, payload] of [
      ["json", null],
      ["form", null],
      ["base64", "A"],
    ] as const) {
      assert.equal((await failure(ask(body, payload))).code, "invalid_request", body);
    }
    assert.equal((await failure(host.request("test.body", null))).code, "invalid_request");
  });
});

test("the registration says what the plugin is", async () => {
  const plugin = new Plugin({ version: "1.2.3", channels: ["room"] })
    .answer("test.echo", echo, { description: "Says it again", idempotent: true, routes: [["GET", "/echo"]] })
    .stream("test.echo", () => undefined, { routes: [["GET", "/echoes"]] })
    .model("small", "test.echo")
    .route("GET", "/", "test.echo");
  await hosting(
    plugin,
    (host) => {
      const [registration] = host.seen.registrations;
      assert.deepEqual([registration?.plugin, registration?.protocol, registration?.version], ["parrot", 1, "1.2.3"]);
      assert.deepEqual(
        registration?.capabilities.map(({ id, idempotent, streaming }) => [id, idempotent, streaming]),
        [["test.echo", true, true]],
      );
      assert.equal(registration.models[0]?.id, "small");
      assert.deepEqual(
        registration.routes.map(({ path, streaming }) => [path, streaming]),
        [
          ["/echo", false],
          ["/echoes", true],
          ["/", false],
        ],
      );
      assert.deepEqual(registration.channels, ["room"]);
    },
    { name: "parrot" },
  );
});

test("mistakes in the description end the plugin with their reason", async () => {
  const wrong: [Plugin, RegExp][] = [
    [new Plugin().answer("test.echo", echo).answer("test.echo", echo), /defined twice/],
    [new Plugin().capability(new Capability("test.mute", {})), /no handler/],
    [new Plugin().route("GET", "/", "nodot"), /not a capability name/],
    [new Plugin().answer("x", echo), /not a capability name/],
  ];
  for (const [plugin, expected] of wrong) {
    await assert.rejects(TestHost.launch(plugin).ended(), (error) => {
      assert.ok(error instanceof RunError && error.cause instanceof DefinitionError);
      assert.match(error.message, expected);
      assert.deepEqual([error.reason, error.exitCode], ["definition", 78]);
      return true;
    });
  }
});
