// The host's half of a session with a plugin of the extended contract, for tests.
//
// Speaks to a plugin under test as the daemon does; the daemon's own half is `bkg-protocol`, and decides
// more: the base contract, liveness, who may register. Pure: no socket, clock or randomness.

import type { Outcome, WireError } from "./error.js";
import { type ErrorCode } from "./error.js";
import { type Dropped, Exchange, type GivenUp, type Heard, type Lost, type Started } from "./exchange.js";
import { decodePluginMessage } from "./frame.js";
import type { ChunkRefused } from "./inbound.js";
import { CHUNK_ENVELOPE, type Limits, PROTOCOL_VERSION } from "./limits.js";
import type { CancelReason, Config, Event, PluginMessage, Register, Registered, Request } from "./message.js";
import type { RawJson } from "./raw-json.js";

/** Something that happened in a session, for the host to act on. */
export type HostEvent<W> =
  /** The plugin wants to register: accept or reject it before the next frame. */
  | { is: "register"; register: Register }
  /** The plugin asks: answer it, exactly once. */
  | { is: "request"; request: Request }
  /** The plugin gave up on a request of its own; the answer is still owed. */
  | { is: "cancelled"; id: string }
  /** A stream towards the plugin can go on. */
  | { is: "mayStream"; id: string }
  /** What the plugin says beside questions and answers. */
  | { is: "said"; message: Said }
  /** The session is over. */
  | { is: "closing" }
  | Heard<W>;

/** What a plugin says beside questions, answers and its registration. */
export type Said = Exclude<
  PluginMessage,
  { type: "register" | "response" | "chunk" | "request" | "cancel" | "credit" }
>;

/** The host's half of a session. */
export class HostSession<W> {
  #phase: "silent" | "deciding" | "open" | "draining" | "closed" = "silent";
  #closing: { code: number; reason: string } | undefined;
  readonly #exchange: Exchange<W>;
  readonly #limits: Limits;

  /** A session that waits for `register`; `seed` is 64 random bits that make its request ids unique. */
  constructor(seed: bigint, limits: Limits) {
    this.#exchange = new Exchange(seed);
    this.#limits = limits;
  }

  /** Takes in the text of one frame. */
  receive(frame: string): HostEvent<W> {
    if (this.#phase === "closed") {
      return { is: "dropped", why: "outOfPlace" };
    }
    const decoded = decodePluginMessage(frame);
    if (this.#phase === "silent" && !(decoded.is === "message" && decoded.message.type === "register")) {
      const why = decoded.is === "unreadable" && decoded.type === "register" ? decoded.problem : undefined;
      return this.#close(1008, why ?? "the first frame must be `register`");
    }
    switch (decoded.is) {
      case "message":
        return this.#hear(decoded.message);
      case "unknown":
        return { is: "dropped", why: "unknownType" };
      case "unreadable":
        return this.#exchange.hearUnreadable(decoded, true);
    }
  }

