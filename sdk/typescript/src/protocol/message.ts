// Every message of the bus: two unions, one per direction, and the structures in them.
//
// These types say what a frame *means*; `frame.ts` turns them into text and back. Whether a message is
// allowed at this moment is decided by `host.ts` and `plugin.ts`. What is absent is `undefined`, never
// `null`.

import { inspect } from "node:util";

import type { Outcome, WireError } from "./error.js";
import type { GrantedLimits } from "./limits.js";
import type { JsonObject, RawJson } from "./raw-json.js";

/** What a plugin says to the host. */
export type PluginMessage =
  | ({ type: "register" } & Register)
  | ({ type: "health" } & HealthReport)
  | ({ type: "telemetry" } & Telemetry)
  | ({ type: "log" } & LogLine)
  | ({ type: "response" } & Response)
  | ({ type: "chunk" } & Chunk)
  | ({ type: "request" } & Request)
  | ({ type: "cancel" } & Cancel)
  | ({ type: "credit" } & Credit)
  | ({ type: "update" } & Update)
  | { type: "subscribe"; topic: string }
  | { type: "unsubscribe"; topic: string }
  | ({ type: "publish" } & Publish)
  | ({ type: "configApplied" } & ConfigApplied)
  | ({ type: "authChanged" } & AuthChanged);

/** What the host says to a plugin. */
export type HostMessage =
  | ({ type: "registered" } & Registered)
  | ({ type: "rejected" } & Rejected)
  | ({ type: "updated" } & Updated)
  | ({ type: "request" } & Request)
  | ({ type: "response" } & Response)
  | ({ type: "chunk" } & Chunk)
  | ({ type: "cancel" } & Cancel)
  | ({ type: "credit" } & Credit)
  | ({ type: "event" } & Event)
  | ({ type: "config" } & Config)
  | ({ type: "drain" } & Drain);

/** A text that must not be seen: printed, logged or written as JSON, it is stars. */
export class Secret {
  readonly #text: string;

  /** Wraps a secret text. */
  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself: to compare or to send, never to log. */
  reveal(): string {
    return this.#text;
  }

  /** Stars. */
  toString(): string {
    return "***";
  }

  /** Stars. */
  toJSON(): string {
    return "***";
  }

  /** Stars. */
  [inspect.custom](): string {
    return "***";
  }
}

/** `register`: who this is and what it offers. */
export interface Register {
  /** The plugin's name, as in its entry. */
  plugin: string;
  /** The TCP port on loopback where the plugin itself listens, if it does. */
  port?: number | undefined;
  /** What it answers. */
  capabilities: CapabilityDescription[];
  /**
   * Facts about the plugin; `hotConfig: true` asks for settings to be pushed rather than restarted for,
   * `configDryRun: true` says that it can be asked about settings before they are saved.
   */
  meta: JsonObject;
  /** JSON Schema of the entry's `settings`. */
  configSchema?: RawJson | undefined;
  /** The protocol version; its absence makes this a base plugin. */
  protocol?: number | undefined;
  /** The plugin's own version. */
  version?: string | undefined;
  /** The launch token. */
  token?: Secret | undefined;
  /** The secret that the last `registered` of this launch gave. */
  resume?: Secret | undefined;
  /** Model ids and the capability that answers for them. */
  models: Model[];
  /** HTTP routes below `/api/plugins/<name>`. */
  routes: Route[];
  /** Functions that a language model may call. */
  tools: Tool[];
  /** Names of real-time channels. */
  channels: string[];
  /** Pages and panels for the control centre. */
  ui: UiSlot[];
}

/** Something that a plugin answers, as it registers it. */
export interface CapabilityDescription {
  /** The dotted name. */
  id: string;
  /** One sentence for people. */
  description?: string | undefined;
  /** JSON Schema of `payload`. */
  inputSchema?: RawJson | undefined;
  /** JSON Schema of `data`. */
  outputSchema?: RawJson | undefined;
  /** Whether it answers a request with `stream` in chunks. */
  streaming: boolean;
  /** Whether asking twice does no more than asking once, so that it may be tried again. */
  idempotent: boolean;
  /** Whether it changes something outside the plugin. */
  sideEffect: boolean;
  /** How long one request may take, unless its caller wants less, in milliseconds. */
  timeoutMs?: number | undefined;
  /** How many requests one instance takes at a time. */
  maxConcurrency?: number | undefined;
}

