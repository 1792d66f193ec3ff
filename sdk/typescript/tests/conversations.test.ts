// Replays the golden conversations against each half, once as the host and once as the plugin.
//
// A replay is exact: every frame that the half under test writes and every event that it reports must be in
// the conversation, in that order, and nothing may be left at its end. The host half of this SDK is for tests
// and speaks the extended contract alone; it replays the conversations that tell both sides.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { type ErrorCode, type Json, type JsonObject, RawJson, type WireError } from "bkg-sdk";
import type { Outcome } from "#sdk/protocol/error";
import type { GivenUp, Heard, Lost, Started } from "#sdk/protocol/exchange";
import { decodeHostMessage, decodePluginMessage } from "#sdk/protocol/frame";
import { HostSession } from "#sdk/protocol/host";
import { DEFAULT_LIMITS } from "#sdk/protocol/limits";
import { type CancelReason, type Register, type Request, Secret } from "#sdk/protocol/message";
import { PluginSession } from "#sdk/protocol/plugin";

const FOLDER = new URL("../../../../crates/bkg-protocol/golden/conversations/", import.meta.url);
const HOST_SEED = 0xa0a0_a0a0_a0a0_0a0an;
const PLUGIN_SEED = 0xb0b0_b0b0_b0b0_0b0bn;
/** So that a lost file is noticed. */
const CONVERSATIONS_OF_THE_PLUGIN = 19;

interface Half {
  act(action: string, values: JsonObject): Json[];
  receive(frame: string): Json[];
  nextFrame(): string | undefined;
}

interface Conversation {
  name: string;
  halves: string[];
  lines: { place: string; key: string; value: Json }[];
}

const conversations = readdirSync(fileURLToPath(FOLDER)).map((file): Conversation => {
  const [header, ...lines] = readFileSync(new URL(file, FOLDER), "utf8").trimEnd().split("\n");
  const { about, halves } = JSON.parse(String(header)) as { about: string; halves: string[] };
  assert.equal(typeof about, "string", `${file} says what it shows`);
  return {
    name: file.replace(".jsonl", ""),
    halves,
    lines: lines.map((line, index) => {
      const [[key, value], second] = Object.entries(JSON.parse(line) as JsonObject) as [[string, Json], unknown];
      assert.equal(second, undefined, `${file}:${String(index + 2)} says one thing`);
      return { place: `${file}:${String(index + 2)}`, key, value };
    }),
  };
});

test("the conversations are all there", () => {
  const told = conversations.filter(({ halves }) => halves.includes("plugin"));
  assert.equal(told.length, CONVERSATIONS_OF_THE_PLUGIN);
});

for (const conversation of conversations) {
  if (conversation.halves.includes("plugin")) {
    test(`the plugin's side of ${conversation.name}`, () => replay(conversation, "plugin", new PluginHalf()));
  }
  const isForBoth = conversation.halves.length === 2;
  const isExtended = conversation.lines.some(({ key, value }) => key === "plugin" && members(value)["protocol"] === 1);
  if (isForBoth && isExtended) {
    test(`the host's side of ${conversation.name}`, () => replay(conversation, "host", new HostHalf()));
  }
}

function replay({ lines }: Conversation, own: "plugin" | "host", half: Half): void {
  const other = own === "plugin" ? "host" : "plugin";
  const given = new Set(
    lines.filter(({ key }) => key === other || key.endsWith("Does")).flatMap(({ value }) => messages(value)),
  );
  const alike = (actual: Json | undefined, expected: Json, place: string): void => {
    assert.deepEqual(comparable(actual ?? null, given), comparable(expected, given), place);
  };
  let seen: Json[] = [];
  const nothingIsUntold = (place: string): void => {
    assert.deepEqual(seen, [], `${place}: this was seen before and not told`);
  };
  for (const { place, key, value } of lines) {
    switch (key) {
      case own: {
        const written = half.nextFrame();
        assert.ok(written !== undefined, `${place}: nothing is written`);
        alike(JSON.parse(written) as Json, value, `${place}: what is written`);
        break;
      }
      case `${own}Sees`: {
        alike(seen.shift(), value, `${place}: what is seen`);
        break;
      }
      case `${own}Does`: {
        nothingIsUntold(place);
        const [action, values] = onlyMember(value);
        seen = half.act(action, members(values));
        break;
      }
      case other:
        nothingIsUntold(place);
        // A text instead of an object is the frame itself, for what no JSON object can show.
        seen = half.receive(typeof value === "string" ? value : JSON.stringify(value));
        break;
      case "at":
      case `${other}Does`:
      case `${other}Sees`:
        break;
      default:
        assert.fail(`${place}: \`${key}\` is no kind of line`);
    }
  }
  nothingIsUntold("the end");
  assert.equal(half.nextFrame(), undefined, "this was written and not told");
}

