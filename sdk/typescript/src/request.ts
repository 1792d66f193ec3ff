// A request of the host, as a handler sees it.
//
// Not the place to answer: a handler answers by returning. The invariant that stands behind it: each request
// is answered exactly once, whatever becomes of its handler.

import { ask, askForStream, type CallOptions, type CallStream, readJson } from "./call.js";
import { messageOf } from "./error.js";
import type { Host } from "./host.js";
import type { IntoJson } from "./json.js";
import { ErrorCode, WireError } from "./protocol/error.js";
import type * as message from "./protocol/message.js";
import type { Json, RawJson } from "./protocol/raw-json.js";
import type { Session, Ticket } from "./session.js";

/** The HTTP request behind a route's request. */
export class HttpRequest {
  /** The method, in capitals. */
  readonly method: string;
  /** The path below the plugin's prefix, as it was sent. */
  readonly path: string;
  /** What the `{name}` segments stood for, decoded. */
  readonly params: ReadonlyMap<string, string>;
  /** The query as pairs of name and value, decoded, in order. */
  readonly query: readonly (readonly [string, string])[];
  /** The headers that the host passes on, names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** What the payload is made of. */
  readonly body: message.HttpBody;

  /** Made by the SDK alone. */
  constructor(fields: message.HttpFields) {
    this.method = fields.method;
    this.path = fields.path;
    this.params = fields.params;
    this.query = fields.query;
    this.headers = fields.headers;
    this.body = fields.body;
  }

  /** What a `{name}` of the route's path stood for, decoded. */
  param(name: string): string | undefined {
    return this.params.get(name);
  }

  /** The value of a query parameter, decoded; the first, if there are several. */
  queryValue(name: string): string | undefined {
    return this.query.find(([key]) => key === name)?.[1];
  }

  /** The value of a header that the host passes on, in any case. */
  header(name: string): string | undefined {
    return this.headers.get(name.toLowerCase());
  }
}

/** A request that a handler answers. */
export class Request {
  readonly #message: message.Request;
  readonly #ticket: Ticket;
  readonly #session: Session;
  #payload: { json: Json } | undefined;
  /** The handle to the host. */
  readonly host: Host;
  /** The HTTP request behind it; `undefined` where the capability was not asked through a route. */
  readonly http: HttpRequest | undefined;

  /** Made by the SDK alone. */
  constructor(request: message.Request, ticket: Ticket, session: Session, host: Host) {
    this.#message = request;
    this.#ticket = ticket;
    this.#session = session;
    this.host = host;
    this.http = request.http && new HttpRequest(request.http);
  }

  /** The payload, read. */
  get payload(): Json {
    this.#payload ??= { json: this.rawPayload.read() };
    return this.#payload.json;
  }

  /** The payload as it came. */
  get rawPayload(): RawJson {
    return this.#message.payload;
  }

  /**
   * Makes something of the payload. What `parse` throws becomes `invalid_request` with its message; a
   * `WireError` stays what it is.
   *
   * ```ts
   * import { type Json, Plugin } from "bkg-sdk";
   *
   * function word(json: Json): string {
   *   if (typeof json !== "string") throw new Error("a text is expected");
   *   return json;
   * }
   *
   * const plugin = new Plugin();
   * plugin.answer("dictionary.lookup", (request) => ({ word: request.read(word) }));
   * ```
   *
   * @throws WireError with what does not fit.
   */
  read<T>(parse: (json: Json) => T): T {
    try {
      return parse(this.payload);
    } catch (problem) {
      if (problem instanceof WireError) {
        throw problem;
      }
      throw new WireError(ErrorCode.InvalidRequest, `the payload cannot be read: ${messageOf(problem)}`);
    }
  }

  /** What is asked for. */
  get capability(): string {
    return this.#message.capability;
  }

  /** The request's id. */
  get id(): string {
    return this.#message.requestId;
  }

