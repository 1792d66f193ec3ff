// What several tests need: a plugin with a host for as long as a test takes, and gates to hold handlers at.

import assert from "node:assert/strict";

import { type Plugin, WireError } from "bkg-sdk";
import { TestHost, type TestHostOptions } from "bkg-sdk/testing";

/** Runs a test with a plugin under a host in memory. */
export async function hosting(
  plugin: Plugin,
  work: (host: TestHost) => Promise<void> | void,
  options: TestHostOptions = {},
): Promise<void> {
  const host = await TestHost.start(plugin, options);
  try {
    await work(host);
  } finally {
    await host.close();
  }
}

/** The error that was answered. */
export async function failure(work: Promise<unknown>): Promise<WireError> {
  try {
    await work;
  } catch (problem) {
    assert.ok(problem instanceof WireError, String(problem));
    return problem;
  }
  return assert.fail("it was answered, and a failure was expected");
}

/** Somewhere to wait until the test says so. */
export function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void } {
  let open!: (value: T) => void;
  const opened = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
