// The plugin's half of a session with the host.
//
// The mirror of `host.ts`: feed it frames, write what {@link PluginSession.nextFrame} returns. Pure: no
// socket, clock or randomness, so that the golden conversations can be replayed against it.

import { ErrorCode, type Outcome, WireError } from "./error.js";
import { type Dropped, Exchange, type GivenUp, type Heard, type Lost, type Started } from "./exchange.js";
import { decodeHostMessage } from "./frame.js";
import type { ChunkRefused } from "./inbound.js";
import { DEFAULT_LIMITS, type GrantedLimits, PROTOCOL_VERSION } from "./limits.js";
import type {
  CancelReason,
  Config,
  Event,
  HostMessage,
  PluginMessage,
  Register,
  Registered,
  Rejected,
  Request,
} from "./message.js";
import type { RawJson } from "./raw-json.js";

/** Something that happened in a session, for the plugin to act on. */
export type PluginEvent<W> =
  | { is: "registered"; registered: Registered }
  | { is: "rejected"; rejected: Rejected }
  /** Whether an `update` holds: `error` says why not. */
  | { is: "updated"; error: WireError | undefined }
  | { is: "request"; request: Request }
  /** Nobody wants the answer any more; the `response` is still owed. */
  | { is: "cancelled"; id: string; reason: CancelReason }
  /** A stream that was out of credit can go on. */
  | { is: "mayStream"; id: string }
  | { is: "event"; event: Event }
  | { is: "config"; config: Config }
  | { is: "drain"; deadlineMs: number }
  | Heard<W>;

/** The plugin's half of a session. */
export class PluginSession<W> {
  #phase: "registering" | "open" | "draining" | "closed" = "registering";
  #granted: GrantedLimits = {
    maxFrameBytes: DEFAULT_LIMITS.frameFromPlugin,
    maxChunkBytes: DEFAULT_LIMITS.chunk,
    streamCredit: DEFAULT_LIMITS.streamCredit,
  };
  readonly #exchange: Exchange<W>;

  /** A session that says `register` first; `seed` is 64 random bits that make its request ids unique. */
  constructor(seed: bigint, register: Register) {
    this.#exchange = new Exchange(seed);
    // Urgent, so that no early beat overtakes it: it must be the first frame.
    this.#exchange.sayUrgently({ ...register, type: "register", protocol: PROTOCOL_VERSION });
  }

  /** Takes in the text of one frame. */
  receive(frame: string): PluginEvent<W> {
    if (this.#phase === "closed") {
      return { is: "dropped", why: "outOfPlace" };
    }
    const decoded = decodeHostMessage(frame);
    switch (decoded.is) {
      case "message":
        return this.#phase === "registering" ? this.#hearVerdict(decoded.message) : this.#hear(decoded.message);
      case "unknown":
        return { is: "dropped", why: "unknownType" };
      case "unreadable":
        return this.#phase === "registering"
          ? { is: "dropped", why: "unreadable" }
          : this.#exchange.hearUnreadable(decoded, true);
    }
  }

  #hearVerdict(message: HostMessage): PluginEvent<W> {
    switch (message.type) {
      case "registered":
        this.#phase = "open";
        this.#granted = message.limits;
        return { is: "registered", registered: message };
      case "rejected":
        this.#phase = "closed";
        return { is: "rejected", rejected: message };
      default:
        return { is: "dropped", why: "outOfPlace" };
    }
  }

  #hear(message: HostMessage): PluginEvent<W> {
    const unless = (why: Dropped | undefined, event: PluginEvent<W>): PluginEvent<W> =>
      why === undefined ? event : { is: "dropped", why };
    switch (message.type) {
      case "registered":
      case "rejected":
        return { is: "dropped", why: "outOfPlace" };
      case "updated": {
        const refusal = message.error ?? new WireError(ErrorCode.InvalidRequest, "the host refused the update");
        return { is: "updated", error: message.success ? undefined : refusal };
      }
      case "request": {
        const why = this.#exchange.hearRequest(message, Infinity, this.#granted.streamCredit);
        return unless(why, { is: "request", request: message });
      }
      case "cancel": {
        const { requestId: id, reason } = message;
        return unless(this.#exchange.hearCancel(id), { is: "cancelled", id, reason });
      }
      case "credit": {
        const { requestId: id, n } = message;
        return unless(this.#exchange.hearCredit(id, n), { is: "mayStream", id });
      }
      case "response":
        return this.#exchange.hearResponse(message);
      case "chunk":
        return this.#exchange.hearChunk(message, this.#granted.maxFrameBytes, true);
      case "event":
        return { is: "event", event: message };
      case "config":
        return { is: "config", config: message };
      case "drain":
        this.#phase = "draining";
        return { is: "drain", deadlineMs: message.deadlineMs };
    }
  }

  /**
   * Answers a request of the host; answers whether it was open. An answer that is larger than the host takes
   * becomes a `payload_too_large` error.
   */
  answer(id: string, outcome: Outcome): boolean {
    return this.#exchange.answer(id, outcome, this.#granted.maxFrameBytes);
  }

  /** Sends a part of a streamed answer, or says why it must not be sent now, or ever. */
  sendChunk(id: string, data: RawJson): ChunkRefused | undefined {
    return this.#exchange.sendChunk(id, data, this.#granted.maxChunkBytes);
  }

  /** Asks the host to have a capability answered. The request's id is assigned here. */
  start(request: Omit<Request, "requestId">, waiter: W): Started {
    if (!this.isOpen) {
      return { started: false, refusal: { why: "notOpen" } };
    }
    const credit = request.stream === true ? (request.credit ?? this.#granted.streamCredit) : request.credit;
    return this.#exchange.start({ ...request, requestId: "", credit }, waiter, this.#granted.maxFrameBytes);
  }

  /** Gives up on a request of the plugin's own. */
  cancel(id: string, reason: CancelReason): GivenUp<W> {
    return this.#exchange.giveUp(id, reason, true);
  }

  /** Allows `n` more chunks of a stream that the plugin asked for. */
  credit(id: string, n: number): void {
    this.#exchange.grant(id, n);
  }

  /**
   * Says anything that is neither question nor answer: health, telemetry, logs, updates, topics. Health
   * overtakes data; the rest keeps its order.
   */
  say(message: PluginMessage): void {
    if (message.type === "health") {
      this.#exchange.sayUrgently(message);
    } else {
      this.#exchange.say(message);
    }
  }

  /** The next frame to write. */
  nextFrame(): string | undefined {
    return this.#exchange.nextFrame();
  }

  /** How many bytes wait to be written. */
  get waitingBytes(): number {
    return this.#exchange.waitingBytes;
  }

  /** Whether the registration holds and requests may be made. */
  get isOpen(): boolean {
    return this.#phase === "open" || this.#phase === "draining";
  }

  /** Whether the host asked for an end, and nothing is left to answer or to write. */
  get isDrained(): boolean {
    return this.#phase === "draining" && this.owed === 0 && this.waitingBytes === 0;
  }

  /** How many answers the plugin owes. */
  get owed(): number {
    return this.#exchange.owed;
  }

  /** How many answers the host owes. */
  get asked(): number {
    return this.#exchange.asked;
  }

  /** What the host accepts. */
  get granted(): GrantedLimits {
    return this.#granted;
  }

  /** The socket is gone: every waiter comes out, and the ids of requests whose answers nobody will read. */
  end(): { lost: Lost<W>[]; abandoned: string[] } {
    this.#phase = "closed";
    return this.#exchange.end();
  }
}
