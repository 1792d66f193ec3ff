// A host in memory, to test a plugin without a daemon and without a socket.
//
// {@link TestHost} speaks through a host half of the protocol that keeps the rules of the daemon's, and what
// breaks a rule is counted here as there. It decides nothing about rights, routes or restarts; those are the
// daemon's. Everything here waits at most ten seconds and then fails with what it waited for.

import { Environment } from "../environment.js";
import { messageOf } from "../error.js";
import { type IntoJson, intoJson } from "../json.js";
import type { Plugin } from "../plugin.js";
import type { ErrorCode, Outcome, WireError } from "../protocol/error.js";
import { readHttp } from "../protocol/frame.js";
import { DEFAULT_LIMITS, type Limits } from "../protocol/limits.js";
import type { Caller, CancelReason, HttpBody, Request } from "../protocol/message.js";
import { capabilityName } from "../protocol/name.js";
import { type Json, RawJson } from "../protocol/raw-json.js";
import { type AskedRequest, Link, PATIENCE_MS, type Peer, type Seen, TOKEN } from "./link.js";
import { MemoryDialler } from "./pipe.js";

export type { AskedRequest, Seen } from "./link.js";
export type { Limits } from "../protocol/limits.js";
export type { CancelReason } from "../protocol/message.js";

/** What a {@link TestHost} is to be like. */
export interface TestHostOptions {
  /** The settings that the plugin gets when it registers; none unless said. */
  settings?: IntoJson;
  /** Bounds of the session, heartbeat included; the others are the daemon's. */
  limits?: Partial<Limits>;
  /** The plugin's name; `test` unless said. */
  name?: string;
  /** Where the plugin may keep data. */
  dataDir?: string;
  /** Refuses every registration. */
  rejecting?: { code: ErrorCode; message: string };
  /** Refuses every `update`. */
  refusingUpdates?: WireError;
  /** Answers capabilities that the plugin asks for; what a function throws is the failure. */
  answering?: Readonly<Record<string, (request: AskedRequest) => IntoJson>>;
  /** Answers capabilities that the plugin asks for in chunks, as fast as it takes them. */
  streaming?: Readonly<Record<string, (request: AskedRequest) => IntoJson[]>>;
  /** Takes requests for these capabilities and never answers them. */
  silent?: readonly string[];
  /** Whether what `console` writes while the plugin runs goes to the host, as under {@link Plugin.run}. */
  bridgesConsole?: boolean;
}

/** What a request may say beside capability and payload. */
export interface RequestFields {
  /** What is asked for. */
  capability: string;
  /** The input; `null` unless said. */
  payload?: IntoJson;
  /** Whether the answer may come in chunks. */
  stream?: boolean;
  /** How many chunks may be sent before the first credit. */
  credit?: number;
  /** How long the caller waits, in milliseconds. */
  timeoutMs?: number;
  /** On whose behalf. */
  caller?: Caller;
  /** The `x-request-id` of the HTTP request behind it. */
  correlationId?: string;
  /** W3C trace context. */
  traceparent?: string;
  /** The HTTP request behind it, for a route. */
  http?: {
    /** The method, in capitals. */
    method: string;
    /** The path below the plugin's prefix. */
    path: string;
    /** What the `{name}` segments stood for. */
    params?: Readonly<Record<string, string>>;
    /** The query, in order. */
    query?: readonly (readonly [string, string])[];
    /** The headers, names in lower case. */
    headers?: Readonly<Record<string, string>>;
    /** What the payload is made of; nothing unless said. */
    body?: HttpBody;
  };
}

/**
 * A host in memory with one plugin.
 *
 * ```ts
 * import assert from "node:assert/strict";
 * import { Plugin } from "bkg-sdk";
 * import { TestHost } from "bkg-sdk/testing";
 *
 * const plugin = new Plugin();
 * plugin.answer("math.double", (request) => 2 * request.read(Number));
 *
 * const host = await TestHost.start(plugin);
 * try {
 *   assert.equal(await host.request("math.double", 21), 42);
 * } finally {
 *   await host.close();
 * }
 * ```
 */
export class TestHost {
  readonly #link: Link;
  readonly #stop = new AbortController();
  readonly #plugin: Promise<{ problem: unknown } | undefined>;

