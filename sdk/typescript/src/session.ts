// One session with the host, shared by the connection that carries it and the handlers that work in it.
//
// The protocol's plugin half, and whom to wake; no socket. The invariant: a request stays bound to the
// session that it came in, so its answer cannot reach another one.

import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";

import { ErrorCode, type Outcome, WireError } from "./protocol/error.js";
import type { Dropped, Started } from "./protocol/exchange.js";
import type { ChunkRefused } from "./protocol/inbound.js";
import type {
  CancelReason,
  Config,
  Event,
  PluginMessage,
  Register,
  Registered,
  Rejected,
  Request,
  Update,
} from "./protocol/message.js";
import { PluginSession } from "./protocol/plugin.js";
import type { RawJson } from "./protocol/raw-json.js";

/**
 * How many bytes may wait for the socket before chunks and calls wait too. Answers do not: there is one per
 * request, and they free what the host holds.
 */
export const FULL = 1 << 20;
/** How many bytes may be left when those who wait go on. */
const ROOM_AGAIN = FULL / 2;
/** How many bytes may wait before log lines are kept back: work goes before words. */
const FULL_FOR_LOGS = FULL / 4;

/** What came from the host and is for the plugin to act on. */
export type Incoming =
  | { is: "registered"; registered: Registered }
  | { is: "rejected"; rejected: Rejected }
  | { is: "request"; request: Request; ticket: Ticket }
  | { is: "event"; event: Event }
  | { is: "config"; config: Config }
  | { is: "drain"; deadlineMs: number }
  /** A frame without effect, for those who look for it. */
  | { is: "dropped"; why: Dropped }
  /** The session dealt with it. */
  | { is: "settled" };

/** Who waits for the answer to a request of the plugin's own. */
export interface Waiter {
  /** A part of a streamed answer. What waits to be taken is bounded by the credit that was given. */
  chunk(data: RawJson): void;
  /** The answer. */
  finish(outcome: Outcome): void;
  /** The session ended first. */
  lost(): void;
}

/** A request that is being worked on. */
export class Ticket {
  #isCancelled = false;
  /** Made when somebody asks for it: few handlers do, and it costs more than the rest of a small request. */
  #aborts: AbortController | undefined;
  #whenCancelled: () => void = () => undefined;
  readonly #whenCredit = new Set<() => void>();
  readonly #whenOver = new Set<() => void>();
  #isOver = false;

  /** Whether nobody wants the answer any more. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Aborted when nobody wants the answer any more. */
  get signal(): AbortSignal {
    if (this.#aborts === undefined) {
      this.#aborts = new AbortController();
      // A handler may have many things under way that listen: Node warns of a leak at eleven.
      setMaxListeners(0, this.#aborts.signal);
      this.#abortIfCancelled();
    }
    return this.#aborts.signal;
  }

  #abortIfCancelled(): void {
    if (this.#isCancelled) {
      this.#aborts?.abort(new WireError(ErrorCode.Cancelled, "the request was cancelled"));
    }
  }

  /** Who answers when nobody wants the answer any more. */
  whenCancelled(tell: () => void): void {
    this.#whenCancelled = tell;
  }

  /** Nobody wants the answer any more. */
  cancel(): void {
    this.#isCancelled = true;
    this.#whenCancelled();
    this.#abortIfCancelled();
    this.over();
    this.credit();
  }

  /** Further chunks may be sent, or none ever. */
  credit(): void {
    const waiting = [...this.#whenCredit];
    this.#whenCredit.clear();
    for (const wake of waiting) {
      wake();
    }
  }

  /** Resolves with the next credit, or the cancel. */
  creditComes(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isCancelled) {
        resolve();
      } else {
        this.#whenCredit.add(resolve);
      }
    });
  }

  /** The request was answered or given up: what was asked on its behalf is of no use. */
  over(): void {
    this.#isOver = true;
    const told = [...this.#whenOver];
    this.#whenOver.clear();
    for (const tell of told) {
      tell();
    }
  }

  /** Tells when the request is over; answers how to no longer be told. */
  whenOver(tell: () => void): () => void {
    if (this.#isOver) {
      tell();
      return () => undefined;
    }
    this.#whenOver.add(tell);
    return () => this.#whenOver.delete(tell);
  }
}

/** One session. */
export class Session {
  readonly #half: PluginSession<Waiter>;
  readonly #tickets = new Map<string, Ticket>();
  /** Who waits for an `updated`, in the order of the `update`s. */
  #updates: { resolve: () => void; reject: (error: WireError | undefined) => void }[] = [];
  #whenRoom: (() => void)[] = [];
  /** Tells the connection that there is something to write. */
  #wake: () => void = () => undefined;

  constructor(register: Register) {
    this.#half = new PluginSession(randomBytes(8).readBigUInt64BE(), register);
  }

  /** From now on the connection is told when there is something to write. */
  wakes(wake: () => void): void {
    this.#wake = wake;
  }

