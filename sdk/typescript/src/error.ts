// Why things fail, and with which exit code a plugin ends.
//
// ```text
// Error
// ├── WireError          of one request: thrown by a handler to answer a failure, thrown by a call where
// │                      whoever was asked answered one; travels, and ends nothing
// ├── CallError          a call has no answer: `reason` says why
// ├── SendError          a chunk was not sent: `reason` says why
// ├── DefinitionError    a plugin describes itself wrongly
// ├── EnvironmentError   the environment is not one that a plugin can run in
// └── RunError           a plugin ended other than by being told to: `reason`, `exitCode`
// ```

import { inspect } from "node:util";

import { ErrorCode, WireError } from "./protocol/error.js";

export { ErrorCode, WireError, type WireErrorOptions } from "./protocol/error.js";

/** Why a call has no answer. */
export type CallErrorReason =
  /** The capability's name is none. */
  | "name"
  /** There is no session with the host at this moment. */
  | "notConnected"
  /** The payload is larger than the host takes. */
  | "tooLarge"
  /** The deadline passed. The host was told that nobody waits any more. */
  | "timedOut"
  /** The session ended before the answer: whether the work was done is unknown. */
  | "disconnected"
  /** What came is not what such an answer is made of. */
  | "unreadable";

/** A call has no answer. What whoever was asked reported is a {@link WireError} instead. */
export class CallError extends Error {
  /** Why. */
  readonly reason: CallErrorReason;

  /** Made by the SDK alone. */
  constructor(reason: CallErrorReason, message: string) {
    super(message);
    this.name = "CallError";
    this.reason = reason;
  }
}

/** A chunk was not sent. */
export class SendError extends Error {
  /** `over`: the request was cancelled, or its session is gone, so stop working. `tooLarge`: send smaller chunks. */
  readonly reason: "over" | "tooLarge";

  private constructor(reason: "over" | "tooLarge", message: string) {
    super(message);
    this.name = "SendError";
    this.reason = reason;
  }

  /** @internal */
  static over(): SendError {
    return new SendError("over", "nobody waits for this stream any more");
  }

  /** @internal */
  static tooLarge(size: number, limit: number): SendError {
    const message = `the chunk has ${String(size)} bytes, the limit is ${String(limit)}: send smaller chunks`;
    return new SendError("tooLarge", message);
  }
}

/** A plugin describes itself wrongly: a name that no capability can have, or two handlers for one thing. */
export class DefinitionError extends Error {
  /** Made by the SDK alone. */
  constructor(message: string) {
    super(message);
    this.name = "DefinitionError";
  }
}

/** The environment is not one that a plugin can run in. */
export class EnvironmentError extends Error {
  /** Made by the SDK alone. */
  constructor(message: string) {
    super(message);
    this.name = "EnvironmentError";
  }
}

/** Why a plugin ended. */
export type RunErrorReason =
  /** The environment lacks what the host sets. */
  | "environment"
  /** The plugin describes itself wrongly. */
  | "definition"
  /** The host refused the registration; another try would meet the same answer. */
  | "rejected"
  /** No session could be had with the host for too long. */
  | "unreachable";

/** A plugin ended other than by being told to. */
export class RunError extends Error {
  /** Why. */
  readonly reason: RunErrorReason;
  /** The host's code of a refusal, or the WebSocket close code where it gave no other. */
  readonly code: string | undefined;

  /** Made by the SDK alone. */
  constructor(reason: RunErrorReason, message: string, options: { code?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = "RunError";
    this.reason = reason;
    this.code = options.code;
  }

  /**
   * The process's exit code, in the manner of `sysexits.h`: 78 where something must be changed before
   * another launch can work, 69 where the host is away.
   */
  get exitCode(): number {
    return this.reason === "unreachable" ? 69 : 78;
  }
}

/** What a handler's failure answers; `undefined` where the handler broke instead of refusing. */
export function answerOf(problem: unknown): WireError | undefined {
  try {
    return refusalOf(problem);
  } catch {
    // Only a proxy throws when it is asked what it is.
    return undefined;
  }
}

function refusalOf(problem: unknown): WireError | undefined {
  if (problem instanceof WireError) {
    return problem;
  }
  if (problem instanceof CallError) {
    const code = problem.reason === "timedOut" ? ErrorCode.Timeout : ErrorCode.PluginError;
    return new WireError(code, problem.message);
  }
  if (problem instanceof SendError) {
    const code = problem.reason === "over" ? ErrorCode.Cancelled : ErrorCode.PayloadTooLarge;
    return new WireError(code, problem.message);
  }
  return undefined;
}

/** What an error says; anything can be thrown. */
export function messageOf(problem: unknown): string {
  return shown(() => (problem instanceof Error ? problem.message : inspect(problem)));
}

/** What an error says to whoever looks for its cause. */
export function stackOf(problem: unknown): string {
  return shown(() => (problem instanceof Error ? (problem.stack ?? problem.message) : inspect(problem)));
}

/** To look at what was thrown may throw in its turn, which must not hide that something failed. */
function shown(text: () => unknown): string {
  try {
    return String(text());
  } catch {
    return "what was thrown cannot be shown";
  }
}
