// Events of topics: who in this plugin wants which.
//
// Delivery is at most once and never waits: a subscriber that falls behind misses the oldest events and can
// ask how many. The host hears of a topic with its first subscriber and after its last.

import type * as message from "./protocol/message.js";
import type { Json, RawJson } from "./protocol/raw-json.js";

/** How many events a subscriber may be behind before it misses the oldest. */
const BEHIND = 256;

/** An event of a topic. */
export interface Event {
  /** The topic's name. */
  topic: string;
  /** The event. */
  data: Json;
  /** The event as it came. */
  rawData: RawJson;
  /** Which browser sent it, on a channel. */
  client: string | undefined;
}

/** The subscribers of a plugin. */
export class Topics {
  readonly #subscribers = new Map<string, Set<Subscription>>();
  readonly #say: (message: message.PluginMessage) => void;
  #isClosed = false;

  constructor(say: (message: message.PluginMessage) => void) {
    this.#say = say;
  }

  /** A new subscriber; the host hears of the first. */
  subscribe(topic: string): Subscription {
    const subscription: Subscription = new Subscription(() => this.#leave(topic, subscription));
    if (this.#isClosed) {
      subscription.close();
      return subscription;
    }
    const known = this.#subscribers.get(topic);
    if (known === undefined) {
      this.#subscribers.set(topic, new Set([subscription]));
      this.#say({ type: "subscribe", topic });
    } else {
      known.add(subscription);
    }
    return subscription;
  }

  #leave(topic: string, subscription: Subscription): void {
    const known = this.#subscribers.get(topic);
    if (known?.delete(subscription) === true && known.size === 0) {
      this.#subscribers.delete(topic);
      this.#say({ type: "unsubscribe", topic });
    }
  }

  /** Hands an event to the subscribers of its topic. */
  deliver(event: message.Event): void {
    for (const subscription of this.#subscribers.get(event.topic) ?? []) {
      subscription.deliver(event);
    }
  }

  /** What a new session has to be told. */
  get names(): string[] {
    return [...this.#subscribers.keys()];
  }

  /** No event will come any more. */
  close(): void {
    this.#isClosed = true;
    const all = [...this.#subscribers.values()].flatMap((subscribers) => [...subscribers]);
    this.#subscribers.clear();
    for (const subscription of all) {
      subscription.close();
    }
  }
}

/**
 * The events of one topic, from the moment of the subscription on. The loop ends when the plugin stops;
 * leaving it, or {@link Subscription.close}, ends the subscription.
 *
 * ```ts
 * import type { Host } from "bkg-sdk";
 *
 * async function follow(host: Host): Promise<void> {
 *   for await (const event of host.subscribe("catalogue.changed")) {
 *     console.info("the catalogue has changed", { by: event.data });
 *   }
 * }
 * ```
 */
export class Subscription implements AsyncIterableIterator<Event> {
  readonly #leave: () => void;
  /** Events that were not taken yet; the oldest goes when there are too many. */
  #waiting: message.Event[] = [];
  #wake: (() => void)[] = [];
  #missed = 0;
  #isClosed = false;

  /** Made by the SDK alone. */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** How many events were missed so far because they were not taken in time. */
  get missed(): number {
    return this.#missed;
  }

  /** @internal */
  deliver(event: message.Event): void {
    this.#waiting.push(event);
    if (this.#waiting.length > BEHIND) {
      this.#waiting.shift();
      this.#missed += 1;
    }
    this.#tell();
  }

  #tell(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const waiting of wake) {
      waiting();
    }
  }

  /** The next event. Events of the time without a session are gone. */
  async next(): Promise<IteratorResult<Event, undefined>> {
    for (;;) {
      const event = this.#waiting.shift();
      if (event !== undefined) {
        const { topic, data, client } = event;
        return { done: false, value: { topic, data: data.read(), rawData: data, client } };
      }
      if (this.#isClosed) {
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Ends the subscription. */
  close(): void {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#leave();
      this.#tell();
    }
  }

  /** Ends the subscription. */
  return(): Promise<IteratorResult<Event, undefined>> {
    this.#waiting = [];
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** The subscription itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}
