// JSON that is passed on without being read.
//
// `JSON.parse` loses what a number's text says: `1.0` and `12345678901234567890` come out of it as
// other numbers. Here a value stays the text that its sender wrote, and is read only on request.
// The invariant: the text of a {@link RawJson} is one valid JSON value without blanks around it.

/** Anything that `JSON.parse` can return. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A JSON object. */
export type JsonObject = Record<string, Json>;

/**
 * One JSON value as the text that its sender wrote: a handler that returns it hands it on unchanged.
 *
 * ```ts
 * import { RawJson } from "bkg-sdk";
 *
 * const order = RawJson.parse('{"capability":"llm.chat","payload":{"seed":12345678901234567890}}');
 * order.member("payload")?.text; // '{"seed":12345678901234567890}'
 * order.member("capability")?.read(); // "llm.chat"
 * ```
 */
export class RawJson {
  /** The JSON value `null`. */
  static readonly NULL: RawJson = new RawJson("null");
  /** The JSON value `{}`. */
  static readonly EMPTY_OBJECT: RawJson = new RawJson("{}");

  /** The JSON text. */
  readonly text: string;

  private constructor(text: string) {
    this.text = text;
  }

  /**
   * Checks that `text` is one JSON value, and keeps it as it is. Only half a character (an unpaired surrogate)
   * becomes an escape, since no frame can carry it.
   *
   * @throws SyntaxError where it is none.
   */
  static parse(text: string): RawJson {
    JSON.parse(text);
    const value = text.slice(skipBlank(text, 0), lastOfValue(text));
    return new RawJson(value.isWellFormed() ? value : value.replace(HALF_CHARACTER, escaped));
  }

  /**
   * The JSON of a value. What is {@link RawJson} in it, at any depth, is written as it is; `undefined` is
   * `null`.
   *
   * @throws TypeError where the value has no JSON form: a function, a `bigint`, an object that holds itself.
   */
  static of(value: unknown): RawJson {
    return value instanceof RawJson ? value : new RawJson(write(value));
  }

  /** @internal A part of a text that is known to be valid JSON. */
  static slice(text: string, start: number, end: number): RawJson {
    return new RawJson(text.slice(start, end));
  }

  /** Reads the value; each time anew, so that what is done to it reaches nobody else. */
  read(): Json {
    return JSON.parse(this.text) as Json;
  }

  /** Whether this is the JSON value `null`. */
  get isNull(): boolean {
    return this.text === "null";
  }

  /** The size of the text in UTF-8, in bytes. */
  get bytes(): number {
    return Buffer.byteLength(this.text);
  }

  /** A member of an object, unread; `undefined` where this is no object or has no such member. */
  member(name: string): RawJson | undefined {
    return this.members()?.get(name)?.at(-1);
  }

  /** @internal The members of an object in order, each name with every value that it came with. */
  members(): Map<string, RawJson[]> | undefined {
    return this.text.startsWith("{") ? membersOf(this.text) : undefined;
  }

  /** @internal The items of an array. */
  items(): RawJson[] | undefined {
    return this.text.startsWith("[") ? itemsOf(this.text) : undefined;
  }

  /** Whether both are the same text. */
  equals(other: RawJson): boolean {
    return this.text === other.text;
  }

  /** The text, for messages. */
  toString(): string {
    return this.text;
  }

  /** The value as `JSON.stringify` takes it: read, so that numbers may lose digits. */
  toJSON(): Json {
    writing.hasRaw = true;
    return this.read();
  }
}

/** In JSON it can only stand in a text, where an escape means the same. */
const HALF_CHARACTER = /\p{Surrogate}/gu;
const escaped = (half: string): string => `\\u${half.charCodeAt(0).toString(16)}`;

/** What {@link RawJson.toJSON} notes: whether that which is being written holds text that must not be read. */
const writing = { hasRaw: false };
/** Asked through a function, since a compiler does not see what `JSON.stringify` calls. */
const hasRaw = (): boolean => writing.hasRaw;

function write(value: unknown): string {
  // A `toJSON` of the plugin's may write something itself.
  const outer = writing.hasRaw;
  writing.hasRaw = false;
  let written: string | undefined;
  try {
    written = JSON.stringify(value);
    // The library is faster than what is written here, and nearly every value is without raw parts.
    if (hasRaw()) {
      written = spliced(value);
    }
  } finally {
    writing.hasRaw = outer;
  }
  if (written === undefined) {
    if (value === undefined) {
      return "null";
    }
    throw new TypeError(`a ${typeof value} has no JSON form`);
  }
  return written;
}

