// Between messages and the text of a frame.
//
// Payloads are spliced into frames and cut out of them as they are. Nothing here knows whether a message
// is allowed; that is the halves' affair. The invariant: what cannot be read is a value, not an exception.

import { ErrorCode, WireError } from "./error.js";
import {
  anyText,
  asItCame,
  capability,
  FieldError,
  Fields,
  figure,
  id,
  listOf,
  object,
  pair,
  text,
  texts,
  truth,
  whole,
  wireError,
} from "./fields.js";
import {
  type Cancel,
  type CancelReason,
  type CapabilityDescription,
  type Chunk,
  type Credit,
  type HostMessage,
  type HttpBody,
  type HttpFields,
  LogLevel,
  type Model,
  type PluginMessage,
  type Register,
  type Request,
  type Response,
  type Route,
  Secret,
  type Tool,
  type UiSlot,
} from "./message.js";
import { instanceId, pluginName } from "./name.js";
import { RawJson } from "./raw-json.js";

/** What a frame's text turned out to be. */
export type Decoded<M> =
  | { is: "message"; message: M }
  /** A `type` that this version does not know: ignored, since that is how the protocol grows. */
  | { is: "unknown"; type: string }
  /** Not a JSON object with a text `type`, or, with `type`, one whose members do not fit it. */
  | { is: "unreadable"; type?: string; requestId?: string; problem: string };

/** Reads what a plugin wrote. */
export function decodePluginMessage(frame: string): Decoded<PluginMessage> {
  return decode(frame, readPluginMessage);
}

/** Reads what the host wrote. */
export function decodeHostMessage(frame: string): Decoded<HostMessage> {
  return decode(frame, readHostMessage);
}

function decode<M>(frame: string, read: (type: string, fields: Fields) => M | undefined): Decoded<M> {
  let fields: Fields;
  let type: string;
  try {
    fields = new Fields(RawJson.parse(frame));
    type = fields.required("type", text);
  } catch (problem) {
    return { is: "unreadable", problem: `the frame is not a JSON object with a \`type\`: ${reason(problem)}` };
  }
  try {
    const message = read(type, fields);
    return message === undefined ? { is: "unknown", type } : { is: "message", message };
  } catch (problem) {
    const unreadable = {
      is: "unreadable" as const,
      type,
      problem: `the \`${type}\` frame cannot be read: ${reason(problem)}`,
    };
    try {
      return { ...unreadable, requestId: fields.required("requestId", id) };
    } catch {
      return unreadable;
    }
  }
}

function reason(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}

function readPluginMessage(type: string, fields: Fields): PluginMessage | undefined {
  switch (type) {
    case "response":
      return { type, ...readResponse(fields) };
    case "chunk":
      return { type, ...readChunk(fields) };
    case "register":
      return { type, ...readRegister(fields) };
    case "health":
      return {
        type,
        plugin: fields.optional("plugin", text),
        status: fields.required("status", text),
        detail: fields.optional("detail", anyText),
      };
    case "telemetry":
      return {
        type,
        plugin: fields.optional("plugin", text),
        cpu: fields.optional("cpu", figure),
        memBytes: fields.optional("mem_bytes", figure),
        further: fields.others(["type", "plugin", "cpu", "mem_bytes"]),
      };
    case "log":
      return {
        type,
        plugin: fields.optional("plugin", text),
        level: fields.optional("level", level) ?? LogLevel.Info,
        message: fields.optional("message", anyText) ?? "",
        timestamp: fields.optional("timestamp", timestamp),
        fields: fields.optional("fields", asItCame),
        requestId: fields.optional("requestId", id),
      };
    case "request":
      return { type, ...readRequest(fields) };
    case "cancel":
      return { type, ...readCancel(fields) };
    case "credit":
      return { type, ...readCredit(fields) };
    case "update":
      return {
        type,
        models: fields.optional("models", (raw) => listOf(raw, readModel)),
        routes: fields.optional("routes", (raw) => listOf(raw, readRoute)),
        tools: fields.optional("tools", (raw) => listOf(raw, readTool)),
        capabilities: fields.optional("capabilities", (raw) => listOf(raw, readCapability)),
        meta: fields.optional("meta", object),
        configSchema: fields.optional("configSchema", asItCame),
      };
    case "subscribe":
    case "unsubscribe":
      return { type, topic: fields.required("topic", text) };
    case "publish":
      return { type, topic: fields.required("topic", text), data: payload(fields, "data") };
    case "configApplied":
      return {
        type,
        revision: fields.required("revision", whole),
        success: fields.required("success", truth),
        error: fields.optional("error", wireError),
        dryRun: dryRun(fields),
      };
    case "authChanged":
      return {
        type,
        generation: fields.required("generation", whole),
        keyId: fields.optional("keyId", text),
        sessionId: fields.optional("sessionId", text),
        userId: fields.optional("userId", text),
      };
    default:
      return undefined;
  }
}

