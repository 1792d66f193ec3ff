// The requests that the other side sent and that this side still owes an answer.
//
// Pure bookkeeping. The invariant: each accepted request is answered exactly once, its chunks carry
// `seq` without gaps and never exceed the credit that the asker gave.

import type { Request } from "./message.js";

interface Owed {
  stream: { credit: number; nextSeq: number } | undefined;
  cancelled: boolean;
}

/** Whether an incoming request is taken on. */
export type Admission = "taken" | "duplicate" | "full";

/** Why a chunk cannot be sent. */
export type ChunkRefused =
  { why: "noCredit" } | { why: "over" } | { why: "notStreaming" } | { why: "tooLarge"; size: number; limit: number };

/** The requests to answer, by the id that the other side chose. */
export class Inbound {
  readonly #open = new Map<string, Owed>();

  /** Takes on a request, if fewer than `most` are open. */
  admit(request: Request, most: number, defaultCredit: number): Admission {
    if (this.#open.has(request.requestId)) {
      return "duplicate";
    }
    if (this.#open.size >= most) {
      return "full";
    }
    const stream = request.stream === true ? { credit: request.credit ?? defaultCredit, nextSeq: 0 } : undefined;
    this.#open.set(request.requestId, { stream, cancelled: false });
    return "taken";
  }

  /** Whether an answer is owed under this id. */
  knows(id: string): boolean {
    return this.#open.has(id);
  }

  /** Whether the asker gave up on this request, and an answer is still owed. */
  isCancelled(id: string): boolean {
    return this.#open.get(id)?.cancelled === true;
  }

  /** Notes that the asker gave up; answers whether that is news. */
  cancel(id: string): boolean {
    const owed = this.#open.get(id);
    if (owed === undefined || owed.cancelled) {
      return false;
    }
    owed.cancelled = true;
    return true;
  }

  /** Notes further credit; answers whether a stream can go on with it. */
  credit(id: string, n: number): boolean {
    const owed = this.#open.get(id);
    if (owed?.stream === undefined || owed.cancelled) {
      return false;
    }
    owed.stream.credit += n;
    return true;
  }

  /** Uses one credit; answers the `seq` that the chunk carries, or why it must not be sent. */
  chunk(id: string, size: number, limit: number): number | ChunkRefused {
    const owed = this.#open.get(id);
    if (owed === undefined || owed.cancelled) {
      return { why: "over" };
    }
    if (owed.stream === undefined) {
      return { why: "notStreaming" };
    }
    if (size > limit) {
      return { why: "tooLarge", size, limit };
    }
    if (owed.stream.credit === 0) {
      return { why: "noCredit" };
    }
    owed.stream.credit -= 1;
    owed.stream.nextSeq += 1;
    return owed.stream.nextSeq - 1;
  }

  /** Settles a request; answers whether it was open: if not, its answer must not be sent. */
  finish(id: string): boolean {
    return this.#open.delete(id);
  }

  /** How many answers are owed. */
  get size(): number {
    return this.#open.size;
  }

  /** Ends the session: the ids whose answers nobody will read. */
  end(): string[] {
    const ids = [...this.#open.keys()];
    this.#open.clear();
    return ids;
  }
}
