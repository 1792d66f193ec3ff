// The handle to the host: everything that a plugin can do besides answering.
//
// Good for the plugin's whole life: it speaks through whatever session there is, and says so where there is
// none. Not for answers; those belong to the request's own session.

import { setMaxListeners } from "node:events";

import { ask, askForStream, type CallOptions, type CallStream, readJson } from "./call.js";
import type { Environment } from "./environment.js";
import { CallError } from "./error.js";
import { type Subscription, Topics } from "./events.js";
import { type IntoJson, intoJson } from "./json.js";
import type { Logs } from "./log.js";
import {
  type AuthChanged,
  type Event,
  LogLevel,
  type Model,
  type PluginMessage,
  type Register,
  type Update,
  updated,
} from "./protocol/message.js";
import type { Json, RawJson } from "./protocol/raw-json.js";
import type { Session } from "./session.js";
import { OwnProcess } from "./telemetry.js";

/** How a plugin feels. */
export const Health = {
  /** It serves. */
  Up: "up",
  /** It serves, but something is wrong: others are preferred. */
  Degraded: "degraded",
  /** It cannot serve: no request is sent to it. */
  Down: "down",
} as const;

/** How a plugin feels. */
export type Health = (typeof Health)[keyof typeof Health];

/** Whose credential a token is, and whether it holds for a scope. */
export type Authorization =
  | {
      /** It does. */
      allowed: true;
      /** The user's name; `root` for the host's own credential. */
      user: string;
      /** The API key, where it is one. */
      keyId?: string;
      /** All that the credential holds for. */
      scopes: string[];
    }
  | {
      /** It does not. */
      allowed: false;
      /** Why not. */
      reason: string;
    };

/** Names of figures that are the message's own. */
const OWN_FIGURES = ["cpu", "mem_bytes", "type", "plugin"];
/** What of an event's frame is neither topic nor data, at the most, in bytes. */
const EVENT_ENVELOPE = 64;

/**
 * The handle to the host.
 *
 * ```ts
 * import { Health, type Host } from "bkg-sdk";
 *
 * async function warmUp(host: Host): Promise<void> {
 *   host.setHealth(Health.Degraded, "the index is loading");
 *   host.log("info", "loading the index");
 *   // …
 *   host.setHealth(Health.Up);
 *   host.setFigure("indexed", 12_000);
 * }
 * ```
 */
export class Host {
  /** What the host said about this launch. */
  readonly environment: Environment;
  readonly #logs: Logs;
  readonly #topics = new Topics((message) => this.say(message));
  readonly #stopping = new AbortController();
  readonly #process = new OwnProcess();
  readonly #figures = new Map<string, number>();
  /** The session whose registration holds. */
  #session: Session | undefined;
  /** What the next session says in `register`, token and resume apart. */
  #registration: Register;
  #health: Health = Health.Up;
  #detail = "";
  /** Why the settings are not in force: it outweighs what the plugin says of itself. */
  #settingsProblem: string | undefined;