function readHostMessage(type: string, fields: Fields): HostMessage | undefined {
  switch (type) {
    case "request":
      return { type, ...readRequest(fields) };
    case "credit":
      return { type, ...readCredit(fields) };
    case "cancel":
      return { type, ...readCancel(fields) };
    case "response":
      return { type, ...readResponse(fields) };
    case "chunk":
      return { type, ...readChunk(fields) };
    case "registered":
      return {
        type,
        protocol: fields.required("protocol", whole),
        instance: fields.required("instance", (raw) => instanceId(text(raw))),
        resume: fields.required("resume", secret),
        heartbeatMs: fields.required("heartbeatMs", whole),
        limits: fields.required("limits", (raw) => {
          const limits = new Fields(raw);
          return {
            maxFrameBytes: limits.required("maxFrameBytes", whole),
            maxChunkBytes: limits.required("maxChunkBytes", whole),
            streamCredit: limits.required("streamCredit", whole),
          };
        }),
        config: payload(fields, "config"),
        configRevision: fields.optional("configRevision", whole) ?? 0,
      };
    case "rejected":
      return { type, code: fields.required("code", text), message: fields.required("message", text) };
    case "updated":
      return { type, success: fields.required("success", truth), error: fields.optional("error", wireError) };
    case "event":
      return {
        type,
        topic: fields.required("topic", text),
        data: payload(fields, "data"),
        client: fields.optional("client", text),
      };
    case "config":
      return {
        type,
        revision: fields.required("revision", whole),
        config: payload(fields, "config"),
        dryRun: dryRun(fields),
      };
    case "drain":
      return { type, deadlineMs: fields.required("deadlineMs", whole) };
    default:
      return undefined;
  }
}

function dryRun(fields: Fields): true | undefined {
  return fields.optional("dryRun", truth) === true ? true : undefined;
}

function payload(fields: Fields, name: string): RawJson {
  return fields.raw(name) ?? RawJson.NULL;
}

function secret(raw: RawJson): Secret {
  return new Secret(text(raw));
}

function readRegister(fields: Fields): Register {
  return {
    plugin: fields.required("plugin", (raw) => pluginName(text(raw))),
    port: fields.optional("port", port),
    capabilities: fields.list("capabilities", readCapability),
    meta: fields.optional("meta", object) ?? {},
    configSchema: fields.optional("configSchema", asItCame),
    protocol: fields.optional("protocol", whole),
    version: fields.optional("version", text),
    token: fields.optional("token", secret),
    resume: fields.optional("resume", secret),
    models: fields.list("models", readModel),
    routes: fields.list("routes", readRoute),
    tools: fields.list("tools", readTool),
    channels: fields.list("channels", text),
    ui: fields.list("ui", readUiSlot),
  };
}

/** Port 0 is what a plugin says that took no port after all. */
function port(raw: RawJson): number | undefined {
  const value = raw.read();
  if (value === "internal" || value === 0) {
    return undefined;
  }
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 65_535) {
    throw new FieldError('a number up to 65535, or "internal"');
  }
  return value;
}

function readCapability(raw: RawJson): CapabilityDescription {
  if (raw.text.startsWith('"')) {
    return { id: capability(raw), streaming: false, idempotent: false, sideEffect: false };
  }
  const fields = new Fields(raw);
  return {
    id: fields.required("id", capability),
    description: fields.optional("description", text),
    inputSchema: fields.optional("inputSchema", asItCame),
    outputSchema: fields.optional("outputSchema", asItCame),
    streaming: fields.optional("streaming", truth) ?? false,
    idempotent: fields.optional("idempotent", truth) ?? false,
    sideEffect: fields.optional("sideEffect", truth) ?? false,
    timeoutMs: fields.optional("timeoutMs", whole),
    maxConcurrency: fields.optional("maxConcurrency", whole),
  };
}

