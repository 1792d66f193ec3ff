// Write a Backplane plugin in TypeScript.
//
// A plugin is a program that the host launches, that says over one WebSocket what it can answer, and answers
// it. {@link Plugin} is where to start, {@link Host} is what a plugin can do besides answering, and
// `TestHost` of `bkg-sdk/testing` runs a plugin in a test without a daemon or a socket. The SDKs of other
// languages have the same files under the same names.

export type { BackupHandler } from "./backup.js";
export { CallStream, type CallOptions } from "./call.js";
export {
  Capability,
  type AnswerHandler,
  type CapabilityDefinition,
  type CapabilityOptions,
  type RouteOption,
  type StreamHandler,
} from "./capability.js";
export { Settings, type AnySettings, type SettingsOptions } from "./config.js";
export { Environment, type EnvironmentOptions } from "./environment.js";
export {
  CallError,
  DefinitionError,
  EnvironmentError,
  ErrorCode,
  RunError,
  SendError,
  WireError,
  type CallErrorReason,
  type RunErrorReason,
  type WireErrorOptions,
} from "./error.js";
export { Subscription, type Event } from "./events.js";
export { Health, Host, type Authorization } from "./host.js";
export type { IntoJson } from "./json.js";
export { Plugin, type Background, type PluginOptions } from "./plugin.js";
export {
  LogLevel,
  Secret,
  type AuthChanged,
  type Caller,
  type CapabilityDescription,
  type HttpBody,
  type Model,
  type Route,
  type Tool,
  type UiSlot,
  type Update,
} from "./protocol/message.js";
export { RawJson, type Json, type JsonObject } from "./protocol/raw-json.js";
export { HttpRequest, Request } from "./request.js";
export { BodyBytes, RouteAnswer, type RouteAnswerOptions } from "./route.js";
export { ChunkSink } from "./stream.js";
