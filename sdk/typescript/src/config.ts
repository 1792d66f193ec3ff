// The plugin's settings: typed, current, and changed while it runs.
//
// The host owns them; here they are read, offered to the plugin, and put in force or refused. The invariant:
// `configApplied` with success is said after the settings are in force, a dry run puts nothing in force, and
// what {@link Settings.get} answers has passed the plugin's own check.

import { messageOf } from "./error.js";
import type { Host } from "./host.js";
import type { Logs } from "./log.js";
import { ErrorCode, WireError } from "./protocol/error.js";
import type { Config } from "./protocol/message.js";
import type { Json, RawJson } from "./protocol/raw-json.js";
import type { Session } from "./session.js";

/** How settings are read and checked. */
export interface SettingsOptions<T> {
  /**
   * Makes the settings of the host's JSON, which is `null` or an object; what it throws is why they are
   * refused. Without it, members that are absent keep the initial value, and each that is there must be of
   * the initial value's kind.
   */
  read?: (json: Json) => T;
  /**
   * Offers new settings to the plugin before they are in force. It may take its time, for example to open
   * what the settings name; what it throws is shown to the operator, and the settings stay as they were.
   *
   * The host also asks it about settings that may never be in force, before they are saved: what a check
   * opens it closes again, and what it changes must not matter.
   */
  check?: (offered: T) => void | Promise<void>;
}

/** Settings of whatever type. */
export interface AnySettings {
  /** Puts what the host sent in force, or throws why not. */
  apply(config: RawJson): Promise<void>;
  /** Throws why settings would be refused, and puts nothing in force. */
  dryRun(config: RawJson): Promise<void>;
  /** Whether the plugin has something to say of settings beyond whether they can be read. */
  readonly hasCheck: boolean;
}

/**
 * The plugin's settings as a type of its own, always current.
 *
 * Give them to {@link Plugin} and keep them: the host's settings are read before the first request is
 * answered, and each time it pushes new ones because an operator saved them.
 *
 * ```ts
 * import { Plugin, Settings } from "bkg-sdk";
 *
 * const settings = new Settings({ word: "hello" }, {
 *   check: (offered) => {
 *     if (offered.word === "") throw new Error("`word` must not be empty");
 *   },
 * });
 * const plugin = new Plugin({ settings });
 * plugin.answer("greeter.greet", () => settings.get().word);
 * ```
 */
export class Settings<T extends object> implements AnySettings {
  readonly hasCheck: boolean;
  #current: T;
  readonly #read: (json: Json) => T;
  readonly #check: (offered: T) => void | Promise<void>;
  #version = 0;
  #wakers = new Set<() => void>();

  /** Settings that hold until the host has sent its own. */
  constructor(initial: T, options: SettingsOptions<T> = {}) {
    this.#current = initial;
    this.#read = options.read ?? ((json) => merged(initial, json));
    this.#check = options.check ?? (() => undefined);
    this.hasCheck = options.check !== undefined;
  }

  /** The settings in force. */
  get(): T {
    return this.#current;
  }

  /**
   * The settings after each change from now on; of several changes that were not looked at, the newest. Ends
   * when `signal` is aborted, for example `host.stopping`.
   */
  async *changes(signal?: AbortSignal): AsyncGenerator<T, void> {
    let seen = this.#version;
    while (signal?.aborted !== true) {
      if (seen !== this.#version) {
        seen = this.#version;
        yield this.#current;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#wakers.delete(wake);
          signal?.removeEventListener("abort", wake);
          resolve();
        };
        this.#wakers.add(wake);
        signal?.addEventListener("abort", wake, { once: true });
      });
    }
  }

  /**
   * Reads and checks what the host sent and puts it in force; the SDK calls it.
   *
   * @throws what `read` or `check` throws.
   */
  async apply(config: RawJson): Promise<void> {
    this.#current = await this.#offer(config);
    this.#version += 1;
    for (const wake of [...this.#wakers]) {
      wake();
    }
  }

  /**
   * Reads and checks what the host sent, and leaves it at that; the SDK calls it.
   *
   * @throws what `read` or `check` throws.
   */
  async dryRun(config: RawJson): Promise<void> {
    await this.#offer(config);
  }

  async #offer(config: RawJson): Promise<T> {
    const offered = this.#read(config.read());
    await this.#check(offered);
    return offered;
  }
}

/** The initial settings with the members that the host sent. */
function merged<T extends object>(initial: T, json: Json): T {
  if (json === null) {
    return initial;
  }
  if (typeof json !== "object" || Array.isArray(json)) {
    throw new Error("the settings are not an object");
  }
  const known = new Map<string, unknown>(Object.entries(initial));
  for (const [name, value] of Object.entries(json)) {
    const before = known.get(name);
    if (before !== undefined && before !== null && kind(before) !== kind(value)) {
      throw new Error(`\`${name}\` is ${kind(value)}, and must be ${kind(before)}`);
    }
  }
  // A spread makes members; it does not call what `__proto__` might set.
  return { ...initial, ...json };
}