/** A model that a plugin serves. */
export interface Model {
  /** The id that clients name; it may contain slashes. */
  id: string;
  /** Which capability answers for it: `llm.chat` or `llm.embed`. */
  capability: string;
  /** Whom `/v1/models` names as owner; the plugin, if absent. */
  ownedBy?: string | undefined;
  /** How many tokens fit, prompt and answer together. */
  contextLength?: number | undefined;
  /** The length of its embedding vectors. */
  dimensions?: number | undefined;
}

/** An HTTP route bound to a capability. */
export interface Route {
  /** The HTTP method, in capitals. */
  method: string;
  /**
   * The path below the plugin's prefix; `{name}` stands for one segment, `{*name}` at the end for all that
   * is left.
   */
  path: string;
  /** What answers it. */
  capability: string;
  /** Whether the answer is streamed; not, if absent. */
  streaming?: boolean | undefined;
}

/** A function that a language model may call. */
export interface Tool {
  /** The function's name. */
  name: string;
  /** What it is for, in words that the model reads. */
  description: string;
  /** JSON Schema of its arguments. */
  parameters?: RawJson | JsonObject | undefined;
  /** Whether it changes something, so that someone must approve it; not, if absent. */
  sideEffect?: boolean | undefined;
  /** What answers it. */
  capability: string;
}

/** A page or panel that a plugin adds to the control centre. */
export interface UiSlot {
  /** Where it appears. */
  slot: string;
  /** What it is called there. */
  title: string;
  /** Which file or panel description it shows. */
  entry: string;
}

/** `health`: how the plugin feels. */
export interface HealthReport {
  /** The plugin's name. */
  plugin?: string | undefined;
  /** `up`, `degraded`, `down` or `stopping`. */
  status: string;
  /** One sentence on why. */
  detail?: string | undefined;
}

/** `telemetry`: figures about the plugin's own process. */
export interface Telemetry {
  /** The plugin's name. */
  plugin?: string | undefined;
  /** Processor time, in percent of one core. */
  cpu?: number | undefined;
  /** Resident memory in bytes. */
  memBytes?: number | undefined;
  /** Any further figures under names of the plugin's own. */
  further: JsonObject;
}

/** `log`: one line for people. */
export interface LogLine {
  /** The plugin's name. */
  plugin?: string | undefined;
  /** How much it matters. */
  level: LogLevel;
  /** What happened. */
  message: string;
  /** When the plugin says it happened: RFC 3339, in UTC. */
  timestamp?: string | undefined;
  /** Further facts. */
  fields?: RawJson | undefined;
  /** The request that it is about. */
  requestId?: string | undefined;
}

/** How much a log line matters. */
export const LogLevel = {
  /** Every step. */
  Trace: "trace",
  /** What a developer wants to see. */
  Debug: "debug",
  /** What an operator wants to see. */
  Info: "info",
  /** Someone should look. */
  Warn: "warn",
  /** Something is lost. */
  Error: "error",
} as const;

/** How much a log line matters. */
export type LogLevel = (typeof LogLevel)[keyof typeof LogLevel];

/** `request`: asks for a capability. Both directions. */
export interface Request {
  /** Chosen by the sender; the answers carry it back. */
  requestId: string;
  /** What is asked for. */
  capability: string;
  /** The input. */
  payload: RawJson;
  /** A credential that the capability asks for. */
  token?: Secret | undefined;
  /** Whether the answer may come in chunks. */
  stream?: boolean | undefined;
  /** How many chunks may be sent before the first `credit`. */
  credit?: number | undefined;
  /** How long the caller waits, in milliseconds. */
  timeoutMs?: number | undefined;
  /** On whose behalf. */
  caller?: Caller | undefined;
  /** The `x-request-id` of the HTTP request behind it. */
  correlationId?: string | undefined;
  /** The request that the sender was answering when it asked. */
  parentRequestId?: string | undefined;
  /** W3C trace context. */
  traceparent?: string | undefined;
  /** The HTTP request behind it, for a route. */
  http?: HttpFields | undefined;
}

/** On whose behalf a request is made. */
export interface Caller {
  /** The user's name; `root` for the host's own credential. */
  user: string;
  /** The API key, where one was used. */
  keyId?: string | undefined;
  /** What the caller may do. */
  scopes: string[];
}

/** The HTTP request behind a route's `request`, as it travels. */
export interface HttpFields {
  /** The method, in capitals. */
  method: string;
  /** The path below the plugin's prefix, as it was sent. */
  path: string;
  /** What the `{name}` segments stood for, decoded. */
  params: ReadonlyMap<string, string>;
  /** The query, decoded, in order. */
  query: readonly (readonly [string, string])[];
  /** The allowed headers, names in lower case. */
  headers: ReadonlyMap<string, string>;
  /** What the payload is made of. */
  body: HttpBody;
}

