// Where a handler puts the parts of a streamed answer.
//
// The invariants: no more chunks are under way than the caller gave credit for, and they leave in the order
// in which they were given. Whoever sends faster than the caller reads waits here; whoever sends for a
// caller who has left gets an error.

import { SendError } from "./error.js";
import { type IntoJson, intoJson } from "./json.js";
import type { Session, Ticket } from "./session.js";

/**
 * Where a handler puts the parts of a streamed answer.
 *
 * ```ts
 * import { Plugin } from "bkg-sdk";
 *
 * const plugin = new Plugin();
 * plugin.stream("counter.count", async (request, chunks) => {
 *   for (let number = 0; number < Number(request.payload); number += 1) {
 *     await chunks.send(number);
 *   }
 * });
 * ```
 */
export class ChunkSink {
  readonly #session: Session;
  readonly #ticket: Ticket;
  readonly #id: string;
  #last: Promise<void> = Promise.resolve();

  /** Made by the SDK alone. */
  constructor(session: Session, ticket: Ticket, id: string) {
    this.#session = session;
    this.#ticket = ticket;
    this.#id = id;
  }

  /**
   * Sends one part; resolves when it is on its way, which is as late as the caller has read what it got.
   *
   * @throws SendError where nothing was sent: the request is over, or the part is too large. TypeError where the
   * part has no JSON form.
   */
  send(chunk: IntoJson): Promise<void> {
    const sent = this.#sendAfter(this.#last, chunk);
    this.#last = sent;
    // Whoever does not wait for it does not hear of it; it must not end the process.
    sent.catch(() => undefined);
    return sent;
  }

  /** @internal Resolves when all that was given has left or was refused. */
  async settled(): Promise<void> {
    await this.#last.catch(() => undefined);
  }

  async #sendAfter(last: Promise<void>, given: IntoJson): Promise<void> {
    // Before anything is waited for: what was given may change afterwards.
    const chunk = intoJson(given);
    await last.catch(() => undefined);
    for (;;) {
      const refused = this.#session.chunk(this.#id, chunk);
      switch (refused?.why) {
        case undefined:
          return;
        case "full":
          await Promise.race([this.#session.room(), this.#ticket.creditComes()]);
          break;
        case "noCredit":
          await this.#ticket.creditComes();
          break;
        case "tooLarge":
          throw SendError.tooLarge(refused.size, refused.limit);
        case "over":
        case "notStreaming":
          throw SendError.over();
      }
      if (this.#ticket.isCancelled) {
        throw SendError.over();
      }
    }
  }
}
