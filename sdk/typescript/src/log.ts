// Log lines to the host, straight from the plugin or from its `console`.
//
// Lines that cannot leave yet (no session, or a socket that is behind) are kept, a bounded number of them:
// the oldest go first, and the host is told how many went. Logging never waits.

import { AsyncLocalStorage } from "node:async_hooks";
import { format, inspect } from "node:util";

import { messageOf } from "./error.js";
import { intoJson } from "./json.js";
import { type LogLine, LogLevel } from "./protocol/message.js";
import type { RawJson } from "./protocol/raw-json.js";
import type { Session } from "./session.js";

/** How many lines are kept while they cannot leave. */
export const KEPT = 512;
/** Longer messages are cut: a line is for people. In bytes. */
export const LONGEST_MESSAGE = 16 << 10;
/** Larger sets of fields are left out. In bytes. */
const LARGEST_FIELDS = 32 << 10;
const LEVELS: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error"];

/** The request that the current code answers, so that its log lines can say so. */
const currentRequest = new AsyncLocalStorage<{ id: string; logs: Logs }>();

/** Runs `work` as the answering of a request. */
export function answering<T>(id: string, logs: Logs, work: () => T): T {
  return currentRequest.run({ id, logs }, work);
}

/** Where log lines go in and leave when they can. */
export class Logs {
  readonly #plugin: string;
  #session: Session | undefined;
  #kept: LogLine[] = [];
  #lost = 0;
  /** From which level on the SDK's own lines and those of `console` are wanted; none where it is not bridged. */
  #wanted: LogLevel | undefined;

  constructor(plugin: string) {
    this.#plugin = plugin;
  }

  /** From now on lines leave through this session. */
  attach(session: Session): void {
    this.#session = session;
    this.flush();
  }

  /** Lines are kept until there is a session again. */
  detach(): void {
    this.#session = undefined;
  }

  /** Writes a line. */
  write(level: LogLevel, message: string, fields?: object): void {
    this.#kept.push({
      plugin: this.#plugin,
      level,
      message: cut(message),
      timestamp: new Date().toISOString(),
      fields: fields && writtenFields(fields),
      requestId: currentRequest.getStore()?.id,
    });
    if (this.#kept.length > KEPT) {
      this.#kept.shift();
      this.#lost += 1;
    }
    this.flush();
  }

  /** Writes a line of the SDK's own, or of `console`, where it is wanted. */
  note(level: LogLevel, message: string, fields?: object): void {
    if (this.#wanted !== undefined && LEVELS.indexOf(level) >= LEVELS.indexOf(this.#wanted)) {
      this.write(level, message, fields);
    }
  }

  /** Sends what was kept, as far as the session takes it. */
  flush(): void {
    const session = this.#session;
    if (session === undefined) {
      return;
    }
    if (this.#lost > 0 && session.hasRoomForLogs) {
      const message = `${String(this.#lost)} log lines are lost: they could not be sent in time`;
      const timestamp = new Date().toISOString();
      session.say({ type: "log", plugin: this.#plugin, level: LogLevel.Warn, message, timestamp });
      this.#lost = 0;
    }
    while (session.hasRoomForLogs) {
      const line = this.#kept.shift();
      if (line === undefined) {
        return;
      }
      session.say({ type: "log", ...line });
    }
  }

  /** Whether nothing is kept. */
  get isEmpty(): boolean {
    return this.#kept.length === 0;
  }

  /** Takes what never left, as texts for people. */
  takeKept(): string[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept.map(
      ({ level, message, fields }) => `${level}: ${message}${fields === undefined ? "" : ` ${fields.text}`}`,
    );
  }

  /** Lines of `console` go to the host from now on; answers how to end that. */
  bridgeConsole(): () => void {
    this.#wanted = wantedLevel();
    const undo = bridge(this);
    return () => {
      this.#wanted = undefined;
      undo();
    };
  }
}

/** The level that `BKG_LOG` names; `info` unless it names one. */
function wantedLevel(): LogLevel {
  const word = process.env["BKG_LOG"]?.toLowerCase();
  return LEVELS.find((level) => level === word) ?? LogLevel.Info;
}

function writtenFields(fields: object): RawJson | undefined {
  let written: RawJson;
  try {
    written = intoJson(withErrors(fields));
  } catch (problem) {
    // A line is worth more than its facts.
    written = intoJson({ fields: inspect(fields, { depth: 2 }), problem: messageOf(problem) });
  }
  return written.bytes <= LARGEST_FIELDS ? written : undefined;
}

/** The fields, with each error as its text: as JSON it would be `{}`. */
function withErrors(fields: object): object {
  const members = Object.entries(fields);
  if (!members.some(([, value]) => value instanceof Error)) {
    return fields;
  }
  return Object.fromEntries(members.map(([name, value]) => [name, value instanceof Error ? inspect(value) : value]));
}

/** The message, or its start and how much of it is left out. */
export function cut(message: string): string {
  // No character has more than three bytes for each of its units.
  if (message.length * 3 <= LONGEST_MESSAGE) {
    return message;
  }
  const bytes = Buffer.from(message);
  if (bytes.length <= LONGEST_MESSAGE) {
    return message;
  }
  let end = LONGEST_MESSAGE;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) {
    end -= 1;
  }
  return `${bytes.toString("utf8", 0, end)}… (${String(bytes.length - end)} more bytes)`;
}

