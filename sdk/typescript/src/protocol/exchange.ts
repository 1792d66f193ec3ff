// Requests and answers in both directions, as either side keeps them.
//
// Host and plugin ask each other with the same five messages, so both halves are this exchange plus their
// own rules of registration. Pure: frames go in, frames and verdicts come out; no socket, clock or
// randomness.

import { ErrorCode, type Outcome, WireError } from "./error.js";
import { type Decoded, encode } from "./frame.js";
import { type ChunkRefused, Inbound } from "./inbound.js";
import type { CancelReason, Chunk, HostMessage, PluginMessage, Request, Response } from "./message.js";
import { type Breach, Outbound } from "./outbound.js";
import { Outbox } from "./outbox.js";
import type { RawJson } from "./raw-json.js";

/** Why a request was not sent. */
export type Refusal = { why: "notOpen" } | { why: "tooLarge"; size: number; limit: number };

/** Whether a request was accepted for sending, and under which id. */
export type Started = { started: true; id: string } | { started: false; refusal: Refusal };

/** What giving a request up did: it had not been written and never will be, or the other side was told. */
export type GivenUp<W> = { is: "retracted"; waiter: W } | { is: "told" } | { is: "over" };

/** A waiter whose session ended, and whether its request had been handed over. */
export interface Lost<W> {
  /** Who waits. */
  waiter: W;
  /** Whether the request had been written. */
  handedOver: boolean;
}

/** What an incoming answer means. */
export type Heard<W> =
  | { is: "answered"; waiter: W; outcome: Outcome }
  | { is: "chunk"; waiter: W; data: RawJson }
  | { is: "broken"; waiter: W; error: WireError }
  | { is: "released"; waiter: W }
  | { is: "dropped"; why: Dropped };

/** Why a readable frame had no effect. */
export type Dropped = "late" | "unknownRequest" | "duplicateRequest" | "unknownType" | "outOfPlace" | "unreadable";

/** Requests and answers of one session. */
export class Exchange<W> {
  readonly #outbound: Outbound<W>;
  readonly #inbound = new Inbound();
  readonly #outbox = new Outbox();

  constructor(seed: bigint) {
    this.#outbound = new Outbound(seed);
  }

  start(request: Request, waiter: W, maxFrame: number): Started {
    const id = this.#outbound.nextId;
    const text = encode({ type: "request", ...request, requestId: id });
    const size = Buffer.byteLength(text);
    if (size > maxFrame) {
      return { started: false, refusal: { why: "tooLarge", size, limit: maxFrame } };
    }
    const number = this.#outbound.open(request.stream === true ? (request.credit ?? 0) : undefined, waiter);
    this.#outbox.pushRequest(number, text);
    return { started: true, id };
  }

  giveUp(id: string, reason: CancelReason, tell: boolean): GivenUp<W> {
    const number = this.#outbound.number(id);
    if (number === undefined) {
      return { is: "over" };
    }
    if (!this.#outbound.wasWritten(number)) {
      this.#outbox.retract((request) => request === number);
      const withdrawn = this.#outbound.withdraw(number);
      return withdrawn === undefined ? { is: "over" } : { is: "retracted", waiter: withdrawn.waiter };
    }
    if (!this.#outbound.giveUp(number)) {
      return { is: "over" };
    }
    if (tell) {
      this.#pushCancel(id, reason);
    }
    return { is: "told" };
  }

  grant(id: string, n: number): void {
    const number = this.#outbound.number(id);
    if (number === undefined || !this.#outbound.grant(number, n) || n === 0) {
      return;
    }
    const text = encode({ type: "credit", requestId: id, n });
    if (this.#outbound.wasWritten(number)) {
      this.#outbox.pushUrgent(text);
    } else {
      this.#outbox.pushRequest(number, text);
    }
  }

  hearResponse(response: Response): Heard<W> {
    const settled = this.#outbound.settle(response.requestId);
    switch (settled.is) {
      case "answered":
        return { is: "answered", waiter: settled.waiter, outcome: response.outcome };
      case "released":
        return { is: "released", waiter: settled.waiter };
      case "unknown":
        return { is: "dropped", why: "unknownRequest" };
    }
  }

  hearChunk({ requestId, seq, data }: Chunk, maxChunk: number, tell: boolean): Heard<W> {
    const arrived = this.#outbound.arrive(requestId, seq, data.bytes, maxChunk);
    switch (arrived.is) {
      case "deliver":
        return { is: "chunk", waiter: arrived.waiter, data };
      case "broken":
        if (tell) {
          this.#pushCancel(requestId, arrived.breach.rule === "overrun" ? "flow_control" : "protocol");
        }
        return { is: "broken", waiter: arrived.waiter, error: breachError(arrived.breach) };
      case "late":
        return { is: "dropped", why: "late" };
      case "unknown":
        return { is: "dropped", why: "unknownRequest" };
    }
  }

