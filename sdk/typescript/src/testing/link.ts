// The host's end of the link to the plugin under test.
//
// Drives the protocol's host half as the daemon's connection does, and writes down what the plugin says. It
// knows one plugin, and one link at a time.

import { randomBytes, randomUUID } from "node:crypto";

import { answerOf, messageOf } from "../error.js";
import { type IntoJson, intoJson } from "../json.js";
import { ErrorCode, type Outcome, WireError } from "../protocol/error.js";
import { decodePluginMessage } from "../protocol/frame.js";
import { type HostEvent, HostSession, type Said } from "../protocol/host.js";
import type { Limits } from "../protocol/limits.js";
import {
  type AuthChanged,
  type CancelReason,
  type ConfigApplied,
  type Event,
  type HealthReport,
  type LogLine,
  type Publish,
  type Register,
  type Request,
  Secret,
  type Telemetry,
  updated,
} from "../protocol/message.js";
import { type RawJson } from "../protocol/raw-json.js";
import type { MemoryWire } from "./pipe.js";

/** How long anything here waits, in milliseconds. */
export const PATIENCE_MS = 10_000;
/** The launch token of a plugin under test. */
export const TOKEN = "test-launch-token";

/** A request of the plugin under test, as a peer of its answers it. */
export type AskedRequest = Request;

/** What becomes of a capability that the plugin under test asks for: chunks and an outcome, or nothing for ever. */
export type Peer = (request: AskedRequest) => { chunks: IntoJson[]; data: IntoJson } | undefined;

/** What a plugin has said so far. */
export interface Seen {
  /** Its registrations: one, and one more for each time it came back. */
  registrations: Register[];
  /** Its log lines. */
  logs: LogLine[];
  /** Its beats. */
  health: HealthReport[];
  /** Its figures. */
  telemetry: Telemetry[];
  /** The events that it published. */
  published: Publish[];
  /** The topics that it wants now. */
  topics: string[];
  /** What it said about credentials that changed. */
  authChanges: AuthChanged[];
  /** How many {@link Seen.answers} had come when each of {@link Seen.authChanges} did. */
  answersBeforeAuthChanges: number[];
  /** Its answers, also those that nobody waited for. */
  answers: { requestId: string; outcome: Outcome }[];
  /** What it asked for. */
  asked: AskedRequest[];
  /** The ids of what it gave up of what it had asked for. */
  gaveUp: string[];
  /** How many frames broke a rule or came too late. */
  dropped: number;
  /** The close codes of its sessions, where it closed them in order. */
  closed: number[];
}

/** Who waits in the test. */
export interface Waiter {
  chunk(data: RawJson): void;
  finish(outcome: Outcome): void;
}

/** What a host is to be like. */
export interface LinkOptions {
  settings: RawJson;
  limits: Limits;
  rejection: { code: ErrorCode; message: string } | undefined;
  updateRefusal: WireError | undefined;
  peers: ReadonlyMap<string, Peer>;
}

