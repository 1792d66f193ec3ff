// What each side grants the other: sizes in bytes, counts, and times in milliseconds.
//
// The defaults are those of `docs/protocol.md`, section 11. The host's configuration may change each.

/** The bounds of one session, as the host sees them. */
export interface Limits {
  /** The largest frame that is sent to a plugin, in bytes. */
  frameToPlugin: number;
  /** The largest frame that is read from a plugin, in bytes. */
  frameFromPlugin: number;
  /** The largest `data` of one `chunk`, in bytes. */
  chunk: number;
  /** How many chunks of one stream may be unacknowledged. */
  streamCredit: number;
  /** How often a plugin beats, in milliseconds. */
  heartbeatMs: number;
  /** How many requests a plugin may have in flight at the host. */
  inFlightFromPlugin: number;
}

/** What the host accepts from a plugin, as it says in `registered`. */
export interface GrantedLimits {
  /** The largest frame, in bytes. */
  maxFrameBytes: number;
  /** The largest `data` of a chunk, in bytes. */
  maxChunkBytes: number;
  /** The credit of a streamed request that names none. */
  streamCredit: number;
}

/** The defaults of `docs/protocol.md`, section 11. */
export const DEFAULT_LIMITS: Readonly<Limits> = {
  frameToPlugin: 16 << 20,
  frameFromPlugin: 16 << 20,
  chunk: 256 << 10,
  streamCredit: 32,
  heartbeatMs: 10_000,
  inFlightFromPlugin: 1_024,
};

/** How many bytes of a `chunk` frame are not its `data`, at the most. */
export const CHUNK_ENVELOPE = 1 << 10;

/** The protocol version that is spoken here: the value of `register.protocol`. */
export const PROTOCOL_VERSION = 1;