  /**
   * Takes in a frame whose members cannot be read. Where it still names its request, whoever waits for that
   * request hears of it now instead of at the deadline.
   */
  hearUnreadable(frame: Extract<Decoded<never>, { is: "unreadable" }>, tell: boolean): Heard<W> {
    const unreadable: Heard<W> = { is: "dropped", why: "unreadable" };
    const { type, requestId, problem } = frame;
    if (requestId === undefined) {
      return unreadable;
    }
    switch (type) {
      case "response": {
        const error = new WireError(ErrorCode.PluginError, problem);
        const heard = this.hearResponse({ requestId, outcome: { ok: false, error } });
        return heard.is === "dropped" ? unreadable : heard;
      }
      case "chunk": {
        const arrived = this.#outbound.arriveUnreadable(requestId);
        if (arrived.is !== "broken") {
          return unreadable;
        }
        if (tell) {
          this.#pushCancel(requestId, "protocol");
        }
        return { is: "broken", waiter: arrived.waiter, error: breachError(arrived.breach) };
      }
      case "request":
        // Under an id that is still open, the answer would reach the request before it.
        if (!this.#inbound.knows(requestId)) {
          this.#pushFailure(requestId, new WireError(ErrorCode.InvalidRequest, problem));
        }
        return unreadable;
      default:
        return unreadable;
    }
  }

  #pushCancel(requestId: string, reason: CancelReason): void {
    this.#outbox.pushUrgent(encode({ type: "cancel", requestId, reason }));
  }

  #pushFailure(requestId: string, error: WireError): void {
    this.#outbox.push(encode({ type: "response", requestId, outcome: { ok: false, error } }));
  }

  hearRequest(request: Request, most: number, defaultCredit: number): Dropped | undefined {
    switch (this.#inbound.admit(request, most, defaultCredit)) {
      case "taken":
        return undefined;
      case "duplicate":
        return "duplicateRequest";
      case "full": {
        const problem = `${String(most)} requests of this session are open already: wait for answers first`;
        this.#pushFailure(request.requestId, new WireError(ErrorCode.Overloaded, problem));
        return "outOfPlace";
      }
    }
  }

  hearCancel(id: string): Dropped | undefined {
    return this.#inbound.cancel(id) ? undefined : "unknownRequest";
  }

  hearCredit(id: string, n: number): Dropped | undefined {
    // A reader that gives credit as the answer ends has done nothing wrong.
    return this.#inbound.credit(id, n) ? undefined : "late";
  }

  /**
   * Sends the one answer; answers whether the request was open. After a `cancel` nobody wants to know more
   * than that it is over.
   */
  answer(requestId: string, outcome: Outcome, maxFrame: number): boolean {
    const wasCancelled = this.#inbound.isCancelled(requestId);
    if (!this.#inbound.finish(requestId)) {
      return false;
    }
    if (wasCancelled) {
      this.#pushFailure(requestId, new WireError(ErrorCode.Cancelled, "the request was cancelled by its caller"));
      return true;
    }
    let text: string;
    try {
      text = encode({ type: "response", requestId, outcome });
    } catch (problem) {
      const message = `the answer cannot be written: ${problem instanceof Error ? problem.message : String(problem)}`;
      this.#pushFailure(requestId, new WireError(ErrorCode.PluginError, message));
      return true;
    }
    const size = Buffer.byteLength(text);
    if (size > maxFrame) {
      const problem = `the answer has ${String(size)} bytes, the limit of a frame is ${String(maxFrame)}`;
      this.#pushFailure(requestId, new WireError(ErrorCode.PayloadTooLarge, problem));
    } else {
      this.#outbox.push(text);
    }
    return true;
  }

  /** Sends a part of a streamed answer, or says why it must not be sent now, or ever. */
  sendChunk(requestId: string, data: RawJson, maxChunk: number): ChunkRefused | undefined {
    const seq = this.#inbound.chunk(requestId, data.bytes, maxChunk);
    if (typeof seq !== "number") {
      return seq;
    }
    this.#outbox.push(encode({ type: "chunk", requestId, seq, data }));
    return undefined;
  }

  say(message: PluginMessage | HostMessage): void {
    this.#outbox.push(encode(message));
  }

  sayUrgently(message: PluginMessage | HostMessage): void {
    this.#outbox.pushUrgent(encode(message));
  }

  nextFrame(): string | undefined {
    const next = this.#outbox.pop();
    if (next?.request !== undefined) {
      this.#outbound.markWritten(next.request);
    }
    return next?.text;
  }

  get waitingBytes(): number {
    return this.#outbox.bytes;
  }

  /** Takes back the requests that were not written yet. */
  retractUnsent(): W[] {
    const numbers = this.#outbox.retract((request) => !this.#outbound.wasWritten(request));
    return numbers.flatMap((number) => {
      const withdrawn = this.#outbound.withdraw(number);
      return withdrawn === undefined ? [] : [withdrawn.waiter];
    });
  }

  get asked(): number {
    return this.#outbound.size;
  }

  get owed(): number {
    return this.#inbound.size;
  }

  /** Ends the session: waiters come out, and the ids of requests whose answers nobody will read. */
  end(): { lost: Lost<W>[]; abandoned: string[] } {
    this.#outbox.clear();
    return { lost: this.#outbound.end(), abandoned: this.#inbound.end() };
  }
}

function breachError(breach: Breach): WireError {
  const message = (): string => {
    switch (breach.rule) {
      case "overrun":
        return "the stream was cut off: it sent more chunks than it had credit for";
      case "outOfOrder":
        return `the stream was cut off: chunk ${String(breach.got)} came where chunk ${String(breach.expected)} was due`;
      case "notStreaming":
        return "a chunk came for a request that did not ask for a stream";
      case "tooLarge":
        return `the stream was cut off: a chunk exceeds ${String(breach.limit)} bytes`;
      case "unreadable":
        return "the stream was cut off: a chunk could not be read";
    }
  };
  return new WireError(ErrorCode.PluginError, message());
}
