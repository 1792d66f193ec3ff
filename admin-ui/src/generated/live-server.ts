// Written by `scripts/generate` from `crates/bkg/schemas`: change the routes or messages instead.

/**
 * What the daemon says.
 */
export type LiveServerMessage =
    | {
          type: "bootstrap";
          payload: Bootstrap;
      }
    | {
          type: "subscribed";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin; none for all.
           */
          pluginId: string | null;
          /**
           * The number after which events come; none if what comes first is a fresh snapshot.
           */
          from: Position | null;
      }
    | {
          type: "unsubscribed";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin; none for all.
           */
          pluginId: string | null;
      }
    | {
          type: "pong";
      }
    | {
          type: "error";
          /**
           * One of the codes of `docs/errors`.
           */
          code: string;
          /**
           * What happened, to what, and what to do next.
           */
          message: string;
          /**
           * The topic that it is about.
           */
          topic: Topic | null;
          /**
           * The plugin that it is about.
           */
          pluginId: string | null;
      }
    | {
          type: "gap";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * Of which plugin.
           */
          pluginId: string | null;
          /**
           * How many events, or log lines; of `telemetry`, those of all plugins together.
           */
          missed: number;
      }
    | {
          type: "status";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin.
           */
          pluginId: string | null;
          /**
           * Counts the changes of all plugins in this run of the daemon.
           */
          seq: number;
          payload: Plugin1;
      }
    | {
          type: "logs";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin.
           */
          pluginId: string | null;
          /**
           * The number of the last line that was looked at; `level` may have left that one out.
           */
          seq: number;
          payload: LogBatch;
      }
    | {
          type: "telemetry";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * The plugin.
           */
          pluginId: string | null;
          /**
           * Counts the samples of all plugins in this run of the daemon.
           */
          seq: number;
          payload: Sample1;
      }
    | {
          type: "audit";
          /**
           * What can be followed.
           */
          topic: "status" | "logs" | "telemetry" | "audit";
          /**
           * None.
           */
          pluginId: string | null;
          /**
           * The row's number.
           */
          seq: number;
          payload: AuditRow;
      };
/**
 * What can be followed.
 */
export type Topic = "status" | "logs" | "telemetry" | "audit";
/**
 * When a plugin is started again after it ended.
 */
export type RestartPolicy = "always" | "on-failure" | "never";
/**
 * What enforces one limit.
 */
export type Means = "cgroup-v2" | "cgroup-v1" | "rlimit" | "none";
/**
 * A place in the events of a topic.
 */
export type Position =
    | number
    | {
          [k: string]: number;
      };

/**
 * How things are.
 */
export interface Bootstrap {
    /**
     * Names this run of the daemon.
     */
    epoch: string;
    /**
     * What the caller may follow.
     */
    topics: Topic[];
    /**
     * The plugins, as `GET /admin/plugins` answers them; none without the scope for it.
     */
    plugins: Plugin[];
    sequences: Sequences;
}
/**
 * A plugin, as `GET /admin/plugins/{name}` shows it.
 */
export interface Plugin {
    /**
     * Its name; of a folder that cannot be used, what it would be called.
     */
    name: string;
    /**
     * Its state, or `shadowed` or `broken` for a folder that cannot be used.
     */
    status:
        | "stopped"
        | "preparing"
        | "starting"
        | "running"
        | "degraded"
        | "draining"
        | "unresponsive"
        | "backoff"
        | "failed"
        | "broken"
        | "shadowed";
    /**
     * One sentence on how the state came to be.
     */
    reason: string | null;
    /**
     * Since when it is in this state.
     */
    since: string | null;
    /**
     * How often it was started again since someone last started it.
     */
    restarts: number;
    /**
     * What it is for, in its author's words.
     */
    description: string;
    /**
     * Its version: as it registered, else as its entry says.
     */
    version: string;
    /**
     * The real path of its folder.
     */
    folder: string;
    /**
     * Whether it starts with the host.
     */
    autostart: boolean;
    /**
     * When it is started again; null for a folder that cannot be used.
     */
    restart: RestartPolicy | null;
    /**
     * What it registered, or may register while no instance is there.
     */
    capabilities: string[];
    /**
     * The models that it serves.
     */
    models: Model[];
    /**
     * Its registered instances, oldest first.
     */
    instances: Instance[];
    /**
     * The newest sample of each launch that has processes, registered or not.
     */
    resources: Sample[];
    /**
     * How many requests wait for a free place.
     */
    queued: number;
    /**
     * Its effective entry; secrets read as `{"$secret": true}`.
     */
    config: {
        [k: string]: unknown;
    } | null;
    /**
     * The number of its saved revision; 0 where nothing was saved.
     */
    revision: number;
    /**
     * Whether a process of it runs with something else than this entry.
     */
    restartNeeded: boolean;
    /**
     * The JSON Schema of its settings.
     */
    configSchema: {
        [k: string]: unknown;
    } | null;
    /**
     * The swap of versions that is under way, else the last one since the host started.
     */
    swap: Swap | null;
    /**
     * Why the folder is no usable plugin.
     */
    error?: string | null;
}
/**
 * A model that a plugin serves.
 */