/** The host's end. */
export class Link {
  readonly seen: Seen = {
    registrations: [],
    logs: [],
    health: [],
    telemetry: [],
    published: [],
    topics: [],
    authChanges: [],
    answersBeforeAuthChanges: [],
    answers: [],
    asked: [],
    gaveUp: [],
    dropped: 0,
    closed: [],
  };
  readonly applied: ConfigApplied[] = [];
  readonly #options: LinkOptions;
  #half: HostSession<Waiter>;
  #wire: MemoryWire | undefined;
  #settings: RawJson;
  #revision = 1;
  #resume: Secret | undefined;
  /** Answers to the plugin's own requests that are waiting for credit. */
  readonly #backlogs = new Map<string, { chunks: RawJson[]; outcome: Outcome }>();
  #watchers = new Set<() => void>();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#settings = options.settings;
    this.#half = this.#newHalf();
  }

  #newHalf(): HostSession<Waiter> {
    return new HostSession(randomBytes(8).readBigUInt64BE(), this.#options.limits);
  }

  /** Serves a new link; the one before it is over. */
  serve(wire: MemoryWire): void {
    this.#half = this.#newHalf();
    this.#wire = wire;
    wire.listen({
      frame: (text) => {
        this.#hear(text);
        this.#changed();
      },
      taken: () => this.#pump(),
      gone: (gone) => {
        if (gone.how === "closed") {
          this.seen.closed.push(gone.code);
        }
        this.#wire = undefined;
        this.#backlogs.clear();
        this.seen.topics = [];
        const error = new WireError(ErrorCode.PluginDisconnected, "the session ended before the answer");
        for (const { waiter } of this.#half.end().lost) {
          waiter.finish({ ok: false, error });
        }
        this.#changed();
      },
    });
  }

  #changed(): void {
    this.#pump();
    const watchers = [...this.#watchers];
    for (const look of watchers) {
      look();
    }
  }

  #pump(): void {
    const wire = this.#wire;
    while (wire?.hasRoom === true) {
      const frame = this.#half.nextFrame();
      if (frame === undefined) {
        const { closing } = this.#half;
        if (closing !== undefined) {
          wire.close(closing.code, closing.reason);
        }
        return;
      }
      wire.write(frame);
    }
  }

  #hear(text: string): void {
    const decoded = decodePluginMessage(text);
    if (decoded.is === "message" && decoded.message.type === "response") {
      const { requestId, outcome } = decoded.message;
      this.seen.answers.push({ requestId, outcome });
    }
    this.#act(this.#half.receive(text));
  }

  #act(event: HostEvent<Waiter>): void {
    switch (event.is) {
      case "register":
        this.#register(event.register);
        break;
      case "answered":
        event.waiter.finish(event.outcome);
        break;
      case "chunk":
        event.waiter.chunk(event.data);
        break;
      case "broken":
        event.waiter.finish({ ok: false, error: event.error });
        break;
      case "request":
        this.#answer(event.request);
        break;
      case "cancelled": {
        this.#backlogs.delete(event.id);
        const error = new WireError(ErrorCode.Cancelled, "the request was cancelled");
        this.#half.answer(event.id, { ok: false, error });
        this.seen.gaveUp.push(event.id);
        break;
      }
      case "mayStream":
        this.#stream(event.id);
        break;
      case "said":
        this.#note(event.message);
        break;
      case "dropped":
        this.seen.dropped += 1;
        break;
      case "released":
      case "closing":
        break;
    }
  }

  #note(message: Said): void {
    switch (message.type) {
      case "health":
        this.seen.health.push(message);
        break;
      case "telemetry":
        this.seen.telemetry.push(message);
        break;
      case "log":
        this.seen.logs.push(message);
        break;
      case "update": {
        const refusal = this.#options.updateRefusal;
        const registration = this.seen.registrations.pop();
        if (registration !== undefined) {
          this.seen.registrations.push(refusal === undefined ? updated(registration, message) : registration);
        }
        this.#half.updated(refusal);
        break;
      }
      case "subscribe":
        this.seen.topics.push(message.topic);
        break;
      case "unsubscribe":
        this.seen.topics = this.seen.topics.filter((topic) => topic !== message.topic);
        break;
      case "publish":
        this.seen.published.push(message);
        break;
      case "configApplied":
        this.applied.push(message);
        break;
      case "authChanged":
        this.seen.authChanges.push(message);
        this.seen.answersBeforeAuthChanges.push(this.seen.answers.length);
        break;
    }
  }

  /** The first registration shows the launch token, the next ones what the last one gave. */
  #register(register: Register): void {
    const { rejection } = this.#options;
    const shown = this.#resume === undefined ? register.token : register.resume;
    if (rejection !== undefined) {
      this.#half.reject(rejection.code, rejection.message);
    } else if (shown?.reveal() !== (this.#resume?.reveal() ?? TOKEN)) {
      this.#half.reject(ErrorCode.Unauthorized, "the secret is not the one that was given");
    } else {
      this.#resume = new Secret(`resume-${String(this.seen.registrations.length)}`);
      this.#half.accept({
        instance: randomUUID(),
        resume: this.#resume,
        config: this.#settings,
        configRevision: this.#revision,
      });
      this.seen.registrations.push(register);
    }
  }

  #answer(request: Request): void {
    this.seen.asked.push(request);
    const peer = this.#options.peers.get(request.capability);
    const id = request.requestId;
    if (peer === undefined) {
      const problem = `no plugin answers \`${request.capability}\``;
      const error = new WireError(ErrorCode.PluginUnavailable, problem);
      this.#half.answer(id, { ok: false, error });
      return;
    }
    try {
      const prepared = peer(request);
      if (prepared !== undefined) {
        const outcome: Outcome = { ok: true, data: intoJson(prepared.data) };
        this.#backlogs.set(id, { chunks: prepared.chunks.map(intoJson), outcome });
        this.#stream(id);
      }
    } catch (problem) {
      const error = answerOf(problem) ?? new WireError(ErrorCode.PluginError, messageOf(problem));
      this.#half.answer(id, { ok: false, error });
    }
  }

  #stream(id: string): void {
    const backlog = this.#backlogs.get(id);
    if (backlog === undefined) {
      return;
    }
    for (let chunk = backlog.chunks[0]; chunk !== undefined; chunk = backlog.chunks[0]) {
      const refused = this.#half.sendChunk(id, chunk);
      if (refused?.why === "noCredit") {
        return;
      }
      if (refused !== undefined) {
        const error = new WireError(ErrorCode.PluginError, `the chunk cannot be sent: ${refused.why}`);
        backlog.outcome = { ok: false, error };
        break;
      }
      backlog.chunks.shift();
    }
    this.#backlogs.delete(id);
    this.#half.answer(id, backlog.outcome);
  }

  /** Asks the plugin; answers the request's id. */
  start(request: Omit<Request, "requestId">, waiter: Waiter): string {
    const started = this.#half.start(request, waiter);
    if (!started.started) {
      throw new Error(`the plugin takes no such request now: ${started.refusal.why}`);
    }
    this.#changed();
    return started.id;
  }

  /** Gives up on a request. */
  cancel(id: string, reason: CancelReason): void {
    const givenUp = this.#half.cancel(id, reason);
    if (givenUp.is === "retracted") {
      const error = new WireError(ErrorCode.Cancelled, "the request was given up before it was sent");
      givenUp.waiter.finish({ ok: false, error });
    }
    this.#changed();
  }

  /** Allows further chunks. */
  grant(id: string, n: number): void {
    this.#half.credit(id, n);
    this.#changed();
  }

  /** Pushes settings; answers their revision. */
  pushConfig(settings: RawJson): number {
    this.#revision += 1;
    this.#settings = settings;
    this.#half.config({ revision: this.#revision, config: settings });
    this.#changed();
    return this.#revision;
  }

  /** Asks about settings; answers their revision. Who registers again is not given them. */
  tryConfig(settings: RawJson): number {
    this.#revision += 1;
    this.#half.config({ revision: this.#revision, config: settings, dryRun: true });
    this.#changed();
    return this.#revision;
  }

  /** Sends an event. */
  event(event: Event): void {
    this.#half.event(event);
    this.#changed();
  }

  /** Asks the plugin to finish. */
  drain(withinMs: number): void {
    this.#half.drain(withinMs);
    this.#changed();
  }

  /** Breaks the link without a word. */
  breakOff(): void {
    this.#wire?.destroy();
  }

  /** How many requests the plugin has yet to answer. */
  get inFlight(): number {
    return this.#half.inFlight;
  }

  /** Resolves when `look` finds something; rejects with what was seen when it does not in time. */
  wait<T>(what: string, look: () => T | undefined, noLonger?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(watch);
      };
      const watch = (): void => {
        try {
          const found = look();
          if (found !== undefined) {
            done();
            resolve(found);
          }
        } catch (problem) {
          done();
          reject(problem instanceof Error ? problem : new Error(messageOf(problem)));
        }
      };
      const timer = setTimeout(() => {
        done();
        reject(
          new Error(
            `waited ${String(PATIENCE_MS / 1_000)} s in vain: ${what}; seen: ${JSON.stringify(this.seen, undefined, 2)}`,
          ),
        );
      }, PATIENCE_MS);
      noLonger?.addEventListener(
        "abort",
        () => {
          done();
          reject(new Error(`nobody waits any more: ${what}`));
        },
        { once: true },
      );
      this.#watchers.add(watch);
      watch();
    });
  }
}
