// Every message of both directions against its golden file.
//
// A file is what the other side may really send, and the value beside it here is what it must mean: a renamed
// member fails although it would still survive a round trip. `README.md` beside the files describes them.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { RawJson, WireError } from "bkg-sdk";
import { type Decoded, decodeHostMessage, decodePluginMessage, encode } from "#sdk/protocol/frame";
import {
  type CapabilityDescription,
  type HostMessage,
  type PluginMessage,
  type Register,
  type Request,
  Secret,
} from "#sdk/protocol/message";

const FOLDER = new URL("../../../../crates/bkg-protocol/golden/messages/", import.meta.url);
const HOST_REQUEST = "a0a0a0a0-a0a0-8a0a-8000-000000000000";
const PLUGIN_REQUEST = "b0b0b0b0-b0b0-8b0b-8000-000000000000";
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const raw = (value: object | string | null): RawJson => RawJson.of(value);
const capability = (id: string): CapabilityDescription => ({
  id,
  streaming: false,
  idempotent: false,
  sideEffect: false,
});

function register(plugin: string, fields: Partial<Register> = {}): PluginMessage {
  const nothing = { capabilities: [], meta: {}, models: [], routes: [], tools: [], channels: [], ui: [] };
  return { type: "register", plugin, ...nothing, ...fields };
}

function request(
  requestId: string,
  capability: string,
  payload: object | string | null,
  fields: Partial<Request> = {},
): { type: "request" } & Request {
  return { type: "request", requestId, capability, payload: raw(payload), stream: false, ...fields };
}

const success = (data: object | null): PluginMessage => ({
  type: "response",
  requestId: HOST_REQUEST,
  outcome: { ok: true, data: raw(data) },
});
const failure = (error: WireError): PluginMessage => ({
  type: "response",
  requestId: HOST_REQUEST,
  outcome: { ok: false, error },
});

