// One session with the host, from `register` to the end of its socket.
//
// Reads, hands requests to their handlers, beats, and ends in order when it is told to. It does not dial
// and does not decide whether to dial again: `reconnect.ts` does. The invariant: after a `drain` or a stop
// signal the socket closes with 1000 as soon as nothing is owed, and at the deadline the work that is left
// is cancelled and answered so.

import type { Running } from "./plugin.js";
import type { Registered, Secret } from "./protocol/message.js";
import type { Incoming, Session } from "./session.js";
import { longest } from "./time.js";
import type { Gone, Wire } from "./wire.js";

/** How long `registered` may take, in milliseconds. */
const REGISTERED_WITHIN_MS = 15_000;
/** How long work may go on after a stop signal that no `drain` announced, in milliseconds. */
const STOP_GRACE_MS = 5_000;
/** How long work that was cancelled at the end may take to notice, in milliseconds. */
const LAST_CALL_MS = 500;
/** How long the host may take to answer our close, in milliseconds. */
const CLOSE_WITHIN_MS = 1_000;
/** The close code of a refusal: RFC 6455, section 7.4.1. */
const POLICY = 1008;

/** How a session ended. */
export type Ended =
  /** As it should: everything is answered. */
  | { how: "finished" }
  /** The host will not have this plugin. */
  | { how: "rejected"; code: string; message: string }
  /** The socket went. */
  | { how: "lost"; reason: string };

/** How far the session is, and until when it may be there, on the clock of `performance.now`. */
type Phase =
  /** The host has yet to answer `register`. */
  | { is: "registering"; until: number }
  | { is: "serving" }
  /** What is in hand may be finished. */
  | { is: "finishing"; until: number }
  /** The work was cancelled; what does not notice in time is left. */
  | { is: "lastCall"; until: number };

/** Carries one session; `keep` is given the secret for the next one. */
export async function converse(
  wire: Wire,
  session: Session,
  running: Running,
  stop: AbortSignal,
  keep: (resume: Secret) => void,
): Promise<Ended> {
  const conversation = new Conversation(wire, session, running, stop, keep);
  const ended = await conversation.ended;
  running.host.detach();
  session.end();
  if (ended.how === "finished") {
    await conversation.close();
  }
  // Whether the host has answered the close or not: what was owed has been sent.
  wire.destroy();
  return ended;
}

class Conversation {
  readonly ended: Promise<Ended>;
  readonly #wire: Wire;
  readonly #session: Session;
  readonly #running: Running;
  readonly #keep: (resume: Secret) => void;
  #settle!: (ended: Ended) => void;
  #isOver = false;
  #phase: Phase = { is: "registering", until: performance.now() + REGISTERED_WITHIN_MS };
  #deadline: NodeJS.Timeout | undefined;
  #beats: NodeJS.Timeout | undefined;
  #isPumpDue = false;
  #gone: () => void = () => undefined;
  #isGone = false;
  readonly #stop: AbortSignal;
  readonly #stopped = (): void => this.#stopSeen();

  constructor(wire: Wire, session: Session, running: Running, stop: AbortSignal, keep: (resume: Secret) => void) {
    this.#wire = wire;
    this.#session = session;
    this.#running = running;
    this.#stop = stop;
    this.#keep = keep;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#enter(this.#phase);
    session.wakes(() => this.#pumpSoon());
    stop.addEventListener("abort", this.#stopped, { once: true });
    wire.listen({
      frame: (text) => this.#take(session.receive(text)),
      taken: () => this.#pump(),
      gone: (gone) => this.#lost(gone),
    });
    this.#pump();
    if (stop.aborted) {
      this.#stopSeen();
    }
  }

  #end(ended: Ended): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    clearTimeout(this.#deadline);
    clearInterval(this.#beats);
    this.#stop.removeEventListener("abort", this.#stopped);
    this.#settle(ended);
  }

  /** Closes with 1000, and waits until the peer has closed too, for a while. */
  async close(): Promise<void> {
    if (this.#isGone) {
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_WITHIN_MS);
      this.#gone = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#wire.close(1000, "finished");
    });
  }

