// Names and ids that travel on the bus, parsed at the door.
//
// They stay plain texts: what leaves a check here is trusted. The invariant: an id of this side's own
// names its request only in the exact spelling in which it was given.

/** Why a text is not a name. */
export class NameError extends Error {
  /** Made by the SDK alone. */
  constructor(message: string) {
    super(message);
    this.name = "NameError";
  }
}

const PLUGIN = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const CAPABILITY = /^[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+$/;
const INSTANCE = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** Names that the HTTP surface needs for itself below `/api/plugins`. */
const RESERVED = ["execute", "available", "telemetry", "routes"];
/** The longest capability name, in bytes. */
const MAX_CAPABILITY = 96;
/** The longest request id, in bytes. */
const MAX_REQUEST_ID = 128;

/** A plugin name. */
export function pluginName(text: string): string {
  if (!PLUGIN.test(text)) {
    throw new NameError(
      `\`${shown(text)}\` is not a plugin name: use 1 to 63 of a-z, 0-9, \`_\`, \`-\`, starting with a letter or digit`,
    );
  }
  if (RESERVED.includes(text)) {
    throw new NameError(`\`${text}\` cannot name a plugin: the path \`/api/plugins/${text}\` belongs to the host`);
  }
  return text;
}

/** A capability name. */
export function capabilityName(text: string): string {
  if (text.length > MAX_CAPABILITY || !CAPABILITY.test(text)) {
    throw new NameError(
      `\`${shown(text)}\` is not a capability name: use dotted words such as \`llm.chat\`, starting with a-z, at most 96 bytes`,
    );
  }
  return text;
}

/** The id of a launch: a UUID. */
export function instanceId(text: string): string {
  if (!INSTANCE.test(text)) {
    throw new NameError(`\`${shown(text)}\` is not an instance id: it is a UUID`);
  }
  return text.toLowerCase();
}

/** The id of a request, as the other side chose it. */
export function requestId(text: string): string {
  if (text === "" || Buffer.byteLength(text) > MAX_REQUEST_ID) {
    throw new NameError("a requestId is a text of 1 to 128 bytes");
  }
  return text;
}

/** What a message shows of a hostile text: its start, without control characters. */
function shown(text: string): string {
  const start = Array.from(text.slice(0, 2 * MAX_CAPABILITY))
    .slice(0, MAX_CAPABILITY)
    .join("");
  return start.replace(/[\p{Cc}\p{Cf}]/gu, (found) => `\\u{${found.codePointAt(0)?.toString(16) ?? ""}}`);
}

/** The ids of one session: UUIDs (version 8) of its seed and a number. */
export class RequestIds {
  readonly #prefix: string;

  /** `seed`: 64 bits that no other session has. */
  constructor(seed: bigint) {
    const high = ((seed & 0xffff_ffff_ffff_0fffn) | 0x8000n).toString(16).padStart(16, "0");
    this.#prefix = `${high.slice(0, 8)}-${high.slice(8, 12)}-${high.slice(12)}-8000-`;
  }

  /** The id of the `number`th request. */
  id(number: number): string {
    return this.#prefix + number.toString(16).padStart(12, "0");
  }

  /** Which request an id names; `undefined` for any other text. */
  number(id: string): number | undefined {
    const digits = id.slice(this.#prefix.length);
    return id.startsWith(this.#prefix) && /^[0-9a-f]{12}$/.test(digits) ? Number.parseInt(digits, 16) : undefined;
  }
}
