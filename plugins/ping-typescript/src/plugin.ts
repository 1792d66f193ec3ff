// The reference plugin in TypeScript: one of everything that a plugin can do, each in a few lines.
//
// Made to be read, and copied from; `plugins/ping` is the same in Rust. It also answers whether a host works:
// `ping-typescript.ping` costs nothing. It keeps nothing and needs nothing but the host.

import { setTimeout as pause } from "node:timers/promises";

import {
  type ChunkSink,
  Health,
  type Json,
  type JsonObject,
  Plugin,
  RawJson,
  type Request,
  RouteAnswer,
  Settings,
  WireError,
} from "bkg-sdk";

/** What an operator can set; `config.json` holds the defaults, `plugin.json` the schema. */
export interface Greeting {
  /** The word before the name. */
  greeting: string;
}

/** What holds until the host has sent its own. */
export const DEFAULTS: Greeting = { greeting: "hello" };

/** The longest pause that a timer takes, in milliseconds. */
const LONGEST_PAUSE_MS = 2 ** 31 - 1;

/** The plugin, to be run. */
export function plugin(): Plugin {
  const settings = new Settings(DEFAULTS, {
    check: (offered) => {
      if (offered.greeting.trim() === "") {
        throw new Error("`greeting` is empty");
      }
    },
  });
  let pings = 0;

  return (
    new Plugin({ version: "0.1.0", settings })
      // A request: the answer is what the function returns.
      .answer(
        "ping-typescript.ping",
        (request) => {
          pings += 1;
          // A figure of the plugin's own travels with every telemetry.
          request.host.setFigure("pings", pings);
          return { pong: true };
        },
        { description: "Whether the plugin is there", idempotent: true, routes: [["GET", "/"]] },
      )
      // JSON that is passed on need not be read.
      .answer("ping-typescript.echo", (request) => request.rawPayload, {
        description: "The payload, as it came",
        idempotent: true,
      })
      .answer("ping-typescript.greet", (request) => greet(request, settings.get()), {
        description: "A greeting with the word from the settings",
        inputSchema: {
          type: "object",
          properties: { name: { type: "string" } },
          required: ["name"],
        },
        idempotent: true,
        routes: [["GET", "/greetings/{name}"]],
      })
      .stream("ping-typescript.count", count, {
        description: "Counts from 0 to `n` - 1 in chunks, with a pause of `delayMs` before each",
        inputSchema: {
          type: "object",
          properties: {
            n: { type: "integer", minimum: 0 },
            delayMs: { type: "integer", minimum: 0 },
          },
          required: ["n"],
        },
        idempotent: true,
        routes: [["GET", "/count/{n}"]],
      })
      .answer("ping-typescript.reverse", reverse, {
        description: "The body of an HTTP request, its last byte first",
        idempotent: true,
        routes: [["POST", "/reverse"]],
      })
      .answer("ping-typescript.relay", relay, {
        description: "Asks the host for another capability and answers what that answered",
      })
      .answer("ping-typescript.trace", trace, {
        description: "Where the request stands in a trace",
        idempotent: true,
      })
      .answer("ping-typescript.feel", feel, {
        description: "Makes the plugin say that it is `up`, `degraded` or `down`",
        sideEffect: true,
      })
  );
}

/** A setting: the one in force at this moment. */
function greet(request: Request, settings: Greeting): object {
  // Through its route the name stands in the path, otherwise in the payload.
  const name = request.http?.param("name") ?? request.read((payload) => text(members(payload), "name"));
  // A log line that names this request; the host shows it beside the plugin.
  console.info("greeting a guest", { name });
  return { greeting: `${settings.greeting} ${name}` };
}

/** A stream: `send` waits while the caller has yet to read, and fails when it has left. */
async function count(request: Request, chunks: ChunkSink): Promise<void> {
  const { n, delayMs } = range(request);
  for (let number = 0; number < n; number += 1) {
    if (delayMs > 0) {
      await pause(Math.min(delayMs, LONGEST_PAUSE_MS), undefined, { signal: request.signal });
    }
    await chunks.send({ number });
  }
}

function range(request: Request): { n: number; delayMs: number } {
  const { http } = request;
  if (http === undefined) {
    return request.read((payload) => {
      const order = members(payload);
      return { n: whole(order, "n"), delayMs: "delayMs" in order ? whole(order, "delayMs") : 0 };
    });
  }
  const number = (name: string, text: string): number => {
    if (!/^\+?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
      throw new WireError("invalid_request", `\`${name}\` is a number from 0 on`, { param: name });
    }
    return Number(text);
  };
  return { n: number("n", http.param("n") ?? ""), delayMs: number("delayMs", http.queryValue("delayMs") ?? "0") };
}

/** Bytes, in and out, with a type of their own. */
function reverse(request: Request): RouteAnswer {
  const bytes = request.body().reverse();
  return new RouteAnswer(200, { headers: { "content-type": "application/octet-stream" }, bytes });
}

/** A call: with the rights of the caller, as far as `calls` in `plugin.json` allows. */
function relay(request: Request): Promise<RawJson> {
  const capability = request.read((payload) => text(members(payload), "capability"));
  // What is handed on stays the text that came, to the last digit of a number.
  return request.callRaw(capability, request.rawPayload.member("payload") ?? RawJson.NULL);
}

/** A trace: what others are asked for this request carries it on; give it to other services yourself. */
function trace(request: Request): object {
  return { traceparent: request.traceparent ?? null };
}

/** Health: said at once, and again with every beat. */
function feel(request: Request): void {
  const feeling = request.read((payload) => {
    const order = members(payload);
    return { health: text(order, "health"), detail: "detail" in order ? text(order, "detail") : "" };
  });
  const health = Object.values(Health).find((known) => known === feeling.health);
  if (health === undefined) {
    const message = `\`health\` is \`up\`, \`degraded\` or \`down\`, not \`${feeling.health}\``;
    throw new WireError("invalid_request", message, { param: "health" });
  }
  request.host.setHealth(health, feeling.detail);
}

function members(json: Json): JsonObject {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new Error("an object is expected");
  }
  return json;
}

function text(object: JsonObject, name: string): string {
  const value = object[name];
  if (typeof value !== "string") {
    throw misfit(name, value === undefined ? "is missing" : "is not a text");
  }
  return value;
}

function whole(object: JsonObject, name: string): number {
  const value = object[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw misfit(name, value === undefined ? "is missing" : "is not a whole number from 0 on");
  }
  return value;
}

/** A member of the payload is wrong; whoever sent it is told which. */
function misfit(name: string, what: string): WireError {
  return new WireError("invalid_request", `the payload cannot be read: \`${name}\` ${what}`, { param: name });
}
