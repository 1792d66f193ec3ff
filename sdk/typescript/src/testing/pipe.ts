// Links in memory: what the plugin under test dials instead of a TCP port.
//
// Each is two wires that hand frames to each other in a later turn of the event loop, with a buffer as small
// as a socket's, so that tests meet a full one.

import type { Dialler } from "../reconnect.js";
import type { Gone, Listener, Wire } from "../wire.js";

/** About what a TCP socket buffers, in bytes. */
const BUFFER = 64 << 10;

/** One end of a link. */
export class MemoryWire implements Wire {
  /** The other end; {@link MemoryWire.pair} makes no wire without one. */
  #peer!: MemoryWire;
  #listener: Listener | undefined;
  /** What was handed over and has not arrived; the other end holds it while nobody listens there. */
  #underWay: string[] = [];
  #bytes = 0;
  #gone: Gone | undefined;
  #isDelivering = false;

  /** Two ends of one link. */
  static pair(): [MemoryWire, MemoryWire] {
    const [near, far] = [new MemoryWire(), new MemoryWire()];
    near.#peer = far;
    far.#peer = near;
    return [near, far];
  }

  listen(listener: Listener): void {
    this.#listener = listener;
    this.#peer.#deliverSoon();
    this.#tellGone();
  }

  write(text: string): void {
    if (this.#gone === undefined) {
      this.#underWay.push(text);
      this.#bytes += Buffer.byteLength(text);
      this.#deliverSoon();
    }
  }

  #deliverSoon(): void {
    if (!this.#isDelivering && this.#underWay.length > 0) {
      this.#isDelivering = true;
      setImmediate(() => {
        this.#isDelivering = false;
        this.#deliver();
      });
    }
  }

  #deliver(): void {
    const peer = this.#peer;
    if (peer.#listener === undefined) {
      return;
    }
    for (let text = this.#underWay.shift(); text !== undefined; text = this.#underWay.shift()) {
      this.#bytes -= Buffer.byteLength(text);
      if (peer.#gone === undefined) {
        peer.#listener.frame(text);
      }
    }
    if (this.#gone === undefined) {
      this.#listener?.taken();
    }
  }

  get hasRoom(): boolean {
    return this.#bytes < BUFFER && this.#gone === undefined;
  }

  get isFlushed(): boolean {
    return this.#bytes === 0;
  }

  close(code: number, reason: string): void {
    this.#end({ how: "closed", code, reason });
  }

  destroy(): void {
    this.#end({ how: "broken", reason: "the connection ended" });
  }

  /** Ends both ends. As with a socket, what this end has written still arrives, and nobody reads the other's. */
  #end(gone: Gone): void {
    if (this.#gone !== undefined) {
      return;
    }
    this.#gone = { how: "broken", reason: "the connection ended" };
    const peer = this.#peer;
    setImmediate(() => {
      this.#deliver();
      peer.#ended(gone);
      this.#tellGone();
    });
  }

  #ended(gone: Gone): void {
    if (this.#gone === undefined) {
      this.#gone = gone;
      this.#underWay = [];
      this.#bytes = 0;
      this.#tellGone();
    }
  }

  #tellGone(): void {
    const listener = this.#listener;
    if (this.#gone !== undefined && listener !== undefined) {
      this.#listener = undefined;
      listener.gone(this.#gone);
    }
  }
}

/** A dialler whose links come out at `incoming`. */
export class MemoryDialler implements Dialler {
  readonly url = "memory";
  readonly #incoming: (wire: MemoryWire) => void;

  constructor(incoming: (wire: MemoryWire) => void) {
    this.#incoming = incoming;
  }

  dial(): Promise<Wire> {
    const [near, far] = MemoryWire.pair();
    this.#incoming(far);
    return Promise.resolve(near);
  }
}