function readModel(raw: RawJson): Model {
  const fields = new Fields(raw);
  return {
    id: fields.required("id", text),
    capability: fields.required("capability", capability),
    ownedBy: fields.optional("ownedBy", text),
    contextLength: fields.optional("contextLength", whole),
    dimensions: fields.optional("dimensions", whole),
  };
}

function readRoute(raw: RawJson): Route {
  const fields = new Fields(raw);
  return {
    method: fields.required("method", text),
    path: fields.required("path", text),
    capability: fields.required("capability", capability),
    streaming: fields.optional("streaming", truth) ?? false,
  };
}

function readTool(raw: RawJson): Tool {
  const fields = new Fields(raw);
  return {
    name: fields.required("name", text),
    description: fields.optional("description", text) ?? "",
    parameters: fields.optional("parameters", asItCame),
    sideEffect: fields.optional("sideEffect", truth) ?? false,
    capability: fields.required("capability", capability),
  };
}

function readUiSlot(raw: RawJson): UiSlot {
  const fields = new Fields(raw);
  return {
    slot: fields.required("slot", text),
    title: fields.required("title", text),
    entry: fields.required("entry", text),
  };
}

/** The level that a word names, in any case; the logging libraries of several languages write these. */
function level(raw: RawJson): LogLevel {
  const word = raw.read();
  switch (typeof word === "string" ? word.toLowerCase() : "") {
    case "trace":
      return LogLevel.Trace;
    case "debug":
      return LogLevel.Debug;
    case "warn":
    case "warning":
      return LogLevel.Warn;
    case "error":
    case "critical":
    case "fatal":
      return LogLevel.Error;
    default:
      return LogLevel.Info;
  }
}

const TIMESTAMP = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})?$/i;

/** A time with or without fraction and zone, in UTC; without a zone it is UTC already. */
function timestamp(raw: RawJson): string | undefined {
  const value = raw.read();
  const found = typeof value === "string" ? TIMESTAMP.exec(value) : null;
  const [, date, time, fraction = "", zone = "Z"] = found ?? [];
  const at = Date.parse(`${String(date)}T${String(time)}${zone.toUpperCase()}`);
  return Number.isNaN(at) ? undefined : atTime(new Date(at), fraction);
}

/** RFC 3339 in UTC, without zeros at the end of the fraction. */
function atTime(seconds: Date, fraction: string): string {
  const digits = fraction.replace(/0+$/, "");
  return `${seconds.toISOString().slice(0, 19)}${digits && `.${digits}`}Z`;
}

function readRequest(fields: Fields): Request {
  return {
    requestId: fields.required("requestId", id),
    capability: fields.required("capability", capability),
    payload: payload(fields, "payload"),
    token: fields.optional("token", secret),
    stream: fields.optional("stream", truth) ?? false,
    credit: fields.optional("credit", whole),
    timeoutMs: fields.optional("timeoutMs", whole),
    caller: fields.optional("caller", (raw) => {
      const caller = new Fields(raw);
      return {
        user: caller.required("user", text),
        keyId: caller.optional("keyId", text),
        scopes: caller.list("scopes", text),
      };
    }),
    correlationId: fields.optional("correlationId", text),
    parentRequestId: fields.optional("parentRequestId", id),
    traceparent: fields.optional("traceparent", text),
    http: fields.optional("http", readHttp),
  };
}

/** The HTTP request behind a request. */
export function readHttp(raw: RawJson): HttpFields {
  const http = new Fields(raw);
  return {
    method: http.required("method", text),
    path: http.required("path", text),
    params: http.optional("params", texts) ?? new Map(),
    query: http.list("query", pair),
    headers: http.optional("headers", texts) ?? new Map(),
    body: http.optional("body", body) ?? "none",
  };
}

function body(raw: RawJson): HttpBody {
  const word = text(raw);
  switch (word) {
    case "none":
    case "json":
    case "form":
    case "text":
    case "base64":
      return word;
    default:
      throw new FieldError(`\`${word}\` is none of none, json, form, text, base64`);
  }
}

