// Asking for a capability, through the host, of whichever plugin has it.
//
// Every call has a deadline, and one that nobody waits for any more is cancelled: nobody works for someone
// who has left.

import { CallError, messageOf } from "./error.js";
import { type IntoJson, intoJson } from "./json.js";
import { longest } from "./time.js";
import type { Outcome } from "./protocol/error.js";
import type { CancelReason } from "./protocol/message.js";
import { capabilityName } from "./protocol/name.js";
import type { Json, RawJson } from "./protocol/raw-json.js";
import type { Session, Ticket, Waiter } from "./session.js";

/** How long a call may take that does not say, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 60_000;

/** How to ask. */
export interface CallOptions {
  /**
   * How long it may take, in milliseconds: to the answer, or to the next chunk of a stream. 60 s unless said.
   * The host allows no more than is left of the request that is being answered.
   */
  timeoutMs?: number;
  /** Gives the call up when it is aborted. */
  signal?: AbortSignal;
}

/** Who asks: the session, and the request that it is asked for. */
export interface Asker {
  session: Session | undefined;
  parent?: { id: string; traceparent: string | undefined; ticket: Ticket };
}

/** Asks for one answer. */
export async function ask(asker: Asker, capability: string, payload: IntoJson, options: CallOptions): Promise<RawJson> {
  const asked = await Asked.start(asker, capability, intoJson(payload), options, false);
  return asked.outcome();
}

/** Asks for an answer in chunks. */
export function askForStream<T>(
  asker: Asker,
  capability: string,
  payload: IntoJson,
  options: CallOptions,
  read: (raw: RawJson) => T,
): CallStream<T> {
  return new CallStream(Asked.start(asker, capability, intoJson(payload), options, true), read);
}

/** Reads what came. */
export function readJson(raw: RawJson): Json {
  return raw.read();
}

/** A request that is out. */
class Asked implements Waiter {
  readonly #session: Session;
  readonly #capability: string;
  readonly #timeoutMs: number;
  /** How many chunks are worth a `credit` message. */
  readonly #batch: number;
  #id = "";
  /** Chunks that were not taken yet: no more than there was credit for. */
  #chunks: RawJson[] = [];
  /** How many chunks were taken that the sender has no new credit for yet. */
  #taken = 0;
  #end: { data: RawJson } | { problem: unknown } | undefined;
  #wakers = new Set<() => void>();
  #noLonger: (() => void)[] = [];

  private constructor(session: Session, capability: string, timeoutMs: number) {
    this.#session = session;
    this.#capability = capability;
    this.#timeoutMs = timeoutMs;
    this.#batch = Math.max(1, Math.floor(session.streamCredit / 2));
  }

  static async start(
    { session, parent }: Asker,
    capability: string,
    payload: RawJson,
    options: CallOptions,
    stream: boolean,
  ): Promise<Asked> {
    try {
      capabilityName(capability);
    } catch (problem) {
      throw new CallError("name", messageOf(problem));
    }
    if (session === undefined) {
      throw notConnected();
    }
    // Less than a millisecond must not read as none at all.
    const timeoutMs = Math.max(1, Math.round(options.timeoutMs ?? DEFAULT_TIMEOUT_MS));
    const asked = new Asked(session, capability, timeoutMs);
    if (parent !== undefined) {
      asked.#noLonger.push(
        parent.ticket.whenOver(() => asked.#leave(parent.ticket.isCancelled ? parent.ticket.signal.reason : undefined)),
      );
    }
    if (options.signal !== undefined) {
      const { signal } = options;
      const leave = (): void => asked.#leave(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
      asked.#noLonger.push(() => signal.removeEventListener("abort", leave));
      if (signal.aborted) {
        leave();
      }
    }
    while (!session.hasRoom && asked.#end === undefined) {
      void session.room().then(() => asked.#tell());
      await asked.#change();
    }
    // Given up before it was asked: nobody is told.
    if (asked.#end === undefined) {
      const { id: parentRequestId, traceparent } = parent ?? {};
      const request = { capability, payload, stream, timeoutMs, parentRequestId, traceparent };
      const started = session.start({ ...request, ...(stream && { credit: session.streamCredit }) }, asked);
      if (!started.started) {
        asked.#settle({ problem: refused(started.refusal) });
      } else {
        asked.#id = started.id;
      }
    }
    return asked;
  }

  chunk(data: RawJson): void {
    this.#chunks.push(data);
    this.#tell();
  }

  finish(outcome: Outcome): void {
    this.#settle(outcome.ok ? { data: outcome.data } : { problem: outcome.error });
  }

  lost(): void {
    this.#settle({ problem: new CallError("disconnected", "the session with the host ended before the answer came") });
  }

  #leave(reason: unknown): void {
    this.giveUp("caller_gone", reason ?? new CallError("disconnected", "the request that it was asked for is over"));
  }