/** What the payload of a route's `request` is made of. */
export type HttpBody = "none" | "json" | "form" | "text" | "base64";

/** `response`: the one and last answer to a `request`. Both directions. */
export interface Response {
  /** The request that it answers. */
  requestId: string;
  /** `data`, or `error`: `success` on the wire decides, whatever else is present. */
  outcome: Outcome;
}

/** `chunk`: a part of a streamed answer. Both directions. */
export interface Chunk {
  /** The request that it belongs to. */
  requestId: string;
  /** 0 for the first, then one more each time. */
  seq: number;
  /** The part. */
  data: RawJson;
}

/** `cancel`: the answer is no longer wanted. Both directions. */
export interface Cancel {
  /** The request that was given up. */
  requestId: string;
  /** Why. */
  reason: CancelReason;
}

/** Why a request was given up; `other` is a reason that this version does not know. */
export type CancelReason = "caller_gone" | "deadline" | "shutdown" | "flow_control" | "protocol" | "other";

/** `credit`: further chunks may be sent. Both directions. */
export interface Credit {
  /** The streamed request. */
  requestId: string;
  /** How many more. */
  n: number;
}

/** `update`: replaces whole lists of the registration; an absent list stays as it is. */
export interface Update {
  /** All models from now on. */
  models?: Model[] | undefined;
  /** All routes from now on. */
  routes?: Route[] | undefined;
  /** All tools from now on. */
  tools?: Tool[] | undefined;
  /** All capabilities from now on. */
  capabilities?: CapabilityDescription[] | undefined;
  /** All facts about the plugin from now on. */
  meta?: JsonObject | undefined;
  /** The schema of the settings from now on. */
  configSchema?: RawJson | undefined;
}

/** What a registration becomes when an update holds. */
export function updated(registration: Register, update: Update): Register {
  return {
    ...registration,
    models: update.models ?? registration.models,
    routes: update.routes ?? registration.routes,
    tools: update.tools ?? registration.tools,
    capabilities: update.capabilities ?? registration.capabilities,
    meta: update.meta ?? registration.meta,
    configSchema: update.configSchema ?? registration.configSchema,
  };
}

/** `publish`: an event for whoever subscribed. */
export interface Publish {
  /** The topic's name. */
  topic: string;
  /** The event. */
  data: RawJson;
}

/** `event`: an event of a topic that the plugin subscribed to. */
export interface Event {
  /** The topic's name. */
  topic: string;
  /** The event. */
  data: RawJson;
  /** Which browser sent it, on a channel. */
  client?: string | undefined;
}

/** `configApplied`: whether a pushed configuration is in force, or would be. */
export interface ConfigApplied {
  /** Which configuration. */
  revision: number;
  /** Whether it is in force now; of a dry run, whether it could be. */
  success: boolean;
  /** Why not. */
  error?: WireError | undefined;
  /** Whether this answers a dry run. */
  dryRun?: true | undefined;
}

/** `authChanged`: what the auth provider said before `generation` no longer holds. */
export interface AuthChanged {
  /** The first generation in which the change holds. */
  generation: number;
  /** The key that changed. */
  keyId?: string | undefined;
  /** The login session that changed. */
  sessionId?: string | undefined;
  /** The user that changed. */
  userId?: string | undefined;
}

/** `registered`: the registration holds, and on what terms. */
export interface Registered {
  /** The protocol version that the host speaks. */
  protocol: number;
  /** The id of this launch. */
  instance: string;
  /** The secret for the next `register` of this launch. */
  resume: Secret;
  /** How often to send `health`, in milliseconds. */
  heartbeatMs: number;
  /** What the host accepts. */
  limits: GrantedLimits;
  /** The plugin's settings. */
  config: RawJson;
  /** Which revision the settings are. */
  configRevision: number;
}

/** `rejected`: the registration is refused. */
export interface Rejected {
  /** One of the error codes. */
  code: string;
  /** What to change. */
  message: string;
}

/** `updated`: whether an `update` holds. */
export interface Updated {
  /** Whether it holds; if not, everything is as before. */
  success: boolean;
  /** Why not. */
  error?: WireError | undefined;
}

/** `config`: new settings. */
export interface Config {
  /** Which revision they are, or would be. */
  revision: number;
  /** The whole settings, not a difference. */
  config: RawJson;
  /** Whether the plugin is only to say what it thinks of them. */
  dryRun?: true | undefined;
}

/** `drain`: take no new work, finish, close with 1000. */
export interface Drain {
  /** How long until the host stops waiting, in milliseconds. */
  deadlineMs: number;
}
