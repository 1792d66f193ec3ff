/**
 * Starts the real daemon on directories of its own, with the plugins a test asks for, and talks to it.
 *
 * Nothing here knows what an answer should be: that is the tests' part. Every wait has a deadline, every
 * port is chosen by the kernel, and `stop` fails when the daemon did not leave cleanly or panicked.
 * `harness.py` is the same for Python.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import OpenAI from 'openai';

const REPOSITORY = fileURLToPath(new URL('../../../../..', import.meta.url));
const BINARIES = join(process.env.CARGO_TARGET_DIR ?? join(REPOSITORY, 'target'), 'debug');
const FIXTURES = join(REPOSITORY, 'crates/bkg/tests/plugins');

/** Milliseconds on CLOCK_MONOTONIC, which the plugins' processes read too. */
export const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** Asks again and again until there is something true; throws with `what` after `within` milliseconds. */
export async function until(found, what, within = 15_000) {
  const deadline = nowMs() + within;
  for (;;) {
    const result = await found();
    if (result) return result;
    assert.ok(nowMs() < deadline, `not within ${within} ms: ${what}`);
    await delay(10);
  }
}

/** The bundled llmserver, as `scripts/test` built it. */
export const llmserver = (settings = {}) => ({
  source: join(REPOSITORY, 'plugins/llmserver'),
  name: 'llmserver',
  binary: 'bkg-plugin-llmserver',
  settings,
});

/** The bundled auth provider, as `scripts/test` built it, with hashes that are cheap. */
export const apikeys = (settings = {}) => ({
  source: join(REPOSITORY, 'plugins/apikeys'),
  name: 'apikeys',
  binary: 'bkg-plugin-apikeys',
  settings: { bcryptCost: 4, ...settings },
});

/** The plugin that breaks rules on command. */
export const misbehave = (settings = {}) => ({
  source: join(FIXTURES, 'misbehave'),
  name: 'misbehave',
  settings,
});

/** The plugin with models whose every answer is known: `../python/scripted/README.md`. */
export const scripted = (settings = {}) => ({
  source: join(REPOSITORY, 'crates/bkg/tests/clients/python/scripted'),
  name: 'scripted',
  settings,
});

async function writePlugin(directory, { source, name, binary, settings }) {
  const folder = join(directory, name);
  if (binary) {
    await mkdir(folder);
    await writeFile(join(folder, 'start.sh'), `#!/bin/sh\nexec '${join(BINARIES, binary)}'\n`);
    await chmod(join(folder, 'start.sh'), 0o755);
  } else {
    await cp(source, folder, { recursive: true });
  }
  const entry = JSON.parse(await readFile(join(source, 'plugin.json'), 'utf8'));
  // The daemon hands plugins a clean environment, so what they need goes through their entry.
  const environment = {
    ...entry.env,
    BKG_TEST_PYTHON: process.env.BKG_TEST_PYTHON ?? 'python3',
    BKG_TEST_SDK: join(REPOSITORY, 'sdk/python/src'),
  };
  const changed = { ...entry, autostart: true, env: environment };
  await writeFile(join(folder, 'plugin.json'), JSON.stringify(changed, null, 2));
  const defaults = await readFile(join(source, 'config.json'), 'utf8').catch(() => '{}');
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...JSON.parse(defaults), ...settings }));
}

/** One daemon and what a test asks of it; `await Host.start(…)`, and `await host.stop()` at the end. */
export class Host {
  static async start(...plugins) {
    const host = new Host();
    host.directory = await mkdtemp(join(tmpdir(), 'bkg-node-'));
    host.data = join(host.directory, 'data');
    const folders = join(host.directory, 'plugins');
    await mkdir(folders);
    for (const plugin of plugins) await writePlugin(folders, plugin);

    const environment = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('BKG_')),
    );
    environment.BKG_CACHE_DIR = join(host.directory, 'cache');
    const log = await open(join(host.directory, 'bkg.log'), 'a');
    host.process = spawn(
      join(BINARIES, 'bkg'),
      ['serve', '--data-dir', host.data, '--plugins-dir', folders, '--api-port', '0', '--bus-port', '0'],
      { env: environment, stdio: ['ignore', log.fd, log.fd] },
    );
    host.exited = new Promise((resolve, reject) => {
      host.process.once('exit', (code, signal) => resolve(code ?? signal));
      host.process.once('error', reject);
    });
    host.exited.catch(() => {}); // `ready` and `stop` say it.
    await log.close();
    try {
      host.ports = await until(() => host.#ready(), 'the daemon is ready');
      host.key = (await readFile(join(host.data, 'root.key'), 'utf8')).trim();
      for (const { name } of plugins) await host.untilRunning(name);
    } catch (problem) {
      host.process.kill('SIGKILL');
      throw new Error(`${problem.message}\n${await host.log()}`, { cause: problem });
    }
    return host;
  }

  async #ready() {
    if (this.process.exitCode !== null) throw new Error(`the daemon left with ${this.process.exitCode}`);
    const text = await readFile(join(this.data, 'ports.json'), 'utf8').catch(() => null);
    const ports = text && JSON.parse(text);
    return ports?.pid === this.process.pid && ports;
  }

  /** What the daemon has said so far. */
  log() {
    return readFile(join(this.directory, 'bkg.log'), 'utf8');
  }

  /** Stops the daemon as an operator does; it must leave with 0 and without a panic behind it. */
  async stop() {
    this.process.kill('SIGTERM');
    const deadline = delay(60_000, 'no exit within 60 s of SIGTERM', { ref: false });
    const code = await Promise.race([this.exited, deadline]);
    if (this.process.exitCode === null) this.process.kill('SIGKILL');
    const log = await this.log();
    assert.equal(code, 0, log);
    assert.ok(!log.includes('panicked at'), log);
    await rm(this.directory, { recursive: true });
  }

  /** Where the API listens. */
  get url() {
    return `http://127.0.0.1:${this.ports.api}`;
  }

  /** The official client. Without retries: its default ones hide faults. */
  openai(options = {}) {
    return new OpenAI({
      baseURL: `${this.url}/v1`,
      apiKey: this.key,
      maxRetries: 0,
      timeout: 30_000,
      ...options,
    });
  }

  /** One request without the official client; `body` is sent as JSON unless it is a string already. */
  http(method, path, body, headers = {}) {
    return fetch(`${this.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json', ...headers },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
  }

  /** What the operator sees of one plugin. */
  async plugin(name) {
    const response = await this.http('GET', `/admin/plugins/${name}`);
    assert.equal(response.status, 200);
    return response.json();
  }

  /** Waits until the plugin serves, with another process than `notPid`; returns its instance. */
  untilRunning(name, notPid) {
    return until(async () => {
      const { status, instances } = await this.plugin(name);
      return status === 'running' && instances.find(({ pid }) => pid !== notPid);
    }, `\`${name}\` is running`);
  }

  /** How many requests the one instance of a plugin is working on. */
  async inFlight(name) {
    const { instances } = await this.plugin(name);
    return instances[0].inFlight;
  }

  /** Asks misbehave for one of its commands. */
  async command(capability, payload = {}) {
    const response = await this.http('POST', '/api/plugins/misbehave/invoke', { capability, payload });
    const body = await response.json();
    assert.equal(response.status, 200, JSON.stringify(body));
    return body.data;
  }

  /** The cancels that misbehave has seen for an HTTP request, waiting for the first. */
  async cancels(correlationId) {
    return (await this.command('test.cancel_seen', { correlationId, withinMs: 5_000 })).cancels;
  }
}
