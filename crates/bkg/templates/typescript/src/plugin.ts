// What `my-plugin` answers. A capability is a function; the options beside it say how it is asked for.

import { setTimeout as pause } from "node:timers/promises";

import { ErrorCode, Plugin, Settings, WireError } from "bkg-sdk";
import type { Json } from "bkg-sdk";

/** What an operator can set: `config.json` holds the defaults, `plugin.json` the schema. */
interface Greeting {
  greeting: string;
}

const settings = new Settings<Greeting>(
  { greeting: "hello" },
  {
    // A change of the settings takes effect while the plugin runs, unless this refuses it.
    check: async (next) => {
      if (next.greeting.trim() === "") throw new Error("`greeting` is empty");
    },
  },
);

export const plugin = new Plugin({ version: "0.1.0", settings });

// One answer: what the function returns. What it throws is the caller's error.
plugin.answer(
  "my-plugin.greet",
  async (request) => {
    // Through the route the name stands in the path, otherwise in the payload.
    const name = request.http?.param("name") ?? member(request.payload, "name");
    if (typeof name !== "string" || name === "") {
      throw invalid("name", "`name` is no text, or empty: say whom to greet");
    }
    // A log line of this request: `bkg logs my-plugin` shows it.
    console.info(`greeting ${name}`);
    return { greeting: `${settings.get().greeting} ${name}` };
  },
  {
    description: "A greeting with the word from the settings",
    inputSchema: {
      type: "object",
      properties: { name: { type: "string" } },
      required: ["name"],
    },
    idempotent: true,
    // Below /api/plugins/my-plugin, for whoever may use the capability.
    routes: [["GET", "/greetings/{name}"]],
  },
);

// An answer in parts: `send` waits while the caller has yet to read, and throws when it has left.
plugin.stream(
  "my-plugin.count",
  async (request, chunks) => {
    const n = Number(request.http?.param("n") ?? member(request.payload, "n"));
    if (!Number.isSafeInteger(n) || n < 0) throw invalid("n", "`n` is a number from 0 on");
    const delayMs = Number(member(request.payload, "delayMs") ?? 0);
    for (let number = 0; number < n; number += 1) {
      if (delayMs > 0) await pause(delayMs, undefined, { signal: request.signal });
      await chunks.send({ number });
    }
  },
  {
    description: "Counts from 0 to `n` - 1, with a pause of `delayMs` before each",
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
  },
);

/** A member of a payload; `undefined` where the payload is no object or has no such member. */
function member(payload: Json, name: string): Json | undefined {
  const isObject = typeof payload === "object" && payload !== null && !Array.isArray(payload);
  return isObject ? payload[name] : undefined;
}

/** The error for a request that does not fit: its caller sees a 400. */
function invalid(param: string, message: string): WireError {
  return new WireError(ErrorCode.InvalidRequest, message, { param });
}
