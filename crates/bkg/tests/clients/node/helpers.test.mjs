/**
 * What the official client for Node builds on top of the API: typed answers, the tool runner, retries, aborts.
 *
 * Against models whose every answer is known; `test_sdk_helpers.py` is the same for Python.
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { Host, nowMs, scripted, until } from './harness.mjs';

const Trip = z.object({ city: z.string(), days: z.number().int() });
const City = z.object({ city: z.string() });
const TRIP = 'city=Bern for 3 days';

const ask = (content, fields = {}) => ({
  model: 'scripted-chat',
  messages: [{ role: 'user', content }],
  ...fields,
});

describe('the helpers of the official client', { timeout: 120_000 }, () => {
  /** @type {Host} */
  let host;
  before(async () => {
    host = await Host.start(scripted());
  });
  after(() => host?.stop());

  const served = async () => {
    const text = await readFile(join(host.data, 'plugins/scripted/data/served.jsonl'), 'utf8');
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  };

  it('do what the documentation shows', async () => {
    const page = await readFile(new URL('../../../../../docs/applications.md', import.meta.url), 'utf8');
    const [, example] = /^```js\n(import OpenAI.*?)^```/ms.exec(page);
    const program = example
      .replace('http://127.0.0.1:43119', host.url)
      .replace("'stand-in'", "'scripted-chat'");
    const { stdout } = await promisify(execFile)('node', ['--input-type=module', '-e', program], {
      cwd: import.meta.dirname,
      env: { ...process.env, OPENAI_API_KEY: host.key },
    });
    assert.equal(stdout, 'You said: Where is Bern?');
  });

  it('parse an answer into a type', async () => {
    const answer = await host
      .openai()
      .chat.completions.parse(ask(TRIP, { response_format: zodResponseFormat(Trip, 'trip') }));
    assert.deepEqual(answer.choices[0].message.parsed, { city: 'Bern', days: 3 });
  });

  it('parse a stream into a type when it ends', async () => {
    const stream = host
      .openai()
      .chat.completions.stream(ask(TRIP, { response_format: zodResponseFormat(Trip, 'trip') }));
    const deltas = [];
    stream.on('content.delta', ({ delta }) => deltas.push(delta));
    const final = await stream.finalChatCompletion();
    assert.deepEqual(final.choices[0].message.parsed, { city: 'Bern', days: 3 });
    assert.equal(deltas.join(''), final.choices[0].message.content);
  });

  it('parse the arguments of a tool', async () => {
    const tools = [zodFunction({ name: 'weather', parameters: City })];
    const answer = await host.openai().chat.completions.parse(ask('city=Bern', { tools }));
    assert.deepEqual(answer.choices[0].message.tool_calls[0].function.parsed_arguments, { city: 'Bern' });
  });

  for (const stream of [false, true]) {
    it(`run tools until there is a text, ${stream ? 'streamed' : 'whole'}`, async () => {
      const asked = [];
      const weather = {
        type: 'function',
        function: {
          name: 'weather',
          parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
          parse: JSON.parse,
          function: ({ city }) => {
            asked.push(city);
            return 'sunny';
          },
        },
      };
      const runner = host.openai().chat.completions.runTools(ask('city=Bern', { tools: [weather], stream }));
      assert.match(await runner.finalContent(), /^The tool said: "?sunny"?$/);
      assert.deepEqual(asked, ['Bern']);
    });
  }

  it('put several choices together', async () => {
    const final = await host.openai().chat.completions.stream(ask('hello', { n: 3 })).finalChatCompletion();
    assert.deepEqual(
      final.choices.map(({ index, message }) => [index, message.content]),
      [0, 1, 2].map((index) => [index, 'You said: hello']),
    );
  });

  it('say what a stream cost when they are asked to', async () => {
    const options = { stream_options: { include_usage: true } };
    const stream = host.openai().chat.completions.stream(ask('where is Bern?', options));
    const usage = await stream.totalUsage();
    assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [4, 5]);
  });

  for (const [code, status] of [
    ['rate_limited', 429],
    ['overloaded', 503],
  ]) {
    it(`try again after ${status} when they were told to`, async () => {
      const script = { fail: { code, retryAfterMs: 1 }, times: 1, name: `node-${code}` };
      const began = nowMs();
      const answer = await host.openai({ maxRetries: 1 }).chat.completions.create(ask('again', { script }));
      // The host says whole seconds, and never less than one; timers may be early by a moment.
      assert.ok(nowMs() - began >= 990, `${nowMs() - began} ms`);
      assert.equal(answer.choices[0].message.content, 'You said: again');
    });
  }

  it('do not try again what may have happened', async () => {
    const body = ask('again', { script: { fail: {}, times: 1, name: 'node-once' } });
    await assert.rejects(host.openai({ maxRetries: 3 }).chat.completions.create(body), { status: 502 });
    const answer = await host.openai().chat.completions.create(body);
    assert.equal(answer.choices[0].finish_reason, 'stop');
  });

  for (const stream of [false, true]) {
    const how = stream ? 'streamed' : 'whole';
    it(`cancel the work when their time is over, ${how}`, async () => {
      const earlier = (await served()).length;
      await assert.rejects(
        host.openai({ timeout: 200 }).chat.completions.create(ask('x', { model: 'scripted-stalls', stream })),
        OpenAI.APIConnectionTimeoutError,
      );
      const [line] = await until(async () => {
        const lines = (await served()).slice(earlier);
        return lines.length > 0 && lines;
      }, 'the request has ended at the plugin');
      assert.equal(line.outcome, 'cancelled');
    });

    it(`cancel the work when they are aborted, ${how}`, async () => {
      const earlier = (await served()).length;
      const abort = new AbortController();
      const request = host
        .openai()
        .chat.completions.create(ask('one two three '.repeat(50), { model: 'scripted-slow', stream }), {
          signal: abort.signal,
        });
      const left = assert.rejects(async () => {
        for await (const part of await request) assert.ok(part.id);
      }, /abort/i);
      await until(async () => (await host.inFlight('scripted')) === 1, 'the request is at the plugin');
      abort.abort();
      await left.catch((problem) => {
        // A stream that is aborted while it is read ends without an error.
        if (!stream) throw problem;
      });
      const lines = await until(async () => {
        const found = (await served()).slice(earlier);
        return found.length > 0 && found;
      }, 'the request has ended at the plugin');
      assert.equal(lines[0].outcome, 'cancelled');
    });
  }
});