function readResponse(fields: Fields): Response {
  const requestId = fields.required("requestId", id);
  if (fields.required("success", truth)) {
    return { requestId, outcome: { ok: true, data: payload(fields, "data") } };
  }
  const error =
    fields.optional("error", wireError) ?? new WireError(ErrorCode.PluginError, "the plugin failed and gave no reason");
  return { requestId, outcome: { ok: false, error } };
}

function readChunk(fields: Fields): Chunk {
  return {
    requestId: fields.required("requestId", id),
    seq: fields.required("seq", whole),
    data: payload(fields, "data"),
  };
}

function readCancel(fields: Fields): Cancel {
  return { requestId: fields.required("requestId", id), reason: fields.optional("reason", cancelReason) ?? "other" };
}

function cancelReason(raw: RawJson): CancelReason {
  const word = text(raw);
  switch (word) {
    case "caller_gone":
    case "deadline":
    case "shutdown":
    case "flow_control":
    case "protocol":
      return word;
    default:
      return "other";
  }
}

function readCredit(fields: Fields): Credit {
  return { requestId: fields.required("requestId", id), n: fields.required("n", whole) };
}

/** The frame's text. Members that are `undefined`, and lists and facts that are empty, are left out. */
export function encode(message: PluginMessage | HostMessage): string {
  switch (message.type) {
    case "request":
      return splice(requestEnvelope(message), "payload", message.payload);
    case "response": {
      const { type, requestId, outcome } = message;
      return outcome.ok
        ? splice({ type, requestId, success: true }, "data", outcome.data)
        : RawJson.of({ type, requestId, success: false, error: outcome.error }).text;
    }
    case "chunk": {
      const { type, requestId, seq, data } = message;
      return splice({ type, requestId, seq }, "data", data);
    }
    case "register": {
      const { type, plugin, capabilities, meta, configSchema, protocol, version } = message;
      return RawJson.of({
        type,
        plugin,
        port: message.port ?? "internal",
        capabilities: capabilities.map(writtenCapability),
        meta: Object.keys(meta).length === 0 ? undefined : meta,
        configSchema,
        protocol,
        version,
        token: message.token?.reveal(),
        resume: message.resume?.reveal(),
        models: unlessEmpty(message.models),
        routes: unlessEmpty(message.routes.map(writtenRoute)),
        tools: unlessEmpty(message.tools.map(writtenTool)),
        channels: unlessEmpty(message.channels),
        ui: unlessEmpty(message.ui),
      }).text;
    }
    case "update": {
      const { type, models, routes, tools, capabilities, meta, configSchema } = message;
      return RawJson.of({
        type,
        models,
        routes: routes?.map(writtenRoute),
        tools: tools?.map(writtenTool),
        capabilities: capabilities?.map(writtenCapability),
        meta,
        configSchema,
      }).text;
    }
    case "telemetry": {
      const { type, plugin, cpu, memBytes, further } = message;
      return RawJson.of({ type, plugin, cpu, mem_bytes: memBytes, ...further }).text;
    }
    case "registered":
      return RawJson.of({ ...message, resume: message.resume.reveal() }).text;
    default:
      return RawJson.of(message).text;
  }
}

function splice(envelope: object, name: string, raw: RawJson): string {
  return `${JSON.stringify(envelope).slice(0, -1)},"${name}":${raw.text}}`;
}

function requestEnvelope(request: { type: "request" } & Request): object {
  const { http } = request;
  return {
    ...request,
    payload: undefined,
    token: request.token?.reveal(),
    stream: request.stream === true ? true : undefined,
    http: http && { ...http, params: Object.fromEntries(http.params), headers: Object.fromEntries(http.headers) },
  };
}

function writtenCapability(capability: CapabilityDescription): object {
  const { streaming, idempotent, sideEffect } = capability;
  return {
    ...capability,
    streaming: onlyTrue(streaming),
    idempotent: onlyTrue(idempotent),
    sideEffect: onlyTrue(sideEffect),
  };
}

function writtenRoute(route: Route): object {
  return { ...route, streaming: onlyTrue(route.streaming) };
}

function writtenTool(tool: Tool): object {
  return { ...tool, sideEffect: onlyTrue(tool.sideEffect) };
}

function onlyTrue(value: boolean | undefined): true | undefined {
  return value === true ? true : undefined;
}

function unlessEmpty<T>(list: T[]): T[] | undefined {
  return list.length === 0 ? undefined : list;
}