const PLUGIN_MESSAGES: Record<string, PluginMessage> = {
  "register.minimal": register("echo"),
  "register.nulls": register("echo"),
  "register.unknown-fields": register("echo", { capabilities: [capability("echo.say")] }),
  "register.base": register("ping-python", {
    port: 4101,
    capabilities: [capability("ping.echo"), capability("ping.time")],
    meta: { version: "1.2.0" },
    configSchema: raw({ type: "object" }),
  }),
  "register.extended": register("scribe", {
    port: 8123,
    capabilities: [
      {
        id: "llm.chat",
        description: "Answers a conversation",
        inputSchema: raw({ type: "object", required: ["messages"] }),
        outputSchema: raw({ type: "object" }),
        streaming: true,
        idempotent: true,
        sideEffect: true,
        timeoutMs: 120_000,
        maxConcurrency: 4,
      },
      capability("llm.embed"),
    ],
    meta: { hotConfig: true, homepage: "https://example.org" },
    configSchema: raw({ type: "object", properties: { tone: { type: "string" } } }),
    protocol: 1,
    version: "0.3.1",
    token: new Secret("launch-token"),
    models: [
      { id: "scribe/large", capability: "llm.chat", ownedBy: "scribe", contextLength: 8_192 },
      { id: "scribe/embed", capability: "llm.embed", dimensions: 384 },
    ],
    routes: [{ method: "GET", path: "/pages/{page}", capability: "scribe.page", streaming: true }],
    tools: [
      {
        name: "write_page",
        description: "Writes a page",
        parameters: raw({ type: "object" }),
        sideEffect: true,
        capability: "scribe.write",
      },
    ],
    channels: ["typing"],
    ui: [{ slot: "page", title: "Pages", entry: "pages.json" }],
  }),
  "register.resume": register("scribe", {
    capabilities: [capability("llm.chat")],
    protocol: 1,
    resume: new Secret("resume-secret"),
  }),
  "health.up": { type: "health", plugin: "echo", status: "up" },
  "health.degraded": { type: "health", plugin: "echo", status: "degraded", detail: "the model is still loading" },
  "health.down": { type: "health", plugin: "echo", status: "down", detail: "the disk is full" },
  "health.own-word": { type: "health", plugin: "echo", status: "ready" },
  "health.detail-object": { type: "health", plugin: "echo", status: "up", detail: '{"queue":3}' },
  telemetry: {
    type: "telemetry",
    plugin: "echo",
    cpu: 12.5,
    memBytes: 52_428_800,
    further: { queue: 3, hit_rate: 0.75 },
  },
  "telemetry.bare": { type: "telemetry", plugin: "echo", further: {} },
  "log.full": {
    type: "log",
    plugin: "echo",
    level: "warn",
    message: "the queue is long",
    timestamp: "2026-01-02T03:04:05.25Z",
    fields: raw({ queue: 31 }),
    requestId: HOST_REQUEST,
  },
  "log.minimal": { type: "log", plugin: "echo", level: "info", message: "ready" },
  "log.no-zone": { type: "log", plugin: "echo", level: "warn", message: "slow", timestamp: "2026-01-02T03:04:05.25Z" },
  "log.number-timestamp": { type: "log", plugin: "echo", level: "info", message: '{"state":"ready"}' },
  "response.success": success({ text: "hello" }),
  "response.both-success": success({ text: "hello" }),
  "response.no-data": success(null),
  "response.failure": failure(
    new WireError("rate_limited", "the upstream allows 3 requests a minute: wait", {
      retryable: true,
      retryAfterMs: 20_000,
      param: "messages[0].role",
      details: { limit: 3 },
    }),
  ),
  "response.cancelled": failure(new WireError("cancelled", "the request was cancelled by its caller")),
  "response.error-text": failure(new WireError("plugin_error", "the file does not exist")),
  "response.both-failure": failure(new WireError("not_found", "no such page")),
  "response.no-reason": failure(new WireError("plugin_error", "the plugin failed and gave no reason")),
  "chunk.first": { type: "chunk", requestId: HOST_REQUEST, seq: 0, data: raw({ delta: "he" }) },
  "chunk.later": { type: "chunk", requestId: HOST_REQUEST, seq: 41, data: raw("llo") },
  "request.base": request("7", "ping.time", {}),
  "request.no-payload": request("7", "ping.time", null),
  "request.extended": request(
    PLUGIN_REQUEST,
    "llm.chat",
    { messages: [] },
    {
      stream: true,
      credit: 8,
      timeoutMs: 5_000,
      parentRequestId: HOST_REQUEST,
      traceparent: TRACE,
    },
  ),
  cancel: { type: "cancel", requestId: PLUGIN_REQUEST, reason: "caller_gone" },
  "cancel.unknown-reason": { type: "cancel", requestId: PLUGIN_REQUEST, reason: "other" },
  "cancel.no-reason": { type: "cancel", requestId: PLUGIN_REQUEST, reason: "other" },
  credit: { type: "credit", requestId: PLUGIN_REQUEST, n: 16 },
  "update.everything": {
    type: "update",
    models: [{ id: "scribe/small", capability: "llm.chat" }],
    routes: [],
    tools: [{ name: "write_page", description: "Writes a page", sideEffect: false, capability: "scribe.write" }],
    capabilities: [{ ...capability("llm.chat"), streaming: true }],
    meta: { hotConfig: true },
    configSchema: raw({ type: "object" }),
  },
  "update.one-list": { type: "update", models: [] },
  subscribe: { type: "subscribe", topic: "catalogue.changed" },
  unsubscribe: { type: "unsubscribe", topic: "catalogue.changed" },
  publish: { type: "publish", topic: "scribe.page-written", data: raw({ page: "start" }) },
  "configApplied.success": { type: "configApplied", revision: 7, success: true },
  "configApplied.dry-run": { type: "configApplied", revision: 7, success: true, dryRun: true },
  "configApplied.failure": {
    type: "configApplied",
    revision: 7,
    success: false,
    error: new WireError("invalid_config", "`tone` must be one of formal, plain", { param: "tone" }),
  },
  "authChanged.key": { type: "authChanged", generation: 12, keyId: "key-1" },
  "authChanged.session": { type: "authChanged", generation: 13, sessionId: "session-1" },
  "authChanged.user": { type: "authChanged", generation: 14, userId: "user-1" },
};

