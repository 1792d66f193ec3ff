// What the host tells a launch through its environment.
//
// Not the settings: those come over the bus. The invariant: an {@link Environment} names a host and a
// plugin, everything else may be absent and says who sets it when it is asked for.

import { EnvironmentError } from "./error.js";
import { Secret } from "./protocol/message.js";
import { instanceId, pluginName } from "./protocol/name.js";

const BUS_URL = "BKG_PLUGIN_BUS_URL";
const NAME = "BKG_PLUGIN_NAME";
const INSTANCE = "BKG_PLUGIN_INSTANCE";
const TOKEN = "BKG_PLUGIN_TOKEN";
const CONFIG_PATH = "BKG_PLUGIN_CONFIG_PATH";
const DATA_DIR = "BKG_PLUGIN_DATA_DIR";

/** What an {@link Environment} is made of. */
export interface EnvironmentOptions {
  /** Where to dial: `ws://host:port`. */
  busUrl: string;
  /** The plugin's name, as in its entry. */
  name: string;
  /** Proves the first registration of this launch. */
  token: Secret | string;
  /** The id of this launch. */
  instance?: string;
  /** The file with the plugin's whole entry. */
  configPath?: string;
  /** Where the plugin may keep data of its own. */
  dataDir?: string;
}

/**
 * What the host tells a launch: where it listens, and who the plugin is.
 *
 * ```ts
 * import { Environment } from "bkg-sdk";
 *
 * const environment = new Environment({ busUrl: "ws://127.0.0.1:4100", name: "greeter", token: "the launch token" });
 * ```
 */
export class Environment {
  /** `BKG_PLUGIN_BUS_URL`: where to dial. */
  readonly busUrl: string;
  /** `BKG_PLUGIN_NAME`: the plugin's name, as in its entry. */
  readonly name: string;
  /** `BKG_PLUGIN_TOKEN`: proves the first registration of this launch. */
  readonly token: Secret;
  readonly #instance: string | undefined;
  readonly #configPath: string | undefined;
  readonly #dataDir: string | undefined;

  /**
   * An environment for hosts that are not the daemon.
   *
   * @throws EnvironmentError where no plugin can have the name, or no launch the id.
   */
  constructor(options: EnvironmentOptions) {
    this.busUrl = options.busUrl;
    this.name = named(NAME, options.name, pluginName);
    this.token = typeof options.token === "string" ? new Secret(options.token) : options.token;
    this.#instance = options.instance === undefined ? undefined : named(INSTANCE, options.instance, instanceId);
    this.#configPath = options.configPath;
    this.#dataDir = options.dataDir;
  }

  /**
   * Reads the variables of this process, or of `variables`.
   *
   * @throws EnvironmentError for the first variable that is absent or wrong.
   */
  static ofProcess(variables: Readonly<Record<string, string | undefined>> = process.env): Environment {
    const needed = (variable: string): string => variables[variable] ?? absent(variable);
    return new Environment({
      busUrl: needed(BUS_URL),
      name: needed(NAME),
      token: needed(TOKEN),
      ...optional("instance", variables[INSTANCE]),
      ...optional("configPath", variables[CONFIG_PATH]),
      ...optional("dataDir", variables[DATA_DIR]),
    });
  }

  /**
   * `BKG_PLUGIN_INSTANCE`: the id of this launch.
   *
   * @throws EnvironmentError where the variable is not set.
   */
  get instance(): string {
    return this.#instance ?? absent(INSTANCE);
  }

  /**
   * `BKG_PLUGIN_CONFIG_PATH`: the file with the plugin's whole effective entry.
   *
   * @throws EnvironmentError where the variable is not set.
   */
  get configPath(): string {
    return this.#configPath ?? absent(CONFIG_PATH);
  }

  /**
   * `BKG_PLUGIN_DATA_DIR`: the plugin's private directory, which persists.
   *
   * @throws EnvironmentError where the variable is not set.
   */
  get dataDir(): string {
    return this.#dataDir ?? absent(DATA_DIR);
  }
}

/** Refuses a URL that cannot be dialled. */
export function checkBusUrl(text: string): void {
  const wrong = (problem: string): never => {
    throw new EnvironmentError(`\`${BUS_URL}\`: \`${text}\` is not a \`ws://host:port\` URL: ${problem}`);
  };
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return wrong("it is no URL");
  }
  if (url.protocol !== "ws:") {
    return wrong("only `ws` is spoken, over loopback or a tunnel");
  }
}

function absent(variable: string): never {
  throw new EnvironmentError(
    `\`${variable}\` is not set: the host sets it when it launches a plugin, for example by \`bkg plugin start\`; ` +
      "to try a plugin without a host, use `bkg-sdk/testing`",
  );
}

function named(variable: string, text: string, read: (text: string) => string): string {
  try {
    return read(text);
  } catch (problem) {
    throw new EnvironmentError(`\`${variable}\`: ${problem instanceof Error ? problem.message : String(problem)}`);
  }
}

function optional<Name extends string>(name: Name, value: string | undefined): Partial<Record<Name, string>> {
  return (value === undefined ? {} : { [name]: value }) as Partial<Record<Name, string>>;
}