/** As `JSON.stringify` writes it, with raw parts as they are; `undefined` where it leaves a value out. */
function spliced(offered: unknown, name = ""): string | undefined {
  const value = writingItself(offered, name);
  if (value instanceof RawJson) {
    return value.text;
  }
  const isBoxed = value instanceof Number || value instanceof String || value instanceof Boolean;
  if (typeof value !== "object" || value === null || isBoxed) {
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) {
    // Unlike `map`, this fills holes.
    return `[${Array.from(value, (item, index) => spliced(item, String(index)) ?? "null").join(",")}]`;
  }
  const members: string[] = [];
  for (const [name, member] of Object.entries(value)) {
    const text = spliced(member, name);
    if (text !== undefined) {
      members.push(`${JSON.stringify(name)}:${text}`);
    }
  }
  return `{${members.join(",")}}`;
}

/** What a value says that is to be written in its place, once: that may be itself. */
function writingItself(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || value instanceof RawJson) {
    return value;
  }
  // What writes itself through raw parts would lose them in its `toJSON`.
  for (const method of ["intoJson", "toJSON"]) {
    const write: unknown = Reflect.get(value, method);
    if (typeof write === "function") {
      return Reflect.apply(write, value, [name]);
    }
  }
  return value;
}

// What follows reads text that `JSON.parse` has accepted, and therefore checks nothing.

const BLANK = /[^ \t\r\n]/g;
const STRUCTURE = /["{}[\]]/g;
const PRIMITIVE_END = /[,\]} \t\r\n]/g;

function skipBlank(text: string, at: number): number {
  BLANK.lastIndex = at;
  return BLANK.exec(text)?.index ?? text.length;
}

function lastOfValue(text: string): number {
  let end = text.length;
  while (end > 0 && " \t\r\n".includes(text.charAt(end - 1))) {
    end -= 1;
  }
  return end;
}

/** Behind the string that begins at `at`. */
function stringEnd(text: string, at: number): number {
  for (let from = at + 1; ;) {
    const quote = text.indexOf('"', from);
    let escapes = 0;
    while (text.charAt(quote - 1 - escapes) === "\\") {
      escapes += 1;
    }
    if (escapes % 2 === 0) {
      return quote + 1;
    }
    from = quote + 1;
  }
}

/** Behind the value that begins at `at`. */
function valueEnd(text: string, at: number): number {
  const first = text.charAt(at);
  if (first === '"') {
    return stringEnd(text, at);
  }
  if (first !== "{" && first !== "[") {
    PRIMITIVE_END.lastIndex = at;
    return PRIMITIVE_END.exec(text)?.index ?? text.length;
  }
  for (let depth = 0, from = at; ;) {
    STRUCTURE.lastIndex = from;
    const found = STRUCTURE.exec(text)?.index ?? text.length;
    switch (text.charAt(found)) {
      case '"':
        from = stringEnd(text, found);
        continue;
      case "{":
      case "[":
        depth += 1;
        break;
      default:
        depth -= 1;
    }
    from = found + 1;
    if (depth === 0) {
      return from;
    }
  }
}

function membersOf(text: string): Map<string, RawJson[]> {
  const members = new Map<string, RawJson[]>();
  let at = skipBlank(text, 1);
  while (text.charAt(at) === '"') {
    const nameEnd = stringEnd(text, at);
    const name = JSON.parse(text.slice(at, nameEnd)) as string;
    const start = skipBlank(text, skipBlank(text, nameEnd) + 1);
    const end = valueEnd(text, start);
    const value = RawJson.slice(text, start, end);
    const known = members.get(name);
    if (known === undefined) {
      members.set(name, [value]);
    } else {
      known.push(value);
    }
    at = skipBlank(text, skipBlank(text, end) + 1);
  }
  return members;
}

function itemsOf(text: string): RawJson[] {
  const items: RawJson[] = [];
  let at = skipBlank(text, 1);
  while (at < text.length && text.charAt(at) !== "]") {
    const end = valueEnd(text, at);
    items.push(RawJson.slice(text, at, end));
    at = skipBlank(text, end);
    if (text.charAt(at) === ",") {
      at = skipBlank(text, at + 1);
    }
  }
  return items;
}