const HOST_MESSAGES: Record<string, HostMessage> = {
  registered: {
    type: "registered",
    protocol: 1,
    instance: "0198c0de-0000-7000-8000-000000000001",
    resume: new Secret("resume-secret"),
    heartbeatMs: 10_000,
    limits: { maxFrameBytes: 16_777_216, maxChunkBytes: 262_144, streamCredit: 32 },
    config: raw({ tone: "plain" }),
    configRevision: 3,
  },
  rejected: {
    type: "rejected",
    code: "forbidden",
    message: "the entry of `scribe` does not list `llm.chat`: add it there, or do not register it",
  },
  "updated.success": { type: "updated", success: true },
  "updated.failure": {
    type: "updated",
    success: false,
    error: new WireError("forbidden", "the entry of `scribe` does not list the model `other/large`"),
  },
  "request.base": request(HOST_REQUEST, "ping.echo", { text: "hello" }),
  "request.base-token": request(HOST_REQUEST, "ping.echo", null, { token: new Secret("caller-token") }),
  "request.extended": request(
    HOST_REQUEST,
    "llm.chat",
    { model: "scribe/large", messages: [{ role: "user", content: "hi" }], stream: true },
    {
      stream: true,
      credit: 32,
      timeoutMs: 300_000,
      caller: { user: "ada", keyId: "key-1", scopes: ["llm.chat", "models.read"] },
      correlationId: "0198c0de-0000-7000-8000-000000000002",
      parentRequestId: PLUGIN_REQUEST,
      traceparent: TRACE,
    },
  ),
  "request.route": request("a0a0a0a0-a0a0-8a0a-8000-000000000001", "scribe.page", null, {
    caller: { user: "root", scopes: ["*"] },
    http: {
      method: "GET",
      path: "/pages/start",
      params: new Map([["page", "start"]]),
      query: [
        ["v", "1"],
        ["v", "2"],
      ],
      headers: new Map([["accept", "text/html"]]),
      body: "none",
    },
  }),
  "request.route-body": request("a0a0a0a0-a0a0-8a0a-8000-000000000002", "scribe.picture", "iVBORw0K", {
    http: {
      method: "PUT",
      path: "/pictures/a%20b",
      params: new Map([["name", "a b"]]),
      query: [],
      headers: new Map([["content-type", "image/png"]]),
      body: "base64",
    },
  }),
  "response.success": {
    type: "response",
    requestId: "7",
    outcome: { ok: true, data: raw({ now: "2026-01-02T03:04:05Z" }) },
  },
  "response.failure": {
    type: "response",
    requestId: "7",
    outcome: {
      ok: false,
      error: new WireError("forbidden", "the entry of `echo` does not allow calls to `llm.chat`"),
    },
  },
  chunk: { type: "chunk", requestId: PLUGIN_REQUEST, seq: 0, data: raw({ delta: "he" }) },
  "cancel.caller-gone": { type: "cancel", requestId: HOST_REQUEST, reason: "caller_gone" },
  "cancel.deadline": { type: "cancel", requestId: HOST_REQUEST, reason: "deadline" },
  "cancel.shutdown": { type: "cancel", requestId: HOST_REQUEST, reason: "shutdown" },
  "cancel.flow-control": { type: "cancel", requestId: HOST_REQUEST, reason: "flow_control" },
  "cancel.protocol": { type: "cancel", requestId: HOST_REQUEST, reason: "protocol" },
  credit: { type: "credit", requestId: HOST_REQUEST, n: 16 },
  event: { type: "event", topic: "catalogue.changed", data: raw({ plugin: "echo" }) },
  "event.client": { type: "event", topic: "typing", data: raw({ text: "h" }), client: "client-1" },
  config: { type: "config", revision: 7, config: raw({ tone: "formal" }) },
  "config.dry-run": { type: "config", revision: 7, config: raw({ tone: "formal" }), dryRun: true },
  drain: { type: "drain", deadlineMs: 10_000 },
};

test("every message of a plugin means what its golden file says", () => {
  check("plugin-to-host", PLUGIN_MESSAGES, decodePluginMessage);
});

test("every message of the host means what its golden file says", () => {
  check("host-to-plugin", HOST_MESSAGES, decodeHostMessage);
});

function check<M extends PluginMessage | HostMessage>(
  direction: string,
  expected: Record<string, M>,
  decode: (frame: string) => Decoded<M>,
): void {
  const folder = new URL(`${direction}/`, FOLDER);
  const read = (name: string): string => readFileSync(new URL(name, folder), "utf8");
  const files = readdirSync(fileURLToPath(folder));
  const stems = new Set(files.map((name) => name.replace(/(\.lenient|\.canonical)?\.json$/, "")));
  assert.deepEqual([...stems].sort(), Object.keys(expected).sort(), `golden files of ${direction}`);

  for (const [stem, message] of Object.entries(expected)) {
    const isStrict = files.includes(`${stem}.json`);
    const written = read(isStrict ? `${stem}.json` : `${stem}.canonical.json`);
    assert.deepEqual(JSON.parse(encode(message)), JSON.parse(written), `what is written for ${stem}`);
    for (const text of isStrict ? [written] : [written, read(`${stem}.lenient.json`)]) {
      assert.equal(decode(text).is, "message", `${stem} is a frame as it stands`);
      // A payload keeps its text, and a file is laid out for people: without its layout values compare whole.
      const decoded = decode(JSON.stringify(JSON.parse(text)));
      assert.ok(decoded.is === "message", `${stem} is read`);
      assert.deepEqual(plain(decoded.message), plain(message), `${stem} as it is read`);
    }
  }
}

/** A message as one can compare it: without what is absent, with what is hidden. */
function plain(value: unknown): unknown {
  if (value instanceof Secret) {
    return { secret: value.reveal() };
  }
  if (value instanceof RawJson) {
    return { raw: value.text };
  }
  if (value instanceof WireError) {
    return { wireError: plain(value.toJSON()) };
  }
  if (value instanceof Map) {
    return { map: [...value] };
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return Object.fromEntries(members.map(([name, member]) => [name, plain(member)]));
  }
  return value;
}