/** Messages of errors are for people: only those that an application or the other side gave are compared. */
function comparable(value: Json, given: ReadonlySet<string>): Json {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if (Array.isArray(value)) {
    return value.map((item) => comparable(item, given));
  }
  const isError = typeof value["code"] === "string" && typeof value["message"] === "string";
  const isOwnWord = isError && !given.has(JSON.stringify(value["message"]));
  const entries = Object.entries(value).filter(([name]) => !(isOwnWord && name === "message"));
  return Object.fromEntries(entries.map(([name, member]) => [name, comparable(member, given)]));
}

function messages(value: Json): string[] {
  if (typeof value !== "object" || value === null) {
    return [];
  }
  const own = !Array.isArray(value) && typeof value["message"] === "string" ? [JSON.stringify(value["message"])] : [];
  return [...own, ...Object.values(value).flatMap(messages)];
}

class PluginHalf implements Half {
  #session: PluginSession<string> | undefined;

  get #half(): PluginSession<string> {
    assert.ok(this.#session, "a plugin registers first");
    return this.#session;
  }

  act(action: string, values: JsonObject): Json[] {
    switch (action) {
      case "register":
        this.#session = new PluginSession(PLUGIN_SEED, registerOf(values));
        return [];
      case "request":
        return refused(this.#half.start(requestOf(values), text(values["waiter"])), values);
      case "cancel":
        return givenUp(this.#half.cancel(text(values["requestId"]), values["reason"] as CancelReason));
      case "credit":
        this.#half.credit(text(values["requestId"]), Number(values["n"]));
        return [];
      case "answer":
        return this.#half.answer(text(values["requestId"]), outcomeOf(values)) ? [] : [{ over: true }];
      case "chunk": {
        const why = this.#half.sendChunk(text(values["requestId"]), RawJson.of(values["data"]));
        return why === undefined ? [] : [{ chunkRefused: why.why }];
      }
      case "say": {
        const decoded = decodePluginMessage(JSON.stringify(values));
        assert.ok(decoded.is === "message");
        this.#half.say(decoded.message);
        return [];
      }
      case "checkDrained":
        return [{ drained: this.#half.isDrained }];
      case "end":
        return ended(this.#half.end());
      default:
        return assert.fail(`\`${action}\` is nothing that a plugin does`);
    }
  }

  receive(frame: string): Json[] {
    const event = this.#half.receive(frame);
    switch (event.is) {
      case "registered":
      case "rejected":
      case "request":
      case "event":
      case "config":
        return [{ message: kindOf(frame) }];
      case "updated":
        return [
          { updated: event.error === undefined ? { success: true } : { success: false, error: written(event.error) } },
        ];
      case "cancelled":
        return [{ cancelled: { requestId: event.id, reason: event.reason } }];
      case "mayStream":
        return [{ mayStream: { requestId: event.id } }];
      case "drain":
        return [{ drain: { deadlineMs: event.deadlineMs } }];
      default:
        return [heard(event)];
    }
  }

  nextFrame(): string | undefined {
    return this.#session?.nextFrame();
  }
}

class HostHalf implements Half {
  readonly #half = new HostSession<string>(HOST_SEED, DEFAULT_LIMITS);

  act(action: string, values: JsonObject): Json[] {
    switch (action) {
      case "accept":
        this.#half.accept({
          instance: text(values["instance"]),
          resume: new Secret(text(values["resume"])),
          config: RawJson.of(values["config"]),
          configRevision: Number(values["configRevision"]),
        });
        return [];
      case "reject":
        this.#half.reject(text(values["code"]) as ErrorCode, text(values["message"]));
        return this.#closing();
      case "updated": {
        const outcome = outcomeOf(values);
        this.#half.updated(outcome.ok ? undefined : outcome.error);
        return [];
      }
      case "request":
        return refused(this.#half.start(requestOf(values), text(values["waiter"])), values);
      case "cancel":
        return givenUp(this.#half.cancel(text(values["requestId"]), values["reason"] as CancelReason));
      case "credit":
        this.#half.credit(text(values["requestId"]), Number(values["n"]));
        return [];
      case "answer":
        return this.#half.answer(text(values["requestId"]), outcomeOf(values)) ? [] : [{ over: true }];
      case "chunk": {
        const why = this.#half.sendChunk(text(values["requestId"]), RawJson.of(values["data"]));
        return why === undefined ? [] : [{ chunkRefused: why.why }];
      }
      case "event":
        this.#half.event({ topic: text(values["topic"]), data: RawJson.of(values["data"]) });
        return [];
      case "config":
        this.#half.config({
          revision: Number(values["revision"]),
          config: RawJson.of(values["config"]),
          dryRun: values["dryRun"] === true ? true : undefined,
        });
        return [];
      case "drain":
        return this.#half.drain(Number(values["deadlineMs"])).map((waiter) => ({ retracted: { waiter } }));
      case "close":
        this.#half.shut(Number(values["code"]), text(values["reason"]));
        return this.#closing();
      case "end":
        return ended(this.#half.end());
      default:
        return assert.fail(`\`${action}\` is nothing that a host does`);
    }
  }

  receive(frame: string): Json[] {
    const event = this.#half.receive(frame);
    switch (event.is) {
      case "register":
      case "request":
      case "said":
        return [{ message: kindOf(frame) }];
      case "cancelled":
        return [{ cancelled: { requestId: event.id } }];
      case "mayStream":
        return [{ mayStream: { requestId: event.id } }];
      case "closing":
        return this.#closing();
      default:
        return [heard(event)];
    }
  }

  #closing(): Json[] {
    assert.ok(this.#half.closing);
    return [{ closing: this.#half.closing }];
  }

  nextFrame(): string | undefined {
    return this.#half.nextFrame();
  }
}

function heard(event: Heard<string>): Json {
  switch (event.is) {
    case "answered": {
      const { waiter, outcome } = event;
      return {
        answered: outcome.ok ? { waiter, data: outcome.data.read() } : { waiter, error: written(outcome.error) },
      };
    }
    case "chunk":
      return { chunk: { waiter: event.waiter, data: event.data.read() } };
    case "broken":
      return { broken: { waiter: event.waiter, error: written(event.error) } };
    case "released":
      return { released: { waiter: event.waiter } };
    case "dropped":
      return { dropped: event.why };
  }
}

function written(error: WireError): Json {
  return RawJson.of(error).read();
}

function kindOf(frame: string): Json {
  return members(JSON.parse(frame) as Json)["type"] ?? null;
}

function registerOf(values: JsonObject): Register {
  const decoded = decodePluginMessage(JSON.stringify({ type: "register", ...values }));
  assert.ok(decoded.is === "message" && decoded.message.type === "register");
  return decoded.message;
}

function requestOf(values: JsonObject): Omit<Request, "requestId"> {
  const frame = JSON.stringify({ type: "request", requestId: "assigned by the half", ...values });
  const decoded = decodePluginMessage(frame);
  assert.ok(decoded.is === "message" && decoded.message.type === "request");
  return decoded.message;
}

/** `{"data"}` or `{"error"}`. */
function outcomeOf(values: JsonObject): Outcome {
  const success = !("error" in values);
  const decoded = decodeHostMessage(
    JSON.stringify({ type: "response", ...values, requestId: "of no matter", success }),
  );
  assert.ok(decoded.is === "message" && decoded.message.type === "response");
  return decoded.message.outcome;
}

function refused(started: Started, { waiter }: JsonObject): Json[] {
  return started.started ? [] : [{ refused: { waiter: waiter ?? null, why: started.refusal.why } }];
}

function givenUp(givenUp: GivenUp<string>): Json[] {
  switch (givenUp.is) {
    case "retracted":
      return [{ retracted: { waiter: givenUp.waiter } }];
    case "told":
      return [];
    case "over":
      return [{ over: true }];
  }
}

function ended({ lost, abandoned }: { lost: Lost<string>[]; abandoned: string[] }): Json[] {
  const sorted = lost.map(({ waiter, handedOver }) => ({ lost: { waiter, handedOver } }));
  sorted.sort((a, b) => (a.lost.waiter < b.lost.waiter ? -1 : 1));
  return [...sorted, ...abandoned.map((requestId) => ({ abandoned: { requestId } }))];
}

function onlyMember(value: Json): [string, Json] {
  const [first, second] = Object.entries(members(value));
  assert.ok(first !== undefined && second === undefined, "a line says one thing");
  return first;
}

function members(value: Json | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

function text(value: Json | undefined): string {
  assert.ok(typeof value === "string");
  return value;
}