  private constructor(plugin: Plugin, options: TestHostOptions) {
    const peers = new Map<string, Peer>();
    const enter = (capability: string, peer: Peer): void => {
      peers.set(capabilityName(capability), peer);
    };
    for (const [capability, answer] of Object.entries(options.answering ?? {})) {
      enter(capability, (request) => ({ chunks: [], data: answer(request) }));
    }
    for (const [capability, chunks] of Object.entries(options.streaming ?? {})) {
      enter(capability, (request) => ({ chunks: chunks(request), data: null }));
    }
    for (const capability of options.silent ?? []) {
      enter(capability, () => undefined);
    }
    this.#link = new Link({
      settings: intoJson(options.settings),
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      rejection: options.rejecting,
      updateRefusal: options.refusingUpdates,
      peers,
    });
    const environment = new Environment({
      busUrl: "memory",
      name: options.name ?? "test",
      token: TOKEN,
      ...(options.dataDir !== undefined && { dataDir: options.dataDir }),
    });
    const dialler = new MemoryDialler((wire) => this.#link.serve(wire));
    this.#plugin = plugin
      .serveOver(dialler, environment, this.#stop.signal, options.bridgesConsole === true)
      .then(() => undefined)
      .catch((problem: unknown) => ({ problem }));
  }

  /** Launches a plugin and waits until it has registered; fails if it ends before that. */
  static async start(plugin: Plugin, options: TestHostOptions = {}): Promise<TestHost> {
    const host = TestHost.launch(plugin, options);
    const decided = new AbortController();
    const isRegistered = (): true | undefined => (host.seen.registrations.length > 0 ? true : undefined);
    const registered = host.#link.wait("the plugin registers", isRegistered, decided.signal);
    try {
      const end = await Promise.race([registered.then(() => undefined), host.#plugin.then((end) => ({ end }))]);
      if (end !== undefined) {
        throw end.end === undefined ? new Error("the plugin ended before it registered") : end.end.problem;
      }
    } finally {
      decided.abort();
    }
    return host;
  }

  /** Launches a plugin and waits for nothing. */
  static launch(plugin: Plugin, options: TestHostOptions = {}): TestHost {
    return new TestHost(plugin, options);
  }

  /**
   * Asks for one answer.
   *
   * @throws WireError with what the plugin answered instead.
   */
  async request(capability: string, payload: IntoJson): Promise<Json> {
    return this.startRequest(capability, payload).outcome();
  }

  /** Asks for one answer and does not wait for it yet. */
  startRequest(capability: string, payload: IntoJson): TestRequest {
    return this.send({ capability, payload });
  }

  /** Asks for an answer in chunks, and grants credit as they are taken. */
  stream(capability: string, payload: IntoJson): TestRequest {
    return this.#send({ capability, payload, stream: true }, true);
  }

  /** Asks for an answer in chunks with so much credit; further credit is the test's affair. */
  streamWithCredit(capability: string, payload: IntoJson, credit: number): TestRequest {
    return this.send({ capability, payload, stream: true, credit });
  }

  /** Sends a request with every member as the test wants it. */
  send(fields: RequestFields): TestRequest {
    return this.#send(fields, false);
  }

  #send({ payload, http, ...fields }: RequestFields, grants: boolean): TestRequest {
    const request: Omit<Request, "requestId"> = {
      ...fields,
      capability: capabilityName(fields.capability),
      payload: intoJson(payload),
      http: http && readHttp(RawJson.of(http)),
    };
    return new TestRequest(this.#link, request, grants);
  }

  /**
   * Pushes settings and waits for the plugin's verdict.
   *
   * @throws WireError with why the plugin refuses them.
   */
  async configure(settings: IntoJson): Promise<void> {
    await this.#verdict(this.#link.pushConfig(intoJson(settings)), undefined);
  }

  /**
   * Asks what the plugin thinks of settings, as the host does before it saves them.
   *
   * @throws WireError with why the plugin would refuse them.
   */
  async dryRun(settings: IntoJson): Promise<void> {
    await this.#verdict(this.#link.tryConfig(intoJson(settings)), true);
  }

  async #verdict(revision: number, dryRun: true | undefined): Promise<void> {
    const verdict = await this.#link.wait("the plugin answers the settings", () =>
      this.#link.applied.find((applied) => applied.revision === revision && applied.dryRun === dryRun),
    );
    if (!verdict.success) {
      throw verdict.error ?? new Error("the plugin refuses the settings and gives no reason");
    }
  }

  /** Sends an event of a topic. */
  event(topic: string, data: IntoJson): void {
    this.#link.event({ topic, data: intoJson(data) });
  }

  /** Asks the plugin to finish what it has, within so many milliseconds. */
  drain(withinMs: number): void {
    this.#link.drain(withinMs);
  }

  /** Gives the plugin the signal to stop, as SIGTERM would. */
  signal(): void {
    this.#stop.abort();
  }

  /** Breaks the link without a word. */
  breakLink(): void {
    this.#link.breakOff();
  }

  /**
   * Waits for the plugin's end.
   *
   * @throws RunError why it could not go on.
   */
  async ended(): Promise<void> {
    const end = await within("the plugin ends", this.#plugin);
    if (end !== undefined) {
      throw end.problem;
    }
  }

  /** Ends the plugin as far as it has not ended: the signal, a broken link, and its end. */
  async close(): Promise<void> {
    this.signal();
    this.breakLink();
    await within("the plugin ends", this.#plugin);
  }

  /** As {@link TestHost.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What the plugin has said so far. It goes on while the plugin speaks. */
  get seen(): Readonly<Seen> {
    return this.#link.seen;
  }

  /** Waits until what the plugin has said fulfils a condition; `what` says in the error which. */
  async until(what: string, condition: (seen: Readonly<Seen>) => boolean): Promise<void> {
    await this.#link.wait(what, () => (condition(this.#link.seen) ? true : undefined));
  }

  /** How many requests the plugin has yet to answer. */
  get inFlight(): number {
    return this.#link.inFlight;
  }
}

/** A request that a test has sent. */
export class TestRequest {
  /** Its id. */
  readonly id: string;
  readonly #link: Link;
  readonly #grants: boolean;
  /** Bounded by the credit that the host half enforces. */
  readonly #chunks: RawJson[] = [];
  #outcome: Outcome | undefined;
  #wake: (() => void)[] = [];

  /** Made by the SDK alone. */
  constructor(link: Link, request: Omit<Request, "requestId">, grants: boolean) {
    this.#link = link;
    this.#grants = grants;
    const tell = (): void => {
      const wake = this.#wake;
      this.#wake = [];
      for (const waiting of wake) {
        waiting();
      }
    };
    this.id = link.start(request, {
      chunk: (data) => {
        this.#chunks.push(data);
        tell();
      },
      finish: (outcome) => {
        this.#outcome = outcome;
        tell();
      },
    });
  }

  async #change(what: string): Promise<void> {
    await within(what, new Promise<void>((resolve) => this.#wake.push(resolve)));
  }

  /** The next chunk; `undefined` after the last one. */
  async next(): Promise<Json | undefined> {
    return (await this.nextRaw())?.read();
  }

  /** The next chunk as it came; `undefined` after the last one. */
  async nextRaw(): Promise<RawJson | undefined> {
    while (this.#chunks.length === 0 && this.#outcome === undefined) {
      await this.#change("a chunk comes");
    }
    const chunk = this.#chunks.shift();
    if (chunk !== undefined && this.#grants) {
      this.#link.grant(this.id, 1);
    }
    return chunk;
  }

  /** The chunk that is here already, if one is. */
  nextNow(): Json | undefined {
    return this.#chunks.shift()?.read();
  }

  /** All chunks that are left. */
  async collect(): Promise<Json[]> {
    const chunks: Json[] = [];
    for (let chunk = await this.nextRaw(); chunk !== undefined; chunk = await this.nextRaw()) {
      chunks.push(chunk.read());
    }
    return chunks;
  }

  /** Allows `n` more chunks. */
  grant(n: number): void {
    this.#link.grant(this.id, n);
  }

  /** Gives up on it. Its answer shows in {@link Seen.answers} only. */
  cancel(reason: CancelReason = "caller_gone"): void {
    this.#link.cancel(this.id, reason);
  }

  /**
   * The answer.
   *
   * @throws WireError with what the plugin answered instead, or `plugin_disconnected` where the session ended
   * first.
   */
  async outcome(): Promise<Json> {
    return (await this.rawOutcome()).read();
  }

  /** The answer as it came: see {@link TestRequest.outcome}. */
  async rawOutcome(): Promise<RawJson> {
    while (this.#outcome === undefined) {
      await this.#change("an answer comes");
    }
    if (!this.#outcome.ok) {
      throw this.#outcome.error;
    }
    return this.#outcome.data;
  }
}

/** What `work` resolves to; fails when it takes too long. */
function within<T>(what: string, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`waited ${String(PATIENCE_MS / 1_000)} s in vain: ${what}`));
    }, PATIENCE_MS);
    work.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (problem: unknown) => {
        clearTimeout(timer);
        reject(problem instanceof Error ? problem : new Error(messageOf(problem)));
      },
    );
  });
}
