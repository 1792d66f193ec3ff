// What handlers and calls hand over: anything that becomes one JSON value.
//
// {@link RawJson} goes through as the text it is, at any depth; everything else is written once. Not the
// reading: {@link RawJson.read} and `Request.read` do that.

import { RawJson } from "./protocol/raw-json.js";
import { BodyBytes, RouteAnswer } from "./route.js";

/**
 * What can travel as `payload` or `data`: a value that `JSON.stringify` writes, with {@link RawJson} in it
 * or not, what answers an HTTP request, or nothing, which is `null`.
 *
 * ```ts
 * import type { IntoJson } from "bkg-sdk";
 * import { RawJson, RouteAnswer } from "bkg-sdk";
 *
 * const some: IntoJson[] = [undefined, "text", { pong: true }, [RawJson.parse("1.0")], new RouteAnswer(204)];
 * ```
 */
export type IntoJson = null | boolean | number | string | object | undefined | void;

/**
 * The value as JSON text.
 *
 * @throws TypeError where it has none.
 */
export function intoJson(value: IntoJson): RawJson {
  if (value instanceof RouteAnswer || value instanceof BodyBytes) {
    return value.intoJson();
  }
  return RawJson.of(value);
}
