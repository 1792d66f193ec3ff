// What a plugin is, and how it runs: its capabilities, its settings, what else it registers.
//
// The class of this file is the way into the SDK. Mistakes in it (a name that no capability can have, two
// handlers for one) come out when it runs, as a {@link RunError}.

import {
  type AnswerHandler,
  Capability,
  type CapabilityDefinition,
  type CapabilityOptions,
  Handlers,
  type StreamHandler,
} from "./capability.js";
import { type BackupHandler, capabilityOfBackup } from "./backup.js";
import { type AnySettings, Configuration, refuseSettings } from "./config.js";
import { checkBusUrl, Environment } from "./environment.js";
import { DefinitionError, EnvironmentError, messageOf, RunError, stackOf } from "./error.js";
import { Host } from "./host.js";
import { intoJson } from "./json.js";
import { Logs, takeKeptOfConsole } from "./log.js";
import { ErrorCode, WireError } from "./protocol/error.js";
import type * as message from "./protocol/message.js";
import type { Model, Register, Route, Tool, UiSlot } from "./protocol/message.js";
import { capabilityName } from "./protocol/name.js";
import type { JsonObject, RawJson } from "./protocol/raw-json.js";
import { type Dialler, keepRegistered, SocketDialler } from "./reconnect.js";
import { Request } from "./request.js";
import type { Session, Ticket } from "./session.js";
import { endsWithin } from "./time.js";

/** How long a plugin tries to get a session before it ends, in milliseconds. The host restarts what it launched. */
const PATIENCE_MS = 30_000;
/** How long work may take to notice that the plugin is over, in milliseconds. */
const WORK_ENDS_WITHIN_MS = 1_000;

/** What a plugin is beside its capabilities. */
export interface PluginOptions {
  /** The plugin's own version. */
  version?: string;
  /**
   * Takes settings, also while it runs: {@link Settings}. Keep them to read them. Where they have a check,
   * the host asks it before it saves any.
   */
  settings?: AnySettings;
  /** The JSON Schema of the settings, where the plugin's `plugin.json` does not carry it. */
  configSchema?: object;
  /** Facts about the plugin for whoever looks at its registration. */
  meta?: JsonObject;
  /** Models with all that is known of them. */
  models?: readonly Model[];
  /** Functions for language models. The host keeps them, and does not act upon them yet. */
  tools?: readonly Tool[];
  /** Names of real-time channels. The host keeps them, and does not act upon them yet. */
  channels?: readonly string[];
  /** Pages and panels for the control centre. The host keeps them, and does not act upon them yet. */
  ui?: readonly UiSlot[];
  /**
   * How long the plugin tries to get a session with a host that is away before it ends, in milliseconds; 30 s
   * unless said. A plugin that nobody launches again wants more.
   */
  patienceMs?: number;
}

/** Work of a plugin's own beside its handlers. */
export type Background = (host: Host) => void | Promise<void>;

/**
 * A plugin, to be put together and run.
 *
 * ```ts
 * import { Plugin } from "bkg-sdk";
 *
 * const plugin = new Plugin({ version: "0.1.0" });
 *
 * plugin.answer("speaker.shout", (request) => String(request.payload).toUpperCase(), {
 *   description: "Says it loudly",
 *   idempotent: true,
 *   routes: [["POST", "/shout"]],
 * });
 *
 * plugin.stream("speaker.spell", async (request, chunks) => {
 *   for (const letter of String(request.payload)) {
 *     await chunks.send(letter);
 *   }
 * });
 *
 * await plugin.run();
 * ```
 */
export class Plugin {
  readonly #options: PluginOptions;
  readonly #capabilities = new Map<string, CapabilityDefinition>();
  readonly #models: Model[];
  readonly #routes: Route[] = [];
  readonly #background: Background[] = [];
  /** The first mistake in the description. */
  #mistake: DefinitionError | undefined;

  /** A plugin that offers nothing yet. Its name comes from the host. */
  constructor(options: PluginOptions = {}) {
    this.#options = options;
    this.#models = [...(options.models ?? [])];
  }

  /** Answers a capability with one value. With {@link Plugin.stream} of the same name it becomes one that does both. */
  answer(capability: string, handler: AnswerHandler, options: CapabilityOptions = {}): this {
    return this.#define(capability, { ...options, answer: handler });
  }

  /** Answers a capability in chunks; its routes are streaming ones. */
  stream(capability: string, handler: StreamHandler, { routes = [], ...options }: CapabilityOptions = {}): this {
    return this.#define(capability, { ...options, stream: handler, streamingRoutes: routes });
  }

  /** Answers a capability. */
  capability({ name, definition }: Capability): this {
    return this.#define(name, definition);
  }