function kind(value: unknown): string {
  if (value === null) {
    return "null";
  }
  if (Array.isArray(value)) {
    return "a list";
  }
  const words: Record<string, string> = { string: "a text", number: "a number", boolean: "true or false" };
  return words[typeof value] ?? "an object";
}

/**
 * How many changes may wait for the one that is being applied. The host waits for each verdict, so more than
 * a few means that it has given up waiting; the change is refused then.
 */
const WAITING = 8;

/** Settings as they came from the host. */
interface Revision extends Config {
  /** Who is told the verdict; nobody at registration. */
  askedBy: Session | undefined;
}

/** What became of the first settings; later ones that are refused change nothing. */
type Verdict = { is: "waiting" } | { is: "inForce" } | { is: "refused"; error: WireError };

/** Applies settings one after the other, beside everything else that the plugin does. */
export class Configuration {
  readonly #settings: AnySettings;
  readonly #host: Host;
  readonly #logs: Logs;
  #verdict: Verdict = { is: "waiting" };
  #waiting: Revision[] = [];
  #isApplying = false;
  #inForce: RawJson | undefined;
  #whenDecided: (() => void)[] = [];

  constructor(settings: AnySettings, host: Host, logs: Logs) {
    this.#settings = settings;
    this.#host = host;
    this.#logs = logs;
  }

  /** Settings that came: with the registration, or later by the session that is to hear the verdict. */
  offer(config: Config, askedBy?: Session): void {
    const revision = { ...config, askedBy };
    if (this.#waiting.length >= WAITING) {
      const problem = "earlier settings are still being applied: send them again later";
      report(revision, new WireError(ErrorCode.Overloaded, problem));
      return;
    }
    this.#waiting.push(revision);
    void this.#applyInTurn();
  }

  /**
   * Resolves when requests can be answered under the host's settings.
   *
   * @throws WireError where they could not be put in force.
   */
  async ready(signal: AbortSignal): Promise<void> {
    if (this.#verdict.is === "waiting") {
      await new Promise<void>((resolve) => {
        this.#whenDecided.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    if (this.#verdict.is === "refused") {
      const problem = `the plugin's settings are not in force: ${this.#verdict.error.message}`;
      throw new WireError(ErrorCode.PluginError, problem);
    }
  }

  /** Whether {@link Configuration.ready} need not be waited for. */
  get isReady(): boolean {
    return this.#verdict.is === "inForce";
  }

  async #applyInTurn(): Promise<void> {
    if (this.#isApplying) {
      return;
    }
    this.#isApplying = true;
    for (let revision = this.#waiting.shift(); revision !== undefined; revision = this.#waiting.shift()) {
      report(revision, await this.#apply(revision));
    }
    this.#isApplying = false;
  }

  async #apply({ revision, config, dryRun }: Revision): Promise<WireError | undefined> {
    // A plugin that comes back after a broken link gets the settings that it has.
    if (this.#inForce?.equals(config) === true) {
      return undefined;
    }
    try {
      await (dryRun === true ? this.#settings.dryRun(config) : this.#settings.apply(config));
    } catch (problem) {
      const error = problem instanceof WireError ? problem : new WireError(ErrorCode.InvalidConfig, messageOf(problem));
      if (dryRun === true) {
        return error;
      }
      this.#logs.note("warn", "settings refused", { revision, problem: error.message });
      if (this.#verdict.is !== "inForce") {
        this.#host.setSettingsProblem(error.message);
        this.#decide({ is: "refused", error });
      }
      return error;
    }
    if (dryRun === true) {
      return undefined;
    }
    this.#logs.note("debug", "settings in force", { revision });
    this.#inForce = config;
    this.#host.setSettingsProblem(undefined);
    this.#decide({ is: "inForce" });
    return undefined;
  }

  #decide(verdict: Verdict): void {
    this.#verdict = verdict;
    const waiting = this.#whenDecided;
    this.#whenDecided = [];
    for (const wake of waiting) {
      wake();
    }
  }
}

/** Answers settings that were pushed to a plugin which takes none. */
export function refuseSettings(config: Config, session: Session): void {
  const problem = "this plugin takes settings only when it starts: restart it to put them in force";
  report({ ...config, askedBy: session }, new WireError(ErrorCode.InvalidConfig, problem));
}

function report({ revision, dryRun, askedBy }: Revision, error: WireError | undefined): void {
  askedBy?.say({ type: "configApplied", revision, success: error === undefined, error, dryRun });
}