const METHODS = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  log: LogLevel.Info,
  info: LogLevel.Info,
  warn: LogLevel.Warn,
  error: LogLevel.Error,
} as const;

/** Who gets the lines of `console`: of several the last, unless a line belongs to a request. */
const bridged: Logs[] = [];
let undoAll: (() => void) | undefined;
/** Whether a line is being made: an object whose inspection logs would come round again without end. */
let isLogging = false;

function bridge(logs: Logs): () => void {
  bridged.push(logs);
  undoAll ??= replaceConsole();
  return () => {
    const at = bridged.indexOf(logs);
    if (at >= 0) {
      bridged.splice(at, 1);
    }
    if (bridged.length === 0) {
      undoAll?.();
      undoAll = undefined;
    }
  };
}

/** What `console` wrote and never left, as texts for people. */
export function takeKeptOfConsole(): string[] {
  return bridged.flatMap((logs) => logs.takeKept());
}

function replaceConsole(): () => void {
  const undo = (Object.keys(METHODS) as (keyof typeof METHODS)[]).map((method) => {
    const before = Object.getOwnPropertyDescriptor(console, method) ?? {};
    console[method] = (...words: unknown[]): void => take(METHODS[method], words);
    return (): void => {
      Object.defineProperty(console, method, before);
    };
  });
  return () => {
    for (const restore of undo) {
      restore();
    }
  };
}

function take(level: LogLevel, words: unknown[]): void {
  const logs = currentRequest.getStore()?.logs ?? bridged.at(-1);
  if (logs === undefined || isLogging) {
    return;
  }
  isLogging = true;
  try {
    const facts = factsOf(words);
    logs.note(level, format(...(facts === undefined ? words : words.slice(0, -1))), facts);
  } finally {
    isLogging = false;
  }
}

/** The plain object at the end of `console.info("…", { … })`, which becomes the line's fields. */
function factsOf(words: unknown[]): object | undefined {
  const [message] = words;
  const last = words.at(-1);
  if (typeof message !== "string" || words.length < 2 || typeof last !== "object" || last === null) {
    return undefined;
  }
  const placeholders = message.match(/%[sdifjoOc]/g)?.length ?? 0;
  const isPlain = [Object.prototype, null].includes(Object.getPrototypeOf(last) as object | null);
  return isPlain && words.length - 1 > placeholders ? last : undefined;
}