  #hear(message: PluginMessage): HostEvent<W> {
    const unless = (why: Dropped | undefined, event: HostEvent<W>): HostEvent<W> =>
      why === undefined ? event : { is: "dropped", why };
    switch (message.type) {
      case "register":
        if (this.#phase !== "silent") {
          return this.#close(1008, "a session registers once: open a new one instead");
        }
        this.#phase = "deciding";
        return { is: "register", register: message };
      case "response":
        return this.#exchange.hearResponse(message);
      case "chunk":
        return this.#exchange.hearChunk(message, this.#limits.chunk, true);
      case "request": {
        const { inFlightFromPlugin, streamCredit } = this.#limits;
        const why = this.#exchange.hearRequest(message, inFlightFromPlugin, streamCredit);
        return unless(why, { is: "request", request: message });
      }
      case "cancel":
        return unless(this.#exchange.hearCancel(message.requestId), { is: "cancelled", id: message.requestId });
      case "credit": {
        const { requestId: id, n } = message;
        return unless(this.#exchange.hearCredit(id, n), { is: "mayStream", id });
      }
      default:
        return { is: "said", message };
    }
  }

  /** The registration holds. */
  accept(terms: Pick<Registered, "instance" | "resume" | "config" | "configRevision">): void {
    this.#phase = "open";
    const { heartbeatMs, frameFromPlugin, chunk, streamCredit } = this.#limits;
    // Urgent, so that no credit or drain overtakes it: nothing may come before it.
    this.#exchange.sayUrgently({
      type: "registered",
      protocol: PROTOCOL_VERSION,
      instance: terms.instance,
      resume: terms.resume,
      heartbeatMs,
      limits: { maxFrameBytes: frameFromPlugin, maxChunkBytes: chunk, streamCredit },
      config: terms.config,
      configRevision: terms.configRevision,
    });
  }

  /** The registration is refused, and the session closed with 1008. */
  reject(code: ErrorCode, message: string): void {
    this.#exchange.say({ type: "rejected", code, message });
    this.#close(1008, message);
  }

  /** Answers an `update`; an error refuses it. */
  updated(error: WireError | undefined): void {
    this.#exchange.say({ type: "updated", success: error === undefined, error });
  }

  /** Asks the plugin. The request's id is assigned here. */
  start(request: Omit<Request, "requestId">, waiter: W): Started {
    if (this.#phase !== "open") {
      return { started: false, refusal: { why: "notOpen" } };
    }
    const credit = request.stream === true ? (request.credit ?? this.#limits.streamCredit) : request.credit;
    return this.#exchange.start({ ...request, requestId: "", credit }, waiter, this.#limits.frameToPlugin);
  }

  /** Gives up on a request. */
  cancel(id: string, reason: CancelReason): GivenUp<W> {
    return this.#exchange.giveUp(id, reason, true);
  }

  /** Allows `n` more chunks of a stream. */
  credit(id: string, n: number): void {
    this.#exchange.grant(id, n);
  }

  /** Answers a request of the plugin; answers whether it was open. */
  answer(id: string, outcome: Outcome): boolean {
    return this.#exchange.answer(id, outcome, this.#limits.frameToPlugin);
  }

  /** Sends the plugin a part of the answer to its request, or says why it must not be sent. */
  sendChunk(id: string, data: RawJson): ChunkRefused | undefined {
    const limit = Math.min(this.#limits.chunk, this.#limits.frameToPlugin - CHUNK_ENVELOPE);
    return this.#exchange.sendChunk(id, data, limit);
  }

  /** Sends an event of a topic that the plugin subscribed to. */
  event(event: Event): void {
    if (this.#isServing) {
      this.#exchange.say({ type: "event", ...event });
    }
  }

  /** Pushes new settings. */
  config(config: Config): void {
    if (this.#isServing) {
      this.#exchange.say({ type: "config", ...config });
    }
  }

  /** Takes the plugin out of service; the waiters of requests that had not been written come back. */
  drain(deadlineMs: number): W[] {
    if (this.#phase !== "open") {
      return [];
    }
    this.#phase = "draining";
    this.#exchange.sayUrgently({ type: "drain", deadlineMs });
    return this.#exchange.retractUnsent();
  }

  get #isServing(): boolean {
    return this.#phase === "open" || this.#phase === "draining";
  }

  #close(code: number, reason: string): HostEvent<W> {
    // A close reason may have 123 bytes: RFC 6455, section 5.5.
    this.#closing ??= {
      code,
      reason: Buffer.from(reason)
        .subarray(0, 120)
        .toString()
        .replace(/\uFFFD$/, ""),
    };
    this.#phase = "closed";
    return { is: "closing" };
  }

  /** Ends the session from the host's side. */
  shut(code: number, reason: string): void {
    this.#close(code, reason);
  }

  /** Why the session closes, if it does: write the frames that wait, then close. */
  get closing(): { code: number; reason: string } | undefined {
    return this.#closing;
  }

  /** The next frame to write. */
  nextFrame(): string | undefined {
    return this.#exchange.nextFrame();
  }

  /** How many requests the plugin has not answered yet. */
  get inFlight(): number {
    return this.#exchange.asked;
  }

  /** The socket is gone: every waiter comes out. */
  end(): { lost: Lost<W>[]; abandoned: string[] } {
    this.#phase = "closed";
    return this.#exchange.end();
  }
}