  /** Gives up, unless it is over. */
  giveUp(why: CancelReason, problem: unknown): void {
    if (this.#end === undefined) {
      this.#settle({ problem });
      if (this.#id !== "") {
        this.#session.giveUp(this.#id, why);
      }
    }
  }

  #settle(end: { data: RawJson } | { problem: unknown }): void {
    if (this.#end !== undefined) {
      return;
    }
    this.#end = end;
    for (const stop of this.#noLonger) {
      stop();
    }
    this.#noLonger = [];
    this.#tell();
  }

  #tell(): void {
    const wakers = [...this.#wakers];
    this.#wakers.clear();
    for (const wake of wakers) {
      wake();
    }
  }

  /** Resolves when something has changed; gives up when nothing does in time. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        const message = `\`${this.#capability}\` did not answer within ${String(this.#timeoutMs)} ms`;
        this.giveUp("deadline", new CallError("timedOut", message));
      }, longest(this.#timeoutMs));
      this.#wakers.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** The next chunk; `undefined` after the last one of a complete stream. */
  async next(): Promise<RawJson | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#taken += 1;
        if (this.#taken === this.#batch) {
          this.#session.grant(this.#id, this.#taken);
          this.#taken = 0;
        }
        return chunk;
      }
      if (this.#end !== undefined) {
        await this.outcome();
        return undefined;
      }
      await this.#change();
    }
  }

  /** The final answer. */
  async outcome(): Promise<RawJson> {
    while (this.#end === undefined) {
      await this.#change();
    }
    if ("problem" in this.#end) {
      throw this.#end.problem;
    }
    return this.#end.data;
  }
}

function notConnected(): CallError {
  return new CallError("notConnected", "there is no session with the host now: try again when it is back");
}

function refused(refusal: { why: "notOpen" } | { why: "tooLarge"; size: number; limit: number }): CallError {
  if (refusal.why === "notOpen") {
    return notConnected();
  }
  const { size, limit } = refusal;
  const message = `the payload is too large: the request has ${String(size)} bytes, and the host takes at most ${String(limit)}`;
  return new CallError("tooLarge", message);
}

/**
 * An answer in chunks. Whoever leaves the loop before its end gives the call up.
 *
 * ```ts
 * import type { CallStream, Json } from "bkg-sdk";
 *
 * async function readAll(stream: CallStream<Json>): Promise<Json> {
 *   for await (const chunk of stream) {
 *     console.info(chunk);
 *   }
 *   return stream.outcome();
 * }
 * ```
 */
export class CallStream<T> implements AsyncIterableIterator<T> {
  readonly #asked: Promise<Asked>;
  readonly #read: (raw: RawJson) => T;

  /** Made by the SDK alone. */
  constructor(asked: Promise<Asked>, read: (raw: RawJson) => T) {
    this.#asked = asked;
    this.#read = read;
    // It comes out of the first `next`.
    asked.catch(() => undefined);
  }

  /**
   * The next chunk.
   *
   * @throws CallError or WireError where the stream is not complete, after the chunks that came.
   */
  async next(): Promise<IteratorResult<T, undefined>> {
    const asked = await this.#asked;
    const chunk = await asked.next();
    return chunk === undefined ? { done: true, value: undefined } : { done: false, value: this.#read(chunk) };
  }

  /** Gives the call up, if it is not over. */
  async return(): Promise<IteratorResult<T, undefined>> {
    const asked = await this.#asked.catch(() => undefined);
    asked?.giveUp("caller_gone", new CallError("disconnected", "the stream was left before its end"));
    return { done: true, value: undefined };
  }

  /** The stream itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * The final answer, after the last chunk. Take all chunks first: the sender waits for credit.
   *
   * @throws CallError or WireError where the stream is not complete.
   */
  async outcome(): Promise<T> {
    const asked = await this.#asked;
    return this.#read(await asked.outcome());
  }
}
