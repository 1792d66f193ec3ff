// Frames that wait to be written, in two lanes.
//
// Credits, cancels, health and drain overtake data, so that a full socket cannot keep a cancel from
// freeing it. They never overtake the `request` that they are about: a `cancel` takes a `request` that
// still waits back instead, and a `credit` queues behind it.

interface Waiting {
  /** The number of this side's own request, where the frame is one or is about one that waits. */
  request: number | undefined;
  text: string;
  bytes: number;
}

/** A queue whose head is taken in constant time. */
class Lane {
  #items: Waiting[] = [];
  #head = 0;

  push(item: Waiting): void {
    this.#items.push(item);
  }

  shift(): Waiting | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) {
      return undefined;
    }
    this.#head += 1;
    // The part that was taken goes when it is the larger one: what is moved was paid for by the taking.
    if (this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes out what is meant. */
  takeOut(isMeant: (item: Waiting) => boolean): Waiting[] {
    const waiting = this.#items.slice(this.#head);
    this.#items = waiting.filter((item) => !isMeant(item));
    this.#head = 0;
    return waiting.filter(isMeant);
  }
}

/** The frames of one session that wait to be written. */
export class Outbox {
  #urgent = new Lane();
  #data = new Lane();
  #bytes = 0;

  /** Adds a frame that overtakes data. */
  pushUrgent(text: string): void {
    this.#urgent.push(this.#waiting(text, undefined));
  }

  /** Adds a frame. */
  push(text: string): void {
    this.#data.push(this.#waiting(text, undefined));
  }

  /** Adds a request, or a frame about a request that still waits. */
  pushRequest(request: number, text: string): void {
    this.#data.push(this.#waiting(text, request));
  }

  #waiting(text: string, request: number | undefined): Waiting {
    const bytes = Buffer.byteLength(text);
    this.#bytes += bytes;
    return { request, text, bytes };
  }

  /** The next frame to write, with the number of the request that it is or is about. */
  pop(): { text: string; request: number | undefined } | undefined {
    const next = this.#urgent.shift() ?? this.#data.shift();
    this.#bytes -= next?.bytes ?? 0;
    return next;
  }

  /** Takes requests back that were not written yet, and what queues behind them; one number for each frame. */
  retract(isMeant: (request: number) => boolean): number[] {
    const taken = this.#data.takeOut((item) => item.request !== undefined && isMeant(item.request));
    const numbers: number[] = [];
    for (const item of taken) {
      this.#bytes -= item.bytes;
      if (item.request !== undefined) {
        numbers.push(item.request);
      }
    }
    return numbers;
  }

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Nothing waits any more. */
  clear(): void {
    this.#urgent = new Lane();
    this.#data = new Lane();
    this.#bytes = 0;
  }
}
