// What a plugin answers, and with which handlers.
//
// A capability may answer at once, in chunks, or both; the caller says which it wants. Properties such as
// `idempotent` are promises to the host: it acts on them.

import { answerOf, DefinitionError, messageOf, stackOf } from "./error.js";
import { type IntoJson, intoJson } from "./json.js";
import { answering, type Logs } from "./log.js";
import { ErrorCode, type Outcome, WireError } from "./protocol/error.js";
import type { CapabilityDescription, Route } from "./protocol/message.js";
import { capabilityName } from "./protocol/name.js";
import type { Request } from "./request.js";
import type { Session, Ticket } from "./session.js";
import { ChunkSink } from "./stream.js";

/** Answers with one value: what it returns. What it throws answers a failure. */
export type AnswerHandler = (request: Request) => IntoJson | Promise<IntoJson>;

/** Answers in chunks; what it returns is the `data` of the final answer, mostly nothing. */
export type StreamHandler = (request: Request, chunks: ChunkSink) => IntoJson | Promise<IntoJson>;

/** A method and a path: `{name}` stands for one segment, `{*name}` at the end for all that is left. */
export type RouteOption = readonly [method: string, path: string];

/** What else is to be said of a capability. */
export interface CapabilityOptions {
  /** One sentence for people. */
  description?: string;
  /** JSON Schema of the payload. */
  inputSchema?: object;
  /** JSON Schema of the answer. */
  outputSchema?: object;
  /** Promises that asking twice does no more than asking once: the host may try again elsewhere. */
  idempotent?: boolean;
  /** Says that it changes something outside the plugin. */
  sideEffect?: boolean;
  /** How long one request may take, unless its caller wants less, in milliseconds. */
  timeoutMs?: number;
  /** How many requests one instance takes at a time; the host keeps to it. */
  maxConcurrency?: number;
  /**
   * HTTP routes that it answers too, below `/api/plugins/<name>`. What the handler returns is the JSON of the
   * response, or a `RouteAnswer`; a stream handler's chunks are server-sent events, or what a `RouteAnswer`
   * says that is sent as the first chunk.
   */
  routes?: readonly RouteOption[];
}

/** A {@link Capability} with its handlers. */
export interface CapabilityDefinition extends Omit<CapabilityOptions, "routes"> {
  /** Answers with one value. */
  answer?: AnswerHandler;
  /** Answers in chunks. */
  stream?: StreamHandler;
  /** HTTP routes that `answer` answers too. */
  routes?: readonly RouteOption[];
  /** HTTP routes that `stream` answers in chunks. */
  streamingRoutes?: readonly RouteOption[];
}

/**
 * Something that a plugin answers, with all that is to be said of it.
 *
 * ```ts
 * import { Capability, Plugin } from "bkg-sdk";
 *
 * const plugin = new Plugin();
 * plugin.capability(
 *   new Capability("dictionary.lookup", {
 *     description: "What a word means",
 *     inputSchema: { type: "string" },
 *     idempotent: true,
 *     answer: (request) => ({ word: request.payload }),
 *     stream: async (request, chunks) => {
 *       await chunks.send({ word: request.payload });
 *     },
 *     routes: [["GET", "/words/{word}"]],
 *   }),
 * );
 * ```
 */
export class Capability {
  /** Its dotted name. */
  readonly name: string;
  /** What it is made of. */
  readonly definition: CapabilityDefinition;

  /** A capability by its dotted name; it needs `answer`, `stream` or both. */
  constructor(name: string, definition: CapabilityDefinition) {
    this.name = name;
    this.definition = definition;
  }
}

/** The code that answers one capability, and what is registered of it. */
export class Handlers {
  readonly #answer: AnswerHandler | undefined;
  readonly #stream: StreamHandler | undefined;
  readonly description: CapabilityDescription;
  readonly routes: Route[];

  /** @throws DefinitionError for a name that is none, or where nothing answers. */
  constructor({ name, definition }: Capability) {
    try {
      capabilityName(name);
    } catch (problem) {
      throw new DefinitionError(messageOf(problem));
    }
    const { answer, stream, inputSchema, outputSchema, routes = [], streamingRoutes = [] } = definition;
    if (answer === undefined && stream === undefined) {
      throw new DefinitionError(`the capability \`${name}\` has no handler: give it \`answer\`, \`stream\` or both`);
    }
    this.#answer = answer;
    this.#stream = stream;
    this.description = {
      id: name,
      description: definition.description,
      inputSchema: inputSchema && intoJson(inputSchema),
      outputSchema: outputSchema && intoJson(outputSchema),
      streaming: stream !== undefined,
      idempotent: definition.idempotent === true,
      sideEffect: definition.sideEffect === true,
      timeoutMs: definition.timeoutMs,
      maxConcurrency: definition.maxConcurrency,
    };
    this.routes = [
      ...routes.map(([method, path]) => ({ method, path, capability: name, streaming: false })),
      ...streamingRoutes.map(([method, path]) => ({ method, path, capability: name, streaming: true })),
    ];
  }

  /**
   * Answers one request: by what the handler returns, by `cancelled` as soon as nobody waits any more, or by
   * a failure where the handler breaks. Resolves when the handler has ended.
   */
  async work(
    request: Request,
    ticket: Ticket,
    session: Session,
    logs: Logs,
    ready: Promise<void> | undefined,
  ): Promise<void> {
    ticket.whenCancelled(() => session.answer(request.id, { ok: false, error: cancelled() }));
    const outcome = await answering(request.id, logs, () => this.#outcome(request, ticket, session, ready));
    session.answer(request.id, outcome);
  }

  async #outcome(
    request: Request,
    ticket: Ticket,
    session: Session,
    ready: Promise<void> | undefined,
  ): Promise<Outcome> {
    try {
      await ready;
      if (ticket.isCancelled) {
        throw cancelled();
      }
      return { ok: true, data: intoJson(await this.#handle(request, ticket, session)) };
    } catch (problem) {
      return { ok: false, error: this.#failure(problem, request, ticket) };
    }
  }

  async #handle(request: Request, ticket: Ticket, session: Session): Promise<IntoJson> {
    if (request.wantsStream && this.#stream !== undefined) {
      const chunks = new ChunkSink(session, ticket, request.id);
      const data = await this.#stream(request, chunks);
      // A chunk that nobody waited for still comes before the end.
      await chunks.settled();
      return data;
    }
    // One answer without chunks is a valid answer to a request for a stream.
    if (this.#answer !== undefined) {
      return this.#answer(request);
    }
    const problem = `\`${request.capability}\` answers in a stream only: ask with \`stream\``;
    throw new WireError(ErrorCode.InvalidRequest, problem);
  }

  #failure(problem: unknown, request: Request, ticket: Ticket): WireError {
    const answer = answerOf(problem);
    if (answer !== undefined) {
      return answer;
    }
    // After a cancel most that fails fails because of it.
    if (!ticket.isCancelled) {
      const message = `the handler of \`${request.capability}\` failed: ${messageOf(problem)}`;
      request.host.log("error", message, { stack: stackOf(problem) });
    }
    return new WireError(ErrorCode.PluginError, "the handler failed: see the plugin's log");
  }
}

function cancelled(): WireError {
  return new WireError(ErrorCode.Cancelled, "the request was cancelled");
}
