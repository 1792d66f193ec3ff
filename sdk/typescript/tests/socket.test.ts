// The same over TCP, with a host that is written out frame by frame.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";

import { type WebSocket, WebSocketServer } from "ws";

import { Environment, type Json, type JsonObject, Plugin, RunError } from "bkg-sdk";

/** How long anything here waits, in milliseconds. */
const PATIENCE_MS = 20_000;

/** A host that keeps what comes until it is asked for. */
class Peer {
  readonly #frames: JsonObject[] = [];
  #wake: () => void = () => undefined;
  readonly socket: WebSocket;
  /** How the socket ended. */
  readonly closed: Promise<number>;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer) => {
      this.#frames.push(JSON.parse(data.toString("utf8")) as JsonObject);
      this.#wake();
    });
    this.closed = new Promise((resolve) => socket.on("close", (code) => resolve(code)));
  }

  /** The next frame of a type; what comes before it is passed over. */
  async frame(type: string): Promise<JsonObject> {
    const deadline = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const frame = this.#frames.shift();
      if (frame?.["type"] === type) {
        return frame;
      }
      if (frame === undefined) {
        await new Promise<void>((resolve, reject) => {
          this.#wake = resolve;
          deadline.addEventListener("abort", () => reject(new Error(`waited in vain for \`${type}\``)), { once: true });
        });
      }
    }
  }

  say(frame: object): void {
    this.socket.send(JSON.stringify(frame));
  }

  /** Takes the registration on. */
  async greet(resume: string): Promise<JsonObject> {
    const register = await this.frame("register");
    this.say({
      type: "registered",
      protocol: 1,
      resume,
      heartbeatMs: 10_000,
      instance: "01890a5d-ac96-774b-bcce-b302099a8057",
      limits: { maxFrameBytes: 1 << 24, maxChunkBytes: 1 << 18, streamCredit: 32 },
    });
    return register;
  }

  request(requestId: string, capability: string, payload: Json): void {
    this.say({ type: "request", requestId, capability, payload });
  }
}

/** Somewhere to dial, for as long as the test takes. */
async function listen(context: TestContext): Promise<{ url: string; accept: () => Promise<Peer> }> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  context.after(() => {
    for (const socket of server.clients) {
      socket.terminate();
    }
    server.close();
  });
  const waiting: Peer[] = [];
  server.on("connection", (socket) => {
    waiting.push(new Peer(socket));
    server.emit("waiting");
  });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const accept = async (): Promise<Peer> => {
    for (;;) {
      const peer = waiting.shift();
      if (peer !== undefined) {
        return peer;
      }
      await once(server, "waiting", { signal: AbortSignal.timeout(PATIENCE_MS) });
    }
  };
  return { url: `ws://127.0.0.1:${String(port)}/bus`, accept };
}

test("a plugin dials, answers, pings, comes back and ends", async (context) => {
  const { url, accept } = await listen(context);
  const plugin = new Plugin({ version: "1.0.0" }).answer("greeter.greet", (request) => `hello ${request.read(String)}`);
  const ended = plugin.serve(new Environment({ busUrl: url, name: "greeter", token: "launch" }));

  let host = await accept();
  assert.deepEqual(await host.greet("second"), {
    type: "register",
    plugin: "greeter",
    port: "internal",
    protocol: 1,
    version: "1.0.0",
    capabilities: [{ id: "greeter.greet" }],
    token: "launch",
  });
  assert.deepEqual(await host.frame("health"), { type: "health", plugin: "greeter", status: "up" });
  host.say({ type: "tomorrow" });
  host.socket.send(Buffer.from("binary frames are not read"));
  host.socket.send('{"type":"request","requestId":"r-0","capability":7}');
  const refused = await host.frame("response");
  assert.deepEqual([refused["requestId"], (refused["error"] as JsonObject)["code"]], ["r-0", "invalid_request"]);
  host.request("r-1", "greeter.greet", "Ada");
  assert.deepEqual(await host.frame("response"), {
    type: "response",
    requestId: "r-1",
    success: true,
    data: "hello Ada",
  });
  host.socket.ping("are you there");
  const [pong] = (await once(host.socket, "pong", { signal: AbortSignal.timeout(PATIENCE_MS) })) as [Buffer];
  assert.equal(pong.toString(), "are you there");

  // The host goes without a word, and is back.
  host.socket.terminate();
  host = await accept();
  const register = await host.greet("third");
  assert.deepEqual([register["resume"], register["token"]], ["second", undefined]);

  // A frame that was too large is no reason to stay away.
  host.socket.close(1009, "a frame was too large");
  host = await accept();
  assert.equal((await host.greet("fourth"))["resume"], "third");

  // It asks for an end.
  host.say({ type: "drain", deadlineMs: 10_000 });
  assert.equal(await host.closed, 1000);
  await ended;
});

test("a close with 1008 is a refusal", async (context) => {
  const { url, accept } = await listen(context);
  const ended = new Plugin().serve(new Environment({ busUrl: url, name: "test", token: "launch" }));
  const refused = assert.rejects(ended, (error) => {
    assert.ok(error instanceof RunError);
    assert.deepEqual([error.reason, error.code, error.exitCode], ["rejected", "1008", 78]);
    assert.match(error.message, /this name is taken/);
    return true;
  });
  const host = await accept();
  await host.frame("register");
  host.socket.close(1008, "this name is taken");
  await refused;
});

test("a plugin that is asked to stop while it dials in vain ends at once", async (context) => {
  const { url, accept } = await listen(context);
  const stop = new AbortController();
  const ended = new Plugin().serve(new Environment({ busUrl: url, name: "test", token: "t" }), stop.signal);
  await (await accept()).frame("register");
  stop.abort();
  await ended;
});

