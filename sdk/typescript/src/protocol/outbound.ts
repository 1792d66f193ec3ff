// The requests that this side sent and that the other side still owes an answer.
//
// Pure bookkeeping: which waiter stands behind which id, how many chunks may still come, and what was
// given up. The invariant: every waiter that goes in comes out exactly once, and only for the id it went
// in under; an id that this session did not give reaches nobody.

import { RequestIds } from "./name.js";

interface Open<W> {
  waiter: W;
  stream: { credit: number; nextSeq: number } | undefined;
  givenUp: boolean;
}

/** What a `response` settles. */
export type Settled<W> = { is: "answered"; waiter: W } | { is: "released"; waiter: W } | { is: "unknown" };

/** What becomes of a `chunk`. */
export type Arrived<W> =
  { is: "deliver"; waiter: W } | { is: "broken"; waiter: W; breach: Breach } | { is: "late" } | { is: "unknown" };

/** Which rule a `chunk` broke. */
export type Breach =
  | { rule: "overrun" }
  | { rule: "outOfOrder"; expected: number; got: number }
  | { rule: "notStreaming" }
  | { rule: "tooLarge"; limit: number }
  | { rule: "unreadable" };

/** The open requests of one session, each with its waiter. */
export class Outbound<W> {
  readonly #ids: RequestIds;
  readonly #open = new Map<number, Open<W>>();
  #next = 0;
  /** Requests leave in the order of their numbers: all below this one were handed to the other side. */
  #writtenBelow = 0;

  /** An empty table whose ids carry `seed`. */
  constructor(seed: bigint) {
    this.#ids = new RequestIds(seed);
  }

  /** The id that the next {@link Outbound.open} takes. */
  get nextId(): string {
    return this.#ids.id(this.#next);
  }

  /** Enters a waiter under {@link Outbound.nextId}; `credit` is given for a stream alone. */
  open(credit: number | undefined, waiter: W): number {
    const number = this.#next;
    this.#next += 1;
    const stream = credit === undefined ? undefined : { credit, nextSeq: 0 };
    this.#open.set(number, { waiter, stream, givenUp: false });
    return number;
  }

  /** Which open request an id names. */
  number(id: string): number | undefined {
    const number = this.#ids.number(id);
    return number !== undefined && this.#open.has(number) ? number : undefined;
  }

  /** Notes that a request was handed to the other side, and with it all before it. */
  markWritten(number: number): void {
    this.#writtenBelow = Math.max(this.#writtenBelow, number + 1);
  }

  /** Whether the other side can know of a request: nothing that it says of another one counts. */
  wasWritten(number: number): boolean {
    return number < this.#writtenBelow;
  }

  #written(id: string): { number: number; open: Open<W> } | undefined {
    const number = this.number(id);
    const open = number !== undefined && this.wasWritten(number) ? this.#open.get(number) : undefined;
    return number === undefined || open === undefined ? undefined : { number, open };
  }

  /** Takes a request out as if it had never been made. */
  withdraw(number: number): { waiter: W } | undefined {
    const open = this.#open.get(number);
    this.#open.delete(number);
    return open;
  }

  /** Marks a request as given up; answers whether it was open and not given up before. */
  giveUp(number: number): boolean {
    const open = this.#open.get(number);
    if (open === undefined || open.givenUp) {
      return false;
    }
    open.givenUp = true;
    return true;
  }

  /** Allows `n` more chunks; answers whether there is a live stream to allow them for. */
  grant(number: number, n: number): boolean {
    const open = this.#open.get(number);
    if (open?.stream === undefined || open.givenUp) {
      return false;
    }
    open.stream.credit += n;
    return true;
  }

  /** Takes in a `response`. */
  settle(id: string): Settled<W> {
    const found = this.#written(id);
    if (found === undefined) {
      return { is: "unknown" };
    }
    this.#open.delete(found.number);
    return { is: found.open.givenUp ? "released" : "answered", waiter: found.open.waiter };
  }

  /** Takes in a `chunk` of `size` bytes, of at most `limit`. */
  arrive(id: string, seq: number, size: number, limit: number): Arrived<W> {
    const open = this.#written(id)?.open;
    if (open === undefined) {
      return { is: "unknown" };
    }
    if (open.givenUp) {
      return { is: "late" };
    }
    const { stream } = open;
    if (stream === undefined) {
      return this.#broken(open, { rule: "notStreaming" });
    }
    if (size > limit) {
      return this.#broken(open, { rule: "tooLarge", limit });
    }
    if (seq !== stream.nextSeq) {
      return this.#broken(open, { rule: "outOfOrder", expected: stream.nextSeq, got: seq });
    }
    if (stream.credit === 0) {
      return this.#broken(open, { rule: "overrun" });
    }
    stream.credit -= 1;
    stream.nextSeq += 1;
    return { is: "deliver", waiter: open.waiter };
  }

  /** Takes in a chunk of which nothing but the id could be read: the stream has a hole now. */
  arriveUnreadable(id: string): Arrived<W> {
    const open = this.#written(id)?.open;
    if (open === undefined) {
      return { is: "unknown" };
    }
    return open.givenUp ? { is: "late" } : this.#broken(open, { rule: "unreadable" });
  }

  #broken(open: Open<W>, breach: Breach): Arrived<W> {
    open.givenUp = true;
    return { is: "broken", waiter: open.waiter, breach };
  }

  /** How many requests are open, those given up included. */
  get size(): number {
    return this.#open.size;
  }

  /** Ends the session: every waiter comes out, with whether its request had been handed over. */
  end(): { waiter: W; handedOver: boolean }[] {
    const lost = [...this.#open].map(([number, open]) => ({
      waiter: open.waiter,
      handedOver: this.wasWritten(number),
    }));
    this.#open.clear();
    return lost;
  }
}