  /**
   * Takes part in backups of the host: short for the capability `lifecycle.backup`, which the plugin's entry
   * must list.
   *
   * The handler writes a copy of all that the plugin keeps below the directory that it is given, whole and as
   * of one moment; the files that it leaves there go into the backup. Only the host asks for it.
   *
   * ```ts
   * import { copyFile } from "node:fs/promises";
   * import { join } from "node:path";
   * import { Plugin } from "bkg-sdk";
   *
   * const plugin = new Plugin().backup((directory) => copyFile("notes.txt", join(directory, "notes.txt")));
   * ```
   */
  backup(handler: BackupHandler): this {
    return this.capability(capabilityOfBackup(handler));
  }

  #define(name: string, definition: CapabilityDefinition): this {
    const known = this.#capabilities.get(name);
    const isTwice =
      (known?.answer !== undefined && definition.answer !== undefined) ||
      (known?.stream !== undefined && definition.stream !== undefined);
    if (isTwice) {
      this.#wrong(new DefinitionError(`the capability \`${name}\` is defined twice: give it one handler of each kind`));
    }
    this.#capabilities.set(name, { ...known, ...definition });
    return this;
  }

  /** Offers a model that a capability answers for. */
  model(id: string, capability: string): this {
    this.#named(capability);
    this.#models.push({ id, capability });
    return this;
  }

  /**
   * Binds an HTTP route below `/api/plugins/<name>` to a capability. `{name}` in the path stands for one
   * segment, `{*name}` at its end for all that is left. See also {@link CapabilityOptions.routes}.
   */
  route(method: string, path: string, capability: string, options: { streaming?: boolean } = {}): this {
    this.#named(capability);
    this.#routes.push({ method, path, capability, streaming: options.streaming === true });
    return this;
  }

  /**
   * Work of the plugin's own beside its handlers. It starts with the plugin; when {@link Host.stopping} says
   * so it has a second to end, then nobody waits for it. What it throws is logged.
   *
   * ```ts
   * import { setTimeout } from "node:timers/promises";
   * import { Plugin } from "bkg-sdk";
   *
   * const plugin = new Plugin();
   * plugin.background(async (host) => {
   *   while (!host.stopping.aborted) {
   *     host.publish("clock.tick", null);
   *     await setTimeout(1_000, undefined, { signal: host.stopping }).catch(() => undefined);
   *   }
   * });
   * ```
   */
  background(work: Background): this {
    this.#background.push(work);
    return this;
  }

  #named(capability: string): void {
    try {
      capabilityName(capability);
    } catch (problem) {
      this.#wrong(new DefinitionError(messageOf(problem)));
    }
  }

  #wrong(mistake: DefinitionError): void {
    this.#mistake ??= mistake;
  }

  /**
   * Runs the plugin in this process until the host or a signal ends it, and ends the process: reads the
   * environment, and sends what `console` writes at `info` and above to the host (`BKG_LOG` chooses another
   * level). The exit code says why it ended: see {@link RunError.exitCode}. A promise that fails and that nobody
   * waited for is a line in the log; an exception that nobody catches ends the process with 70.
   */
  async run(): Promise<never> {
    const stop = new AbortController();
    const signal = (): void => stop.abort();
    process.on("SIGTERM", signal);
    process.on("SIGINT", signal);
    process.on("unhandledRejection", forgotten);
    process.on("uncaughtException", broken);
    // Waiting for a promise alone does not keep a process.
    setInterval(() => undefined, 1 << 30);
    let code = 0;
    try {
      const environment = ofProcess();
      await this.#serveOver(dialler(environment), environment, stop.signal, true);
    } catch (problem) {
      // The host reads what a launch writes; there may be no session to log to.
      complain(`error: ${messageOf(problem)}`);
      code = problem instanceof RunError ? problem.exitCode : 70;
    }
    return process.exit(code);
  }

  /**
   * Runs the plugin until the host ends it or `shutdown` is aborted; then work in hand has 5 s to finish.
   * `console` stays as it is.
   *
   * @throws RunError why it could not go on.
   */
  async serve(environment: Environment, shutdown?: AbortSignal): Promise<void> {
    await this.#serveOver(dialler(environment), environment, shutdown, false);
  }

  /** @internal The same over any link, for tests. */
  serveOver(over: Dialler, environment: Environment, shutdown: AbortSignal, bridges: boolean): Promise<void> {
    return this.#serveOver(over, environment, shutdown, bridges);
  }

  async #serveOver(
    over: Dialler,
    environment: Environment,
    shutdown = new AbortController().signal,
    bridges: boolean,
  ): Promise<void> {
    const logs = new Logs(environment.name);
    const running = this.#start(environment, logs);
    const unbridge = bridges ? logs.bridgeConsole() : (): void => undefined;
    try {
      running.begin(this.#background);
      await keepRegistered(over, running, this.#options.patienceMs ?? PATIENCE_MS, shutdown);
    } finally {
      await running.end();
      unbridge();
      if (bridges) {
        for (const line of logs.takeKept()) {
          complain(line);
        }
      }
    }
  }

  #start(environment: Environment, logs: Logs): Running {
    const { version, settings, configSchema, meta, tools, channels, ui } = this.#options;
    const handlers = new Map<string, Handlers>();
    try {
      if (this.#mistake !== undefined) {
        throw this.#mistake;
      }
      for (const [name, definition] of this.#capabilities) {
        handlers.set(name, new Handlers(new Capability(name, definition)));
      }
    } catch (mistake) {
      throw new RunError("definition", messageOf(mistake), { cause: mistake });
    }
    const registration: Register = {
      plugin: environment.name,
      capabilities: [...handlers.values()].map((handler) => handler.description),
      meta: {
        ...meta,
        ...(settings && { hotConfig: true }),
        ...(settings?.hasCheck === true && { configDryRun: true }),
      },
      configSchema: configSchema && intoJson(configSchema),
      version,
      models: [...this.#models],
      routes: [...[...handlers.values()].flatMap((handler) => handler.routes), ...this.#routes],
      tools: [...(tools ?? [])],
      channels: [...(channels ?? [])],
      ui: [...(ui ?? [])],
    };
    return new Running(new Host(environment, logs, registration), logs, handlers, settings);
  }
}

/** A plugin at work: what its sessions share. */
export class Running {
  readonly host: Host;
  readonly logs: Logs;
  readonly #handlers: ReadonlyMap<string, Handlers>;
  readonly #configuration: Configuration | undefined;
  /** Everything that runs beside the session. */
  readonly #work = new Set<Promise<void>>();

  constructor(host: Host, logs: Logs, handlers: ReadonlyMap<string, Handlers>, settings: AnySettings | undefined) {
    this.host = host;
    this.logs = logs;
    this.#handlers = handlers;
    this.#configuration = settings && new Configuration(settings, host, logs);
  }

  /** Starts the plugin's own work. */
  begin(background: readonly Background[]): void {
    for (const work of background) {
      this.#follow(
        (async () => {
          try {
            await work(this.host);
          } catch (problem) {
            if (!this.host.stopping.aborted) {
              const message = `work in the background failed: ${messageOf(problem)}`;
              this.host.log("error", message, { stack: stackOf(problem) });
            }
          }
        })(),
      );
    }
  }

  #follow(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }

  /** Hands a request to its handler. */
  dispatch(request: message.Request, ticket: Ticket, session: Session): void {
    const handlers = this.#handlers.get(request.capability);
    if (handlers === undefined) {
      const problem = `this plugin does not answer \`${request.capability}\``;
      const error = new WireError(ErrorCode.NotFound, problem);
      session.answer(request.requestId, { ok: false, error });
      return;
    }
    const configuration = this.#configuration;
    const ready = configuration?.isReady === false ? configuration.ready(ticket.signal) : undefined;
    this.#follow(handlers.work(new Request(request, ticket, session, this.host), ticket, session, this.logs, ready));
  }

  /** The settings that came with a registration. */
  registered(revision: number, config: RawJson): void {
    this.#configuration?.offer({ revision, config });
  }

  /** Settings that the host sent later. */
  takeConfig(config: message.Config, session: Session): void {
    if (this.#configuration === undefined) {
      // Not asked for: `meta.hotConfig` is not set. To claim success would be a lie.
      refuseSettings(config, session);
    } else {
      this.#configuration.offer(config, session);
    }
  }

  /** Tells all work to end, and waits a moment for it. */
  async end(): Promise<void> {
    this.host.close();
    await endsWithin(Promise.allSettled(this.#work), WORK_ENDS_WITHIN_MS);
  }
}

function ofProcess(): Environment {
  try {
    return Environment.ofProcess();
  } catch (problem) {
    throw problem instanceof EnvironmentError ? environmentWrong(problem) : problem;
  }
}

function dialler(environment: Environment): Dialler {
  try {
    checkBusUrl(environment.busUrl);
  } catch (problem) {
    throw environmentWrong(problem);
  }
  return new SocketDialler(environment.busUrl);
}

function environmentWrong(problem: unknown): RunError {
  return new RunError("environment", messageOf(problem), { cause: problem });
}

/** Node would end the process, and every other request with it. */
function forgotten(problem: unknown): void {
  console.error(`a promise that nobody waited for failed: ${messageOf(problem)}`, { stack: stackOf(problem) });
}

/** Whatever was half done stays so: the host launches the plugin anew. */
function broken(problem: unknown): void {
  for (const line of takeKeptOfConsole()) {
    complain(line);
  }
  complain(`error: nobody caught: ${stackOf(problem)}`);
  process.exit(70);
}

/** Writes a line where the host keeps what a launch writes. On Linux that is done when it returns. */
function complain(line: string): void {
  process.stderr.write(`${line}\n`);
}
