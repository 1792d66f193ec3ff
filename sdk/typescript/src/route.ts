// What a handler answers to an HTTP request where plain JSON with status 200 is not enough.
//
// Not the request: that is {@link HttpRequest}, in `request.ts`. What the host does with it, and which
// headers it passes on, is in `docs/protocol.md`, "Routes".

import { type Json, RawJson } from "./protocol/raw-json.js";

/** The headers and the body of a {@link RouteAnswer}; at most one of `json`, `text` and `bytes`. */
export interface RouteAnswerOptions {
  /**
   * Headers by name. The host leaves out those that are not a plugin's to set, and notes that in the
   * plugin's log.
   */
  headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Answers with JSON. */
  json?: null | boolean | number | string | object;
  /** Answers with a text: `text/plain`, unless a `content-type` was named. */
  text?: string;
  /** Answers with bytes: `application/octet-stream`, unless a `content-type` was named. */
  bytes?: Uint8Array;
}

/**
 * The status, the headers and the body of an HTTP response.
 *
 * Returned by a handler it is the whole answer; sent as the first chunk of a stream it is its head, and what
 * follows are texts and {@link BodyBytes}.
 *
 * ```ts
 * import { RouteAnswer } from "bkg-sdk";
 *
 * const made = new RouteAnswer(201, { headers: { location: "/api/plugins/wiki/pages/7" }, text: "made" });
 * const bare = new RouteAnswer(204);
 * ```
 */
export class RouteAnswer {
  /** The status, from 200 to 599. */
  readonly status: number;
  readonly #options: RouteAnswerOptions;

  /** An answer with a status, 200 unless said. */
  constructor(status = 200, options: RouteAnswerOptions = {}) {
    this.status = status;
    this.#options = options;
  }

  /** The answer as it travels. */
  intoJson(): RawJson {
    const { json, text, bytes } = this.#options;
    const headers = new Map<string, string[]>();
    for (const [name, value] of Object.entries(this.#options.headers ?? {})) {
      const known = headers.get(name.toLowerCase()) ?? [];
      headers.set(name.toLowerCase(), known.concat(value));
    }
    return RawJson.of({
      $http: {
        status: this.status,
        headers: headers.size === 0 ? undefined : Object.fromEntries(headers),
        json,
        text,
        base64: bytes && base64(bytes),
      },
    });
  }

  /** The answer as `JSON.stringify` takes it. */
  toJSON(): Json {
    return this.intoJson().toJSON();
  }
}

/**
 * Bytes as a chunk of a stream whose first chunk was a {@link RouteAnswer}.
 *
 * ```ts
 * import { BodyBytes, Plugin, RouteAnswer } from "bkg-sdk";
 *
 * const plugin = new Plugin();
 * plugin.stream("noise.white", async (_request, chunks) => {
 *   await chunks.send(new RouteAnswer(200, { headers: { "content-type": "audio/wav" } }));
 *   await chunks.send(new BodyBytes(new Uint8Array(1024)));
 * });
 * ```
 */
export class BodyBytes {
  /** The bytes. */
  readonly bytes: Uint8Array;

  /** A part of a body. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The bytes as they travel. */
  intoJson(): RawJson {
    return RawJson.of({ base64: base64(this.bytes) });
  }

  /** The bytes as `JSON.stringify` takes them. */
  toJSON(): Json {
    return this.intoJson().toJSON();
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
