// Reads the members of a message, each as what it must be.
//
// Members that nobody asks for are passed over: that is how the protocol grows. The invariants: `null`
// reads as absent, a member that came twice is refused, and no name reaches an object's prototype.

import { WireError } from "./error.js";
import { capabilityName, requestId } from "./name.js";
import type { Json, JsonObject, RawJson } from "./raw-json.js";

/** Why a member cannot be read. */
export class FieldError extends Error {}

/** The members of one JSON object. */
export class Fields {
  readonly #members: ReadonlyMap<string, RawJson[]>;

  /**
   * @throws FieldError where the JSON is no object.
   */
  constructor(raw: RawJson) {
    const members = raw.members();
    if (members === undefined) {
      throw new FieldError("not an object");
    }
    this.#members = members;
  }

  /** A member as it came; absent if it is `null`. */
  raw(name: string): RawJson | undefined {
    const [value, second] = this.#members.get(name) ?? [];
    if (second !== undefined) {
      throw new FieldError(`\`${name}\` is there twice`);
    }
    return value === undefined || value.isNull ? undefined : value;
  }

  /** Every member that is not one of these, read. */
  others(known: readonly string[]): JsonObject {
    const others: [string, Json][] = [];
    for (const name of this.#members.keys()) {
      if (!known.includes(name)) {
        others.push([name, this.#members.get(name)?.at(-1)?.read() ?? null]);
      }
    }
    // Unlike an assignment, this makes a member of `__proto__` like of any other name.
    return Object.fromEntries(others);
  }

  /** What `read` makes of a member, if it is there. */
  optional<T>(name: string, read: (value: RawJson) => T): T | undefined {
    const value = this.raw(name);
    if (value === undefined) {
      return undefined;
    }
    try {
      return read(value);
    } catch (problem) {
      throw new FieldError(`\`${name}\`: ${problem instanceof Error ? problem.message : String(problem)}`);
    }
  }

  /** What `read` makes of a member, which must be there. */
  required<T>(name: string, read: (value: RawJson) => T): T {
    const value = this.optional(name, read);
    if (value === undefined) {
      throw new FieldError(`\`${name}\` is missing`);
    }
    return value;
  }

  /** A list, empty if it is absent. */
  list<T>(name: string, read: (value: RawJson) => T): T[] {
    return this.optional(name, (value) => listOf(value, read)) ?? [];
  }
}

/** A text. */
export function text(raw: RawJson): string {
  const value = raw.read();
  if (typeof value !== "string") {
    throw new FieldError("not a text");
  }
  return value;
}

/** The text of anything: logs and details are for people. */
export function anyText(raw: RawJson): string {
  const value = raw.read();
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** `true` or `false`. */
export function truth(raw: RawJson): boolean {
  const value = raw.read();
  if (typeof value !== "boolean") {
    throw new FieldError("neither `true` nor `false`");
  }
  return value;
}

/** A number. */
export function figure(raw: RawJson): number {
  const value = raw.read();
  if (typeof value !== "number") {
    throw new FieldError("not a number");
  }
  return value;
}

/** A whole number from 0 on. */
export function whole(raw: RawJson): number {
  const value = figure(raw);
  if (!Number.isInteger(value) || value < 0) {
    throw new FieldError("not a whole number from 0 on");
  }
  return value;
}

/** A capability name. */
export function capability(raw: RawJson): string {
  return capabilityName(text(raw));
}

/** A request id. */
export function id(raw: RawJson): string {
  return requestId(text(raw));
}

/** A JSON object. */
export function object(raw: RawJson): JsonObject {
  const value = raw.read();
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FieldError("not an object");
  }
  return value;
}

/** An object of texts. */
export function texts(raw: RawJson): Map<string, string> {
  return new Map(
    Object.entries(object(raw)).map(([name, value]) => {
      if (typeof value !== "string") {
        throw new FieldError(`\`${name}\` is not a text`);
      }
      return [name, value];
    }),
  );
}

/** A list. */
export function listOf<T>(raw: RawJson, read: (value: RawJson) => T): T[] {
  const items = raw.items();
  if (items === undefined) {
    throw new FieldError("not a list");
  }
  return items.map(read);
}

/** A pair of texts. */
export function pair(raw: RawJson): [string, string] {
  const [first, second, third] = listOf(raw, text);
  if (first === undefined || second === undefined || third !== undefined) {
    throw new FieldError("not a pair");
  }
  return [first, second];
}

/** JSON as it came. */
export function asItCame(raw: RawJson): RawJson {
  return raw;
}

/** An error of any shape. */
export function wireError(raw: RawJson): WireError {
  return WireError.from(raw);
}
