// What the package offers, as a list: a name that comes or goes is noticed.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "bkg-sdk";
import * as testing from "bkg-sdk/testing";

test("the names of the package", () => {
  assert.deepEqual(Object.keys(sdk).sort(), [
    "BodyBytes",
    "CallError",
    "CallStream",
    "Capability",
    "ChunkSink",
    "DefinitionError",
    "Environment",
    "EnvironmentError",
    "ErrorCode",
    "Health",
    "Host",
    "HttpRequest",
    "LogLevel",
    "Plugin",
    "RawJson",
    "Request",
    "RouteAnswer",
    "RunError",
    "Secret",
    "SendError",
    "Settings",
    "Subscription",
    "WireError",
  ]);
  assert.deepEqual(Object.keys(testing).sort(), ["TestHost", "TestRequest"]);
});

test("every error is one of the tree", () => {
  const errors = [sdk.WireError, sdk.CallError, sdk.SendError, sdk.DefinitionError, sdk.EnvironmentError, sdk.RunError];
  for (const error of errors) {
    assert.equal(Object.getPrototypeOf(error), Error, error.name);
  }
});