/** A process that runs a plugin, as the host would start it. */
function launch(
  context: TestContext,
  environment: Record<string, string>,
  source: string,
): {
  signal: (signal: NodeJS.Signals) => void;
  ended: Promise<{ code: number | null; stderr: string }>;
} {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    cwd: new URL(".", import.meta.url),
    env: { PATH: process.env["PATH"], ...environment },
    stdio: ["ignore", "ignore", "pipe"],
  });
  context.after(() => child.kill("SIGKILL"));
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => {
    stderr += data.toString();
  });
  const ended = once(child, "close", { signal: AbortSignal.timeout(PATIENCE_MS) }).then(([code]) => ({
    code: code as number | null,
    stderr,
  }));
  return { signal: (signal) => void child.kill(signal), ended };
}

test("a process ends with 0 after SIGTERM, and what its console wrote has arrived", async (context) => {
  const { url, accept } = await listen(context);
  const { signal, ended } = launch(
    context,
    { BKG_PLUGIN_BUS_URL: url, BKG_PLUGIN_NAME: "test", BKG_PLUGIN_TOKEN: "t" },
    `import { Plugin } from "bkg-sdk";
     const plugin = new Plugin().answer("test.say", (request) => console.info("said", { word: request.payload }));
     plugin.background((host) => host.stopping.addEventListener("abort", () => console.warn("the last word")));
     await plugin.run();`,
  );
  const host = await accept();
  await host.greet("second");
  assert.equal((await host.frame("log"))["message"], "registered with the host");
  host.request("r-1", "test.say", "hello");
  const line = await host.frame("log");
  assert.deepEqual([line["message"], line["fields"], line["requestId"]], ["said", { word: "hello" }, "r-1"]);
  signal("SIGTERM");
  assert.equal((await host.frame("log"))["message"], "the last word");
  assert.equal(await host.closed, 1000);
  assert.deepEqual(await ended, { code: 0, stderr: "" });
});

test("a process says why it cannot run, and the code says whose affair it is", async (context) => {
  const run = 'import { Plugin } from "bkg-sdk"; await new Plugin({ patienceMs: 1 }).run();';
  const without = await launch(context, {}, run).ended;
  assert.equal(without.code, 78);
  assert.match(without.stderr, /^error: `BKG_PLUGIN_BUS_URL` is not set: the host sets it/);

  const environment = { BKG_PLUGIN_NAME: "test", BKG_PLUGIN_TOKEN: "canary-token" };
  const wrong = await launch(context, { ...environment, BKG_PLUGIN_BUS_URL: "http://127.0.0.1:1" }, run).ended;
  assert.equal(wrong.code, 78);
  assert.match(wrong.stderr, /only `ws` is spoken/);

  const away = await launch(context, { ...environment, BKG_PLUGIN_BUS_URL: "ws://127.0.0.1:1" }, run).ended;
  assert.equal(away.code, 69);
  assert.match(away.stderr, /no session with the host at `ws:\/\/127\.0\.0\.1:1`/);
  assert.doesNotMatch(away.stderr, /canary/);
});

test("lines that never left are written where the host looks for them", async (context) => {
  const { url, accept } = await listen(context);
  const { ended } = launch(
    context,
    { BKG_PLUGIN_BUS_URL: url, BKG_PLUGIN_NAME: "test", BKG_PLUGIN_TOKEN: "t" },
    'import { Plugin } from "bkg-sdk"; const plugin = new Plugin(); plugin.background(() => console.error("lost", { n: 1 })); await plugin.run();',
  );
  const host = await accept();
  await host.frame("register");
  host.say({ type: "rejected", code: "forbidden", message: "not here" });
  const { code, stderr } = await ended;
  assert.equal(code, 78);
  assert.match(stderr, /^error: lost \{"n":1\}$/m);
  assert.match(stderr, /the host refused the registration: not here \(forbidden\)/);
});

test("a promise that nobody waits for is a line in the log and ends nothing", async (context) => {
  const { url, accept } = await listen(context);
  const { signal, ended } = launch(
    context,
    { BKG_PLUGIN_BUS_URL: url, BKG_PLUGIN_NAME: "test", BKG_PLUGIN_TOKEN: "t" },
    `import { Plugin } from "bkg-sdk";
     const plugin = new Plugin().answer("test.forget", () => { void Promise.reject(new Error("forgotten")); return 1; });
     await plugin.run();`,
  );
  const host = await accept();
  await host.greet("second");
  assert.equal((await host.frame("log"))["message"], "registered with the host");
  for (const id of ["r-1", "r-2"]) {
    host.request(id, "test.forget", null);
    assert.equal((await host.frame("response"))["data"], 1);
  }
  const line = await host.frame("log");
  assert.equal(line["level"], "error");
  assert.match(JSON.stringify(line["message"]), /nobody waited for.*forgotten/);
  signal("SIGTERM");
  assert.deepEqual(await ended, { code: 0, stderr: "" });
});

test("an exception that nobody catches ends the process with its reason and what was logged before", async (context) => {
  const { url } = await listen(context);
  const { ended } = launch(
    context,
    { BKG_PLUGIN_BUS_URL: url, BKG_PLUGIN_NAME: "test", BKG_PLUGIN_TOKEN: "t" },
    `import { Plugin } from "bkg-sdk";
     const plugin = new Plugin().background(() => {
       console.warn("going to break");
       setTimeout(() => { throw new Error("broken in a timer"); });
     });
     await plugin.run();`,
  );
  const { code, stderr } = await ended;
  assert.equal(code, 70);
  assert.match(stderr, /^warn: going to break$/m);
  assert.match(stderr, /^error: nobody caught: Error: broken in a timer\n +at /m);
});