  /** Made by the SDK alone. */
  constructor(environment: Environment, logs: Logs, registration: Register) {
    this.environment = environment;
    // Whatever the plugin does may listen: Node warns of a leak at eleven.
    setMaxListeners(0, this.#stopping.signal);
    this.#logs = logs;
    this.#registration = registration;
  }

  /** The plugin's name. */
  get name(): string {
    return this.environment.name;
  }

  /**
   * The plugin's private directory, which persists: `BKG_PLUGIN_DATA_DIR`.
   *
   * @throws EnvironmentError where the host did not name one.
   */
  get dataDir(): string {
    return this.environment.dataDir;
  }

  /** Aborted when the plugin is to stop: take no new work of your own, and finish. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Writes a log line, with further facts or without. Never waits. `console` writes lines as well. */
  log(level: LogLevel, message: string, fields?: object): void {
    this.#logs.write(level, message, fields);
  }

  /**
   * Says how the plugin feels: at once, and with every beat from now on. `detail` is one sentence on why; it
   * may be empty.
   */
  setHealth(health: Health, detail = ""): void {
    this.#health = health;
    this.#detail = detail;
    this.#sayHealth();
  }

  /**
   * Sends a figure of the plugin's own with every telemetry from now on. Names that the host knows (`cpu`,
   * `mem_bytes`) and those of the message itself (`type`, `plugin`) are not taken; figures that are not
   * finite are left out.
   */
  setFigure(name: string, value: number): void {
    if (!OWN_FIGURES.includes(name)) {
      this.#figures.set(name, value);
    }
  }

  /**
   * Asks for a capability, as the plugin's own work; `Request.call` asks on behalf of the caller whose
   * request is being answered.
   *
   * ```ts
   * import type { Host, Json } from "bkg-sdk";
   *
   * async function embed(host: Host, input: string): Promise<Json> {
   *   return host.call("llm.embed", { input }, { timeoutMs: 5_000 });
   * }
   * ```
   *
   * @throws WireError for a failure of whoever was asked, CallError where there is no answer at all.
   */
  async call(capability: string, payload: IntoJson, options: CallOptions = {}): Promise<Json> {
    return (await this.callRaw(capability, payload, options)).read();
  }

  /** As {@link Host.call}; the answer stays the text that came. */
  callRaw(capability: string, payload: IntoJson, options: CallOptions = {}): Promise<RawJson> {
    return ask({ session: this.#session }, capability, payload, options);
  }

  /** Asks for an answer in chunks, as the plugin's own work. */
  callStream(capability: string, payload: IntoJson, options: CallOptions = {}): CallStream<Json> {
    return askForStream({ session: this.#session }, capability, payload, options, readJson);
  }

  /** As {@link Host.callStream}; chunks and answer stay the text that came. */
  callStreamRaw(capability: string, payload: IntoJson, options: CallOptions = {}): CallStream<RawJson> {
    return askForStream({ session: this.#session }, capability, payload, options, (raw) => raw);
  }

  /**
   * Asks the host whose credential a token is, and whether it holds for a scope. Needs `host.authorize` in
   * `calls` of the plugin's entry.
   *
   * @throws WireError or CallError where that cannot be found out; a clear no is an answer.
   */
  async authorize(token: string, scope: string, options: CallOptions = {}): Promise<Authorization> {
    return authorization(await this.call("host.authorize", { token, scope }, options));
  }

  /**
   * Sends an event to whoever subscribed to the topic; answers whether it was handed over. The topic is a
   * dotted name that begins with this plugin's own: `clock.tick` of the plugin `clock`. The host drops any
   * other, and says so in the log. At most once: without a session, or with a socket that is behind, the
   * event is dropped.
   */
  publish(topic: string, data: IntoJson): boolean {
    const session = this.#session;
    const event = intoJson(data);
    if (session?.hasRoom !== true) {
      return false;
    }
    if (Buffer.byteLength(topic) + event.bytes + EVENT_ENVELOPE > session.frameLimit) {
      this.#logs.note(LogLevel.Warn, "event dropped: it exceeds the host's limit", { topic, bytes: event.bytes });
      return false;
    }
    session.say({ type: "publish", topic, data: event });
    return true;
  }

  /**
   * Subscribes to the events of a topic, of this plugin or of another that the entry lists in `subscribes`.
   * The host is told again after a broken link; events of the time between are gone, and so are the oldest
   * of those that this process was too slow to read.
   */
  subscribe(topic: string): Subscription {
    return this.#topics.subscribe(topic);
  }

  /**
   * Says, as the plugin that answers `auth.*`, that what it said before `changed.generation` no longer
   * holds: before it answers the request that made the change. Never dropped while there is a session; a
   * host that comes back later asks about everybody again.
   */
  authChanged(changed: AuthChanged): void {
    this.say({ type: "authChanged", ...changed });
  }

  /**
   * Replaces whole lists of the registration; what the update leaves out stays. If it is refused, everything
   * is as before.
   *
   * @throws WireError with the host's refusal, CallError for the lack of a session.
   */
  async update(update: Update): Promise<void> {
    const session = this.#session;
    if (session === undefined) {
      throw new CallError("notConnected", "there is no session with the host now: try again when it is back");
    }
    try {
      await session.update(update);
    } catch (refusal) {
      if (refusal === undefined) {
        throw new CallError("disconnected", "the session with the host ended before the answer came");
      }
      throw refusal;
    }
    this.#registration = updated(this.#registration, update);
  }

  /** Replaces the list of models: see {@link Host.update}. */
  setModels(models: Model[]): Promise<void> {
    return this.update({ models });
  }

  /** @internal */
  get registration(): Register {
    return this.#registration;
  }

  /** @internal Says something where there is a session; without one it is void. */
  say(message: PluginMessage): void {
    this.#session?.say(message);
  }

  /** @internal A registration holds: from now on this session carries everything. */
  attach(session: Session): void {
    this.#session = session;
    for (const topic of this.#topics.names) {
      session.say({ type: "subscribe", topic });
    }
    this.#logs.attach(session);
  }

  /** @internal The session is over. */
  detach(): void {
    this.#session = undefined;
    this.#logs.detach();
  }

  /** @internal */
  deliver(event: Event): void {
    this.#topics.deliver(event);
  }

  /** @internal Notes whether the settings are in force. */
  setSettingsProblem(problem: string | undefined): void {
    if (this.#settingsProblem !== problem) {
      this.#settingsProblem = problem;
      this.#sayHealth();
    }
  }

  /** @internal One heartbeat: health, telemetry, and the log lines that could not leave before. */
  beat(): void {
    this.#sayHealth();
    const { cpu, resident } = this.#process.sample();
    const finite = [...this.#figures].filter(([, value]) => Number.isFinite(value));
    this.say({ type: "telemetry", plugin: this.name, cpu, memBytes: resident, further: Object.fromEntries(finite) });
    this.#logs.flush();
  }

  /** @internal Says `stopping`, so that the host sends nothing new. */
  sayStopping(): void {
    this.say({ type: "health", plugin: this.name, status: "stopping" });
  }

  #sayHealth(): void {
    if (this.stopping.aborted) {
      this.sayStopping();
      return;
    }
    const status = this.#settingsProblem === undefined ? this.#health : Health.Down;
    const detail = this.#settingsProblem ?? this.#detail;
    this.say({ type: "health", plugin: this.name, status, detail: detail === "" ? undefined : detail });
  }

  /** @internal The plugin is to stop. */
  stop(): void {
    this.#stopping.abort();
  }

  /** @internal Nothing more will come. */
  close(): void {
    this.stop();
    this.#topics.close();
  }
}

function authorization(json: Json): Authorization {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) {
    const { allowed, user, keyId, scopes, reason } = json;
    if (allowed === false) {
      return { allowed, reason: typeof reason === "string" ? reason : "the host gave no reason" };
    }
    if (allowed === true && typeof user === "string" && Array.isArray(scopes)) {
      const texts = scopes.filter((scope) => typeof scope === "string");
      return { allowed, user, scopes: texts, ...(typeof keyId === "string" && { keyId }) };
    }
  }
  // What is not understood must not open anything.
  throw new CallError(
    "unreadable",
    "the answer of `host.authorize` is neither a yes nor a no: is the host older than the SDK?",
  );
}