export interface Model {
    /**
     * The id that clients name; it may contain slashes.
     */
    id: string;
    /**
     * Which capability answers for it: `llm.chat` or `llm.embed`.
     */
    capability: string;
    /**
     * Whom `/v1/models` names as owner; the plugin, if absent.
     */
    ownedBy?: string | null;
    /**
     * How many tokens fit, prompt and answer together.
     */
    contextLength?: number | null;
    /**
     * The length of its embedding vectors.
     */
    dimensions?: number | null;
}
/**
 * One registered instance of a plugin.
 */
export interface Instance {
    /**
     * The launch.
     */
    id: string;
    /**
     * Its process, where the host started it.
     */
    pid: number | null;
    /**
     * What keeps its processes together, and what enforces its limits; null for one that the host did
     * not start.
     */
    confinement: Confinement | null;
    /**
     * How it feels.
     */
    status: "healthy" | "degraded" | "draining" | "down";
    /**
     * When it registered.
     */
    since: string;
    /**
     * How many requests it has not answered yet.
     */
    inFlight: number;
    /**
     * Which contract it speaks: `base` or `extended`.
     */
    contract: "base" | "extended";
    /**
     * How it is known to be of the launch: `process`, or `first-come` where the first that dialled was
     * taken.
     */
    identity: "process" | "first-come";
    /**
     * Where it listens itself.
     */
    port: number | null;
    /**
     * The figures that it last gave of itself.
     */
    telemetry: Telemetry | null;
    events: EventFigures;
    dropped: DroppedFrames;
}
/**
 * How one launch is confined.
 */
export interface Confinement {
    /**
     * What tells which processes belong to the launch.
     */
    group: "cgroup-v2" | "cgroup-v1" | "process-group";
    limits: LimitMeans;
    /**
     * What could not be done as wanted, one sentence each.
     */
    notes: string[];
}
/**
 * What enforces each limit of the entry; null where the entry sets none.
 */
export interface LimitMeans {
    /**
     * `memoryMb`.
     */
    memory: Means | null;
    /**
     * `cpuPercent`.
     */
    cpu: Means | null;
    /**
     * `pids`.
     */
    pids: Means | null;
    /**
     * `files`.
     */
    files: Means | null;
}
/**
 * `telemetry`: figures about the plugin's own process.
 */
export interface Telemetry {
    /**
     * The plugin's name.
     */
    plugin?: string | null;
    /**
     * Processor time, in percent of one core. What is no number reads as absent.
     */
    cpu?: number | null;
    /**
     * Resident memory in bytes. What is no number reads as absent.
     */
    mem_bytes?: number | null;
    [k: string]: unknown;
}
/**
 * What it told others and heard of them.
 */
export interface EventFigures {
    /**
     * The topics that it subscribed to, also those that its entry does not let it hear of.
     */
    topics: string[];
    /**
     * How many events it published.
     */
    published: number;
    /**
     * How many were written to it.
     */
    delivered: number;
    /**
     * How many wait to be written.
     */
    waiting: number;
    /**
     * How many it missed because it did not read fast enough.
     */
    missed: number;
    /**
     * How many exceed the frame that it takes.
     */
    tooLarge: number;
    /**
     * How often it said something about topics that it may not say.
     */
    refused: number;
}
/**
 * What it sent to no effect.
 */
