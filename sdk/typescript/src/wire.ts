// Text frames over one WebSocket: reads them, and says when it takes more.
//
// Knows nothing of the protocol. Reading never waits for writing, so two peers with full sockets cannot
// lock each other. Used by the connection; tests put a link in memory in its place. The invariant: after
// `gone` nothing is told any more.

import { type ClientOptions, WebSocket } from "ws";

/**
 * The largest frame that is read, in bytes. The host bounds what it sends far below; this guards against a
 * broken length.
 */
const MAX_READ = 64 << 20;
/** How many bytes are handed to the socket before it has to take them. */
const WRITE_BUFFER = 32 << 10;
/** How long the peer may take to end the connection after its close, in milliseconds. */
const CLOSE_WITHIN_MS = 1_000;

/** How a socket ended: the peer closed it, or it broke. */
export type Gone = { how: "closed"; code: number; reason: string } | { how: "broken"; reason: string };

/** Who is told what a wire brings. */
export interface Listener {
  /** A text frame came. */
  frame(text: string): void;
  /** What was handed over has left: there is room, or all has gone. */
  taken(): void;
  /** The socket is gone. */
  gone(gone: Gone): void;
}

/** Text frames in both directions. */
export interface Wire {
  /** Tells what comes, and what has come already. */
  listen(listener: Listener): void;
  /** Hands a frame over; ask {@link Wire.hasRoom} first. */
  write(text: string): void;
  /** Whether a further frame may be handed over. */
  readonly hasRoom: boolean;
  /** Whether everything that was handed over has left. */
  readonly isFlushed: boolean;
  /** Closes in order; `gone` follows when the peer has closed too. */
  close(code: number, reason: string): void;
  /** Ends the connection without a word. */
  destroy(): void;
}

/** A wire over TCP. */
export class SocketWire implements Wire {
  readonly #socket: WebSocket;
  #listener: Listener | undefined;
  #early: ((listener: Listener) => void)[] = [];
  #unsent = 0;
  #problem = "the connection ended";
  #isGone = false;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      // The protocol has text frames only, and what it does not know it ignores.
      if (!isBinary) {
        const text = data.toString("utf8");
        this.#tell((listener) => listener.frame(text));
      }
    });
    socket.on("error", (problem) => {
      this.#problem = problem.message;
    });
    socket.on("close", (code, reason) => {
      // 1006 never travels: it says that no close came.
      const gone: Gone =
        code === 1006
          ? { how: "broken", reason: this.#problem }
          : { how: "closed", code, reason: reason.toString("utf8") };
      this.#tell((listener) => listener.gone(gone));
      this.#isGone = true;
    });
  }

  /** Opens a wire to a `ws://` URL; an error is one sentence. */
  static dial(url: string, withinMs: number, stop: AbortSignal): Promise<SocketWire> {
    return new Promise((resolve, reject) => {
      // The types of the library do not know `closeTimeout` yet.
      const options: ClientOptions & { closeTimeout: number } = {
        perMessageDeflate: false,
        maxPayload: MAX_READ,
        handshakeTimeout: withinMs,
        followRedirects: false,
        closeTimeout: CLOSE_WITHIN_MS,
      };
      const socket = new WebSocket(url, options);
      const wire = new SocketWire(socket);
      const give = (): void => {
        socket.terminate();
      };
      stop.addEventListener("abort", give, { once: true });
      socket.once("open", () => {
        stop.removeEventListener("abort", give);
        resolve(wire);
      });
      socket.once("close", () => {
        stop.removeEventListener("abort", give);
        reject(new Error(wire.#problem));
      });
    });
  }

  #tell(what: (listener: Listener) => void): void {
    if (this.#isGone) {
      return;
    }
    if (this.#listener === undefined) {
      this.#early.push(what);
    } else {
      what(this.#listener);
    }
  }

  listen(listener: Listener): void {
    this.#listener = listener;
    const early = this.#early;
    this.#early = [];
    for (const what of early) {
      what(listener);
    }
  }

  write(text: string): void {
    const bytes = Buffer.byteLength(text);
    this.#unsent += bytes;
    this.#socket.send(text, () => {
      // A failure is followed by `close`.
      this.#unsent -= bytes;
      this.#tell((listener) => listener.taken());
    });
  }

  get hasRoom(): boolean {
    return this.#unsent < WRITE_BUFFER && this.#socket.readyState === WebSocket.OPEN;
  }

  get isFlushed(): boolean {
    return this.#unsent === 0;
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  destroy(): void {
    this.#socket.terminate();
  }
}
