// The table of error codes, and an error as it travels.
//
// Which HTTP status each code becomes is the host's affair: `docs/protocol.md`, section 10. The
// invariant: whatever stands in `response.error`, it reads as a {@link WireError}.

import { RawJson, type Json } from "./raw-json.js";

/** What went wrong, as one word that programs can rely on. */
export const ErrorCode = {
  /** The request is not valid: its syntax, a parameter, or a combination of them. */
  InvalidRequest: "invalid_request",
  /** The credential is missing, unknown, expired or revoked. */
  Unauthorized: "unauthorized",
  /** The caller lacks the scope. */
  Forbidden: "forbidden",
  /** The action needs a login session younger than five minutes. */
  ReauthRequired: "reauth_required",
  /** What was named does not exist. */
  NotFound: "not_found",
  /** No plugin offers the model, or the caller may not use it. */
  ModelNotFound: "model_not_found",
  /** The path exists, but not with this HTTP method. */
  MethodNotAllowed: "method_not_allowed",
  /** The state changed meanwhile, or does not allow the action. */
  Conflict: "conflict",
  /** The body, frame or answer is larger than the limit. */
  PayloadTooLarge: "payload_too_large",
  /** The body's content type is not one that the route reads. */
  UnsupportedMediaType: "unsupported_media_type",
  /** The request was sent to a server that does not answer for that host name. */
  MisdirectedRequest: "misdirected_request",
  /** The configuration breaks its schema. */
  InvalidConfig: "invalid_config",
  /** Too many requests in too short a time. */
  RateLimited: "rate_limited",
  /** The budget of the key or user is used up. */
  QuotaExceeded: "quota_exceeded",
  /** The request was cancelled by its caller. */
  Cancelled: "cancelled",
  /** The host failed. */
  Internal: "internal",
  /** The plugin failed, or its answer broke the protocol. */
  PluginError: "plugin_error",
  /** The plugin's session ended before it answered. */
  PluginDisconnected: "plugin_disconnected",
  /** No ready instance serves the capability. */
  PluginUnavailable: "plugin_unavailable",
  /** The queue is full, or waiting in it took too long. */
  Overloaded: "overloaded",
  /** The deadline passed before the answer came. */
  Timeout: "timeout",
  /** There is no room on the disk for the write. */
  InsufficientStorage: "insufficient_storage",
} as const;

/** What went wrong, as one word that programs can rely on. */
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** What else an error may say. */
export interface WireErrorOptions {
  /** Which parameter was wrong, as a path such as `messages[0].role`. */
  param?: string;
  /** Whether the same request may succeed later. */
  retryable?: boolean;
  /** How long to wait before trying again, in milliseconds. */
  retryAfterMs?: number;
  /** Whatever else helps. */
  details?: Json | RawJson;
}

/**
 * An error as it travels in `response.error`: a handler throws it to answer a failure, a call throws it
 * where whoever was asked answered one.
 *
 * ```ts
 * import { ErrorCode, WireError } from "bkg-sdk";
 *
 * throw new WireError(ErrorCode.InvalidRequest, "`text` is empty: send at least one letter", { param: "text" });
 * ```
 */
export class WireError extends Error {
  /** One of {@link ErrorCode}, or a plugin's own word. */
  readonly code: string;
  /** Which parameter was wrong. */
  readonly param: string | undefined;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean | undefined;
  /** How long to wait before trying again, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Whatever else helps. */
  readonly details: RawJson | undefined;

  /** An error with a code of the table, or a word of the plugin's own. */
  constructor(code: ErrorCode | (string & {}), message: string, options: WireErrorOptions = {}) {
    super(message);
    this.name = "WireError";
    this.code = code;
    this.param = options.param;
    this.retryable = options.retryable;
    const { retryAfterMs = Number.NaN } = options;
    // On the wire times are whole.
    this.retryAfterMs = Number.isFinite(retryAfterMs) ? Math.max(0, Math.ceil(retryAfterMs)) : undefined;
    this.details = options.details === undefined ? undefined : RawJson.of(options.details);
  }

  /** The error as it is written into a frame. */
  toJSON(): object {
    const { code, message, retryable, retryAfterMs, param, details } = this;
    return { code, message, retryable, retryAfterMs, param, details };
  }

  /** @internal Reads `response.error`, of whatever shape: a strange one must not hide the failure. */
  static from(raw: RawJson): WireError {
    const value = raw.read();
    if (typeof value === "string") {
      return new WireError(ErrorCode.PluginError, value);
    }
    const asText = new WireError(ErrorCode.PluginError, raw.text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      return asText;
    }
    const fields = new Map(Object.entries(value));
    const get = <T extends Json>(name: string, is: (value: Json) => value is T): T | undefined | null => {
      const field = fields.get(name) ?? null;
      return field === null ? undefined : is(field) ? field : null;
    };
    const message = get("message", (value): value is string => typeof value === "string");
    const param = get("param", (value): value is string => typeof value === "string");
    const retryable = get("retryable", (value): value is boolean => typeof value === "boolean");
    const retryAfterMs = get(
      "retryAfterMs",
      (value): value is number => Number.isSafeInteger(value) && Number(value) >= 0,
    );
    if (message === null || param === null || retryable === null || retryAfterMs === null) {
      return asText;
    }
    const code = fields.get("code");
    const word =
      typeof code === "string" && code !== "" ? code : typeof code === "number" ? String(code) : ErrorCode.PluginError;
    const details = raw.member("details");
    return new WireError(word, message ?? raw.text, {
      ...(param !== undefined && { param }),
      ...(retryable !== undefined && { retryable }),
      ...(retryAfterMs !== undefined && { retryAfterMs }),
      ...(details !== undefined && !details.isNull && { details }),
    });
  }
}

/** An answer, or why there is none. */
export type Outcome = { ok: true; data: RawJson } | { ok: false; error: WireError };
