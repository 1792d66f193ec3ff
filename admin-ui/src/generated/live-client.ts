// Written by `scripts/generate` from `crates/bkg/schemas`: change the routes or messages instead.

/**
 * What a client says.
 */
export type LiveClientMessage =
    | {
          action: "SUB";
          /**
           * What to follow.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin; all that the caller may see, if there is none. Never for `audit`.
           */
          pluginId?: string | null;
          /**
           * The number of the last event that the client has: the first one sent is the next after it.
           */
          since?: Position | null;
          /**
           * The `epoch` of the bootstrap that `since` belongs to; needed with the topics whose numbers
           * begin anew with each run of the daemon, `status` and `telemetry`.
           */
          epoch?: string | null;
          /**
           * The least level of log lines.
           */
          level?: LogLevel | null;
      }
    | {
          action: "UNSUB";
          /**
           * What was followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin.
           */
          pluginId?: string | null;
      }
    | {
          action: "PING";
      };
/**
 * A place in the events of a topic.
 */
export type Position =
    | number
    | {
          [k: string]: number;
      };
/**
 * How much a log line matters.
 */
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";
