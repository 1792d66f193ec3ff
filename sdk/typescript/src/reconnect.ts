// Keeps the plugin registered: dials, and dials again when the link breaks.
//
// The first registration of a launch shows its token, later ones the secret that the last gave. A host that
// refuses is believed; a host that is away is tried with growing pauses until the patience is used up. The
// invariant: it ends with a definite reason.

import { converse, type Ended } from "./connection.js";
import { messageOf, RunError } from "./error.js";
import type { Running } from "./plugin.js";
import type { Register, Secret } from "./protocol/message.js";
import { Session } from "./session.js";
import { pause } from "./time.js";
import { SocketWire, type Wire } from "./wire.js";

/** How long one attempt to connect may take, in milliseconds. */
const DIAL_WITHIN_MS = 5_000;
/** The pause before the second attempt, in milliseconds; each further one is twice as long. */
const FIRST_PAUSE_MS = 100;
/** The longest pause between attempts, in milliseconds. */
const LONGEST_PAUSE_MS = 5_000;

/** Whoever can open a link to the host: by TCP, or in memory in tests. */
export interface Dialler {
  /** Opens a link; an error is one sentence. */
  dial(stop: AbortSignal): Promise<Wire>;
  /** Where it dials, for messages. */
  readonly url: string;
}

/** Dials the host by TCP. */
export class SocketDialler implements Dialler {
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  dial(stop: AbortSignal): Promise<Wire> {
    return SocketWire.dial(this.url, DIAL_WITHIN_MS, stop);
  }
}

/** Holds a session with the host until it is finished, refused, or out of reach for `patienceMs`. */
export async function keepRegistered(
  dialler: Dialler,
  running: Running,
  patienceMs: number,
  stop: AbortSignal,
): Promise<void> {
  let resume: Secret | undefined;
  let attempts = 0;
  let withoutSessionSince = performance.now();
  const isToStop = (): boolean => stop.aborted;
  while (!isToStop()) {
    const before = resume;
    const ended = await once(dialler, running, stop, resume, (next) => {
      resume = next;
    });
    if (resume !== before) {
      attempts = 0;
      withoutSessionSince = performance.now();
    }
    if (ended.how === "rejected") {
      const { code, message } = ended;
      throw new RunError("rejected", `the host refused the registration: ${message} (${code})`, { code });
    }
    if (ended.how === "finished" || isToStop()) {
      return;
    }
    const { reason } = ended;
    if (performance.now() - withoutSessionSince >= patienceMs) {
      const tried = `no session with the host at \`${dialler.url}\` for ${String(patienceMs / 1_000)} s, giving up: ${reason}`;
      throw new RunError("unreachable", tried);
    }
    const pauseMs = pauseAfter(attempts, 0.5 + Math.random());
    attempts += 1;
    const facts = { reason, pauseMs: Math.round(pauseMs) };
    running.logs.note("warn", "no session with the host, dialling again", facts);
    await pause(pauseMs, stop);
  }
}

/** Dials, and carries one session where somebody answers. */
async function once(
  dialler: Dialler,
  running: Running,
  stop: AbortSignal,
  resume: Secret | undefined,
  keep: (resume: Secret) => void,
): Promise<Ended> {
  let wire: Wire;
  try {
    wire = await dialler.dial(stop);
  } catch (problem) {
    return { how: "lost", reason: messageOf(problem) };
  }
  return converse(wire, new Session(registration(running, resume)), running, stop, keep);
}

function registration(running: Running, resume: Secret | undefined): Register {
  const { registration, environment } = running.host;
  return resume === undefined ? { ...registration, token: environment.token } : { ...registration, resume };
}

/**
 * The pause after so many attempts in vain, in milliseconds. The first is short, since a broken link is
 * mostly back at once; `jitter` keeps the plugins of a host from coming back all at the same moment.
 */
export function pauseAfter(attempts: number, jitter: number): number {
  const pauseMs =
    attempts === 0 ? FIRST_PAUSE_MS / 10 : Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), LONGEST_PAUSE_MS);
  return pauseMs * jitter;
}