  /** Takes in one frame. */
  receive(frame: string): Incoming {
    const event = this.#half.receive(frame);
    switch (event.is) {
      case "registered":
      case "rejected":
      case "event":
      case "config":
      case "drain":
      case "dropped":
        // An unreadable request has been answered, and an unreadable chunk cancelled.
        this.#wake();
        return event;
      case "request": {
        const ticket = new Ticket();
        this.#tickets.set(event.request.requestId, ticket);
        return { is: "request", request: event.request, ticket };
      }
      case "cancelled":
        this.#tickets.get(event.id)?.cancel();
        break;
      case "mayStream":
        this.#tickets.get(event.id)?.credit();
        break;
      case "answered":
        event.waiter.finish(event.outcome);
        break;
      case "chunk":
        event.waiter.chunk(event.data);
        break;
      case "broken":
        event.waiter.finish({ ok: false, error: event.error });
        this.#wake();
        break;
      case "updated": {
        const waiter = this.#updates.shift();
        if (event.error === undefined) {
          waiter?.resolve();
        } else {
          waiter?.reject(event.error);
        }
        break;
      }
      case "released":
        break;
    }
    return { is: "settled" };
  }

  /** Sends the one answer to a request; answers whether it was open. */
  answer(id: string, outcome: Outcome): boolean {
    const ticket = this.#tickets.get(id);
    this.#tickets.delete(id);
    const wasOpen = this.#half.answer(id, outcome);
    this.#wake();
    ticket?.over();
    return wasOpen;
  }

  /** Sends a part of a streamed answer, or says why not: `full` where the socket is behind. */
  chunk(id: string, data: RawJson): ChunkRefused | { why: "full" } | undefined {
    if (this.#half.waitingBytes > FULL) {
      return { why: "full" };
    }
    const refused = this.#half.sendChunk(id, data);
    this.#wake();
    return refused;
  }

  /** Resolves when the socket has caught up, or the session ended. */
  room(): Promise<void> {
    return new Promise((resolve) => this.#whenRoom.push(resolve));
  }

  /** Whether calls and events can be taken now; if not, {@link Session.room} says when. */
  get hasRoom(): boolean {
    return this.#half.waitingBytes <= FULL;
  }

  /** Whether log lines can be taken now. */
  get hasRoomForLogs(): boolean {
    return this.#half.waitingBytes <= FULL_FOR_LOGS;
  }

  /** Asks the host to have a capability answered. */
  start(request: Omit<Request, "requestId">, waiter: Waiter): Started {
    const started = this.#half.start(request, waiter);
    this.#wake();
    return started;
  }

  /** Gives up on a request of the plugin's own; nothing happens if it is over. */
  giveUp(id: string, reason: CancelReason): void {
    this.#half.cancel(id, reason);
    this.#wake();
  }

  /** Allows further chunks of a stream that the plugin asked for. */
  grant(id: string, n: number): void {
    this.#half.credit(id, n);
    this.#wake();
  }

  /** The credit that the plugin gives for a stream. */
  get streamCredit(): number {
    return this.#half.granted.streamCredit;
  }

  /** The largest frame that the host takes, in bytes. */
  get frameLimit(): number {
    return this.#half.granted.maxFrameBytes;
  }

  /** Says anything that is neither question nor answer. */
  say(message: PluginMessage): void {
    this.#half.say(message);
    this.#wake();
  }

  /** Says an `update`; rejects with the host's refusal, or with nothing if the session ends. */
  update(update: Update): Promise<void> {
    return new Promise((resolve, reject) => {
      // First, since it throws where the update cannot be written: no verdict comes then.
      this.say({ type: "update", ...update });
      this.#updates.push({ resolve, reject });
    });
  }

  /** The next frame to write. */
  nextFrame(): string | undefined {
    const frame = this.#half.nextFrame();
    if (this.#half.waitingBytes <= ROOM_AGAIN) {
      this.#tellOfRoom();
    }
    return frame;
  }

  #tellOfRoom(): void {
    const waiting = this.#whenRoom;
    this.#whenRoom = [];
    for (const wake of waiting) {
      wake();
    }
  }

  /** Whether nothing is left to answer or to write. */
  get isIdle(): boolean {
    return this.#half.owed === 0 && this.#half.waitingBytes === 0;
  }

  /** Cancels all work: each request is answered `cancelled`. */
  cancelAll(): void {
    for (const ticket of [...this.#tickets.values()]) {
      ticket.cancel();
    }
  }

  /** The socket is gone: work for it is cancelled, and whoever waits for an answer hears of it. */
  end(): void {
    this.#wake = () => undefined;
    const { lost } = this.#half.end();
    const updates = this.#updates;
    const tickets = [...this.#tickets.values()];
    this.#updates = [];
    this.#tickets.clear();
    for (const { waiter } of lost) {
      waiter.lost();
    }
    for (const waiter of updates) {
      waiter.reject(undefined);
    }
    for (const ticket of tickets) {
      ticket.cancel();
    }
    this.#tellOfRoom();
  }
}