  /** On whose behalf, where the host says. */
  get caller(): message.Caller | undefined {
    return this.#message.caller;
  }

  /** The credential that came with the request, where the capability asks for one. */
  get credential(): string | undefined {
    return this.#message.token?.reveal();
  }

  /** How long the caller waits, counted from when it asked, in milliseconds. The host cancels at the end of it. */
  get timeoutMs(): number | undefined {
    return this.#message.timeoutMs;
  }

  /**
   * The body of the HTTP request behind it, byte for byte: of a text, of anything else that is neither JSON
   * nor a form, and of no body, which has no bytes.
   *
   * @throws WireError `invalid_request` where the body is JSON or a form, which {@link Request.payload} has, or
   * where there is no HTTP request.
   */
  body(): Uint8Array {
    switch (this.http?.body) {
      case "none":
        return new Uint8Array();
      case "text":
        return Buffer.from(this.read(textOf), "utf8");
      case "base64":
        return this.read((json) => bytesOf(textOf(json)));
      case "json":
      case "form":
        throw refuse("the body is JSON or a form: send it as `application/octet-stream`");
      case undefined:
        throw refuse("there is no HTTP request: ask through the route");
    }
  }

  /** Whether the caller wants the answer in chunks. */
  get wantsStream(): boolean {
    return this.#message.stream === true;
  }

  /** The `x-request-id` of the HTTP request behind it. */
  get correlationId(): string | undefined {
    return this.#message.correlationId;
  }

  /**
   * Where the request stands in a trace, as W3C Trace Context writes it; undefined where it is a part of none.
   * Calls that are made for the request carry it on. Give it to other services that the handler asks.
   */
  get traceparent(): string | undefined {
    return this.#message.traceparent;
  }

  /**
   * Aborted when nobody wants the answer any more. The request is answered at that moment, whatever its
   * handler does; give the signal to all that the handler waits for, so that it ends too.
   */
  get signal(): AbortSignal {
    return this.#ticket.signal;
  }

  /**
   * Asks for another capability on behalf of this request's caller: with the caller's rights as far as the
   * plugin's entry grants them, and within what is left of the deadline. Given up when the request is over.
   *
   * @throws WireError for a failure of whoever was asked, CallError where there is no answer at all.
   */
  async call(capability: string, payload: IntoJson, options: CallOptions = {}): Promise<Json> {
    return (await this.callRaw(capability, payload, options)).read();
  }

  /** As {@link Request.call}; the answer stays the text that came. */
  callRaw(capability: string, payload: IntoJson, options: CallOptions = {}): Promise<RawJson> {
    return ask(this.#asker, capability, payload, options);
  }

  /** Asks for an answer in chunks on behalf of this request's caller: see {@link Request.call}. */
  callStream(capability: string, payload: IntoJson, options: CallOptions = {}): CallStream<Json> {
    return askForStream(this.#asker, capability, payload, options, readJson);
  }

  /** As {@link Request.callStream}; chunks and answer stay the text that came. */
  callStreamRaw(capability: string, payload: IntoJson, options: CallOptions = {}): CallStream<RawJson> {
    return askForStream(this.#asker, capability, payload, options, (raw) => raw);
  }

  get #asker(): { session: Session; parent: { id: string; traceparent: string | undefined; ticket: Ticket } } {
    return { session: this.#session, parent: { id: this.id, traceparent: this.traceparent, ticket: this.#ticket } };
  }
}

function refuse(problem: string): WireError {
  return new WireError(ErrorCode.InvalidRequest, problem);
}

function textOf(json: Json): string {
  if (typeof json !== "string") {
    throw new Error("a text is expected");
  }
  return json;
}

/** Without groups: those of a large text would fill the stack. */
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

function bytesOf(text: string): Uint8Array {
  if (text.length % 4 !== 0 || !BASE64.test(text)) {
    throw refuse("the body is not base64");
  }
  return Buffer.from(text, "base64");
}