export interface DroppedFrames {
    /**
     * For requests that were given up before; nothing is wrong.
     */
    late: number;
    /**
     * For requests that it was never asked, or has answered already.
     */
    unknownRequest: number;
    /**
     * Requests under an id of which one is open.
     */
    duplicateRequest: number;
    /**
     * Of a type that this version does not know.
     */
    unknownType: number;
    /**
     * Not allowed for it, or not at that moment.
     */
    outOfPlace: number;
    /**
     * Not readable: no JSON, not as their type says, or binary.
     */
    unreadable: number;
}
/**
 * What the processes of one launch used and held at one moment, added up.
 */
export interface Sample {
    /**
     * Grows by one with every sample of any plugin while the daemon runs, from 1.
     */
    seq: number;
    /**
     * When it was taken.
     */
    at: string;
    /**
     * Whose launch it is.
     */
    plugin: string;
    /**
     * The launch.
     */
    instance: string;
    /**
     * Processor time since the sample before (or since the launch began), in percent of one core: two
     * busy cores are 200.
     */
    cpuPercent: number;
    /**
     * Resident memory in bytes. What processes share is counted for each of them.
     */
    rssBytes: number;
    /**
     * Open descriptors; those of processes that may not be looked into are left out.
     */
    fds: number;
    /**
     * Threads.
     */
    threads: number;
    /**
     * Processes that are alive.
     */
    processes: number;
}
/**
 * A swap as operators see it: the one that is under way, else the last one.
 */
export interface Swap {
    /**
     * Its number, counted for each plugin since the host started.
     */
    number: number;
    /**
     * How far it is, or how it ended.
     */
    state:
        | "starting"
        | "sharing"
        | "holding"
        | "draining"
        | "swapped"
        | "rolled-back"
        | "restarted"
        | "superseded";
    /**
     * Why it was ordered.
     */
    why: string;
    /**
     * Since when it is in this state.
     */
    since: string;
    /**
     * The share of requests that the new version is tried with.
     */
    share?: ShareStory | null;
    /**
     * The version before.
     */
    from?: VersionStory | null;
    /**
     * The version that is to take over.
     */
    to?: VersionStory | null;
    /**
     * One sentence on what it waits for, or why it was rolled back.
     */
    reason?: string | null;
    /**
     * How many requests the version before had not answered when it was ended.
     */
    cut?: number | null;
}
/**
 * A share of requests and how long it lasts.
 */
export interface ShareStory {
    /**
     * How many of 100 requests.
     */
    percent: number;
    /**
     * For how long, in milliseconds.
     */
    observeMs: number;
}
/**
 * A version of a plugin.
 */
export interface VersionStory {
    /**
     * As it registered, else as its entry says; empty where neither says.
     */
    version: string;
    /**
     * The revision of its entry; 0 where nothing was saved.
     */
    revision: number;
}
/**
 * The numbers that things have come to: a `SUB` with one of them as `since` misses nothing.
 */
export interface Sequences {
    /**
     * Of `status`.
     */
    status?: number | null;
    /**
     * Of `telemetry`.
     */
    telemetry?: number | null;
    /**
     * Of `audit`.
     */
    audit?: number | null;
    /**
     * Of `logs`, by plugin.
     */
    logs?: {
        [k: string]: number;
    };
}
/**
 * A plugin, as `GET /admin/plugins/{name}` shows it.
 */