  /** Frames leave together with all that is said by the code that runs now. */
  #pumpSoon(): void {
    if (!this.#isPumpDue) {
      this.#isPumpDue = true;
      queueMicrotask(() => {
        this.#isPumpDue = false;
        this.#pump();
      });
    }
  }

  #pump(): void {
    if (this.#isOver) {
      return;
    }
    while (this.#wire.hasRoom) {
      const frame = this.#session.nextFrame();
      if (frame === undefined) {
        // Work went before words; now there is room for both.
        this.#running.logs.flush();
        break;
      }
      this.#wire.write(frame);
    }
    if (this.#isLast && this.#session.isIdle && this.#wire.isFlushed) {
      this.#end({ how: "finished" });
    }
  }

  get #isLast(): boolean {
    return this.#phase.is === "finishing" || this.#phase.is === "lastCall";
  }

  #lost(gone: Gone): void {
    this.#isGone = true;
    this.#gone();
    if (this.#isLast) {
      // Nothing was to come after this session.
      this.#end({ how: "finished" });
    } else if (gone.how === "broken") {
      this.#end({ how: "lost", reason: gone.reason });
    } else if (gone.code === POLICY) {
      this.#end({ how: "rejected", code: String(POLICY), message: gone.reason });
    } else {
      this.#end({ how: "lost", reason: `the host closed with ${String(gone.code)}: ${gone.reason}` });
    }
  }

  #take(incoming: Incoming): void {
    if (this.#isOver) {
      return;
    }
    switch (incoming.is) {
      case "registered":
        this.#register(incoming.registered);
        break;
      case "rejected": {
        const { code, message } = incoming.rejected;
        this.#end({ how: "rejected", code, message });
        break;
      }
      case "request":
        this.#running.dispatch(incoming.request, incoming.ticket, this.#session);
        break;
      case "event":
        this.#running.host.deliver(incoming.event);
        break;
      case "config":
        this.#running.takeConfig(incoming.config, this.#session);
        break;
      case "drain":
        this.#drain(incoming.deadlineMs);
        break;
      case "dropped":
        this.#running.logs.note("debug", "frame without effect", { reason: incoming.why });
        break;
      case "settled":
        break;
    }
  }

  #register(registered: Registered): void {
    this.#running.logs.note("info", "registered with the host", { instance: registered.instance });
    this.#keep(registered.resume);
    this.#enter({ is: "serving" });
    const { host } = this.#running;
    host.attach(this.#session);
    this.#running.registered(registered.configRevision, registered.config);
    // The first beat is due at once.
    host.beat();
    this.#beats = setInterval(() => host.beat(), longest(Math.max(1, registered.heartbeatMs)));
  }

  #drain(withinMs: number): void {
    this.#running.host.stop();
    // A deadline that holds already is not put off.
    const until = performance.now() + withinMs;
    if (this.#phase.is === "finishing") {
      this.#enter({ is: "finishing", until: Math.min(until, this.#phase.until) });
    } else if (this.#phase.is !== "lastCall") {
      this.#enter({ is: "finishing", until });
    }
    this.#pumpSoon();
  }

  /**
   * The signal to stop has come: alone it leaves some time, after a `drain` it says that the time is over.
   */
  #stopSeen(): void {
    switch (this.#phase.is) {
      case "registering":
        this.#end({ how: "finished" });
        break;
      case "serving":
        this.#running.host.stop();
        this.#running.host.sayStopping();
        this.#enter({ is: "finishing", until: performance.now() + STOP_GRACE_MS });
        this.#pumpSoon();
        break;
      case "finishing":
        this.#callLast();
        break;
      case "lastCall":
        break;
    }
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    clearTimeout(this.#deadline);
    if (phase.is !== "serving") {
      const left = Math.max(0, phase.until - performance.now());
      this.#deadline = setTimeout(() => this.#timeIsUp(), longest(left));
    }
  }

  #timeIsUp(): void {
    switch (this.#phase.is) {
      case "registering": {
        const seconds = String(REGISTERED_WITHIN_MS / 1_000);
        this.#end({ how: "lost", reason: `the host did not answer \`register\` in ${seconds} s` });
        break;
      }
      case "serving":
        break;
      case "finishing":
        this.#callLast();
        break;
      case "lastCall":
        this.#end({ how: "finished" });
        break;
    }
  }

  #callLast(): void {
    this.#enter({ is: "lastCall", until: performance.now() + LAST_CALL_MS });
    this.#session.cancelAll();
  }
}