export interface Plugin1 {
    /**
     * Its name; of a folder that cannot be used, what it would be called.
     */
    name: string;
    /**
     * Its state, or `shadowed` or `broken` for a folder that cannot be used.
     */
    status:
        | "stopped"
        | "preparing"
        | "starting"
        | "running"
        | "degraded"
        | "draining"
        | "unresponsive"
        | "backoff"
        | "failed"
        | "broken"
        | "shadowed";
    /**
     * One sentence on how the state came to be.
     */
    reason: string | null;
    /**
     * Since when it is in this state.
     */
    since: string | null;
    /**
     * How often it was started again since someone last started it.
     */
    restarts: number;
    /**
     * What it is for, in its author's words.
     */
    description: string;
    /**
     * Its version: as it registered, else as its entry says.
     */
    version: string;
    /**
     * The real path of its folder.
     */
    folder: string;
    /**
     * Whether it starts with the host.
     */
    autostart: boolean;
    /**
     * When it is started again; null for a folder that cannot be used.
     */
    restart: RestartPolicy | null;
    /**
     * What it registered, or may register while no instance is there.
     */
    capabilities: string[];
    /**
     * The models that it serves.
     */
    models: Model[];
    /**
     * Its registered instances, oldest first.
     */
    instances: Instance[];
    /**
     * The newest sample of each launch that has processes, registered or not.
     */
    resources: Sample[];
    /**
     * How many requests wait for a free place.
     */
    queued: number;
    /**
     * Its effective entry; secrets read as `{"$secret": true}`.
     */
    config: {
        [k: string]: unknown;
    } | null;
    /**
     * The number of its saved revision; 0 where nothing was saved.
     */
    revision: number;
    /**
     * Whether a process of it runs with something else than this entry.
     */
    restartNeeded: boolean;
    /**
     * The JSON Schema of its settings.
     */
    configSchema: {
        [k: string]: unknown;
    } | null;
    /**
     * The swap of versions that is under way, else the last one since the host started.
     */
    swap: Swap | null;
    /**
     * Why the folder is no usable plugin.
     */
    error?: string | null;
}
/**
 * The lines.
 */
export interface LogBatch {
    /**
     * The lines, oldest first.
     */
    lines: LogLine[];
}
/**
 * A line of a plugin's log.
 */
export interface LogLine {
    /**
     * Counts this plugin's lines from 1, over all restarts of the host.
     */
    seq: number;
    /**
     * When the host received it.
     */
    time: string;
    /**
     * Whose log it belongs to.
     */
    plugin: string;
    /**
     * Which launch it comes from or is about.
     */
    instance?: string | null;
    /**
     * How much it matters.
     */
    level: "trace" | "debug" | "info" | "warn" | "error";
    /**
     * How it came.
     */
    stream: "bus" | "stdout" | "stderr" | "host";
    /**
     * The text, without control characters.
     */
    message: string;
    /**
     * Further facts from the plugin.
     */
    fields?: {
        [k: string]: unknown;
    };
    /**
     * The request that it is about.
     */
    requestId?: string | null;
    /**
     * When it happened, says the plugin.
     */
    pluginTime?: string | null;
}
/**
 * What the processes of one launch used and held at one moment, added up.
 */
export interface Sample1 {
    /**
     * Grows by one with every sample of any plugin while the daemon runs, from 1.
     */
    seq: number;
    /**
     * When it was taken.
     */
    at: string;
    /**
     * Whose launch it is.
     */
    plugin: string;
    /**
     * The launch.
     */
    instance: string;
    /**
     * Processor time since the sample before (or since the launch began), in percent of one core: two
     * busy cores are 200.
     */
    cpuPercent: number;
    /**
     * Resident memory in bytes. What processes share is counted for each of them.
     */
    rssBytes: number;
    /**
     * Open descriptors; those of processes that may not be looked into are left out.
     */
    fds: number;
    /**
     * Threads.
     */
    threads: number;
    /**
     * Processes that are alive.
     */
    processes: number;
}
/**
 * The row, as `GET /admin/audit` answers it.
 */
export interface AuditRow {
    /**
     * Its number; the first is 1, and there are no gaps.
     */
    seq: number;
    /**
     * When it was written.
     */
    at: string;
    /**
     * What it says of its action.
     */
    kind: "intended" | "done" | "failed" | "unknown";
    /**
     * The id that an intent shares with its end: the `operationId`. `None` for an action that was
     * written together with its outcome.
     */
    intent: string | null;
    /**
     * Whose action.
     */
    user: string;
    /**
     * The API key that was used.
     */
    keyId: string | null;
    /**
     * The login that was used.
     */
    sessionId: string | null;
    /**
     * Where the request came from.
     */
    address: string | null;
    /**
     * The action, in dotted words.
     */
    action: string;
    /**
     * To what.
     */
    target: string;
    /**
     * What else is worth knowing.
     */
    detail: {
        [k: string]: unknown;
    };
    /**
     * The request that asked for it.
     */
    requestId: string | null;
    /**
     * The row's code in hexadecimal; see `chain`.
     */
    mac: string;
}
