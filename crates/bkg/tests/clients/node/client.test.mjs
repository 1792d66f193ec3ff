/**
 * The official OpenAI client for Node against the real daemon.
 *
 * The Python tests beside this folder show every rule; these show that a second client, which reads
 * streams, errors and aborts in its own way, sees the same.
 */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import OpenAI from 'openai';

import { Host, apikeys, llmserver, misbehave, nowMs, until } from './harness.mjs';

const CANCEL_WITHIN_MS = 100;
const ANSWER_WITHIN_MS = 250;

const ask = (content, fields = {}) => ({
  model: 'stand-in',
  messages: [{ role: 'user', content }],
  ...fields,
});

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

describe('a daemon with plugins', { timeout: 120_000 }, () => {
  /** @type {Host} */
  let host;
  before(async () => {
    host = await Host.start(apikeys(), llmserver(), misbehave());
  });
  after(() => host?.stop());

  it('answers a chat', async () => {
    const answer = await host.openai().chat.completions.create(ask('where is Bern?'));
    assert.equal(answer.object, 'chat.completion');
    assert.match(answer.choices[0].message.content, /where is Bern\?/);
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });

  it('streams what the whole answer says', async () => {
    const client = host.openai();
    const whole = await client.chat.completions.create(ask('where is Bern?'));
    const parts = await collect(await client.chat.completions.create(ask('where is Bern?', { stream: true })));
    const content = parts.map((part) => part.choices[0].delta.content ?? '').join('');
    assert.equal(content, whole.choices[0].message.content);
    assert.ok(parts.length > 2, 'one chunk for each token');
    assert.equal(parts.at(-1).choices[0].finish_reason, 'stop');
  });

  for (const includeUsage of [true, false]) {
    it(`sends ${includeUsage ? 'one' : 'no'} usage chunk when include_usage is ${includeUsage}`, async () => {
      const options = { stream: true, stream_options: { include_usage: includeUsage } };
      const parts = await collect(await host.openai().chat.completions.create(ask('hello', options)));
      const usage = parts.filter((part) => part.usage);
      assert.equal(usage.length, includeUsage ? 1 : 0);
      assert.equal(parts.filter((part) => part.choices.length === 0).length, usage.length);
      if (includeUsage) {
        assert.equal(usage[0], parts.at(-1));
        assert.ok(usage[0].usage.completion_tokens > 0);
      }
    });
  }

  it('puts the fragments of a tool call together', async () => {
    const stream = host.openai().chat.completions.stream(ask('weather?', { model: 'test/tools' }));
    const message = await stream.finalMessage();
    assert.equal(message.tool_calls[0].id, 'call_1');
    assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Bern' });
  });

  it('answers a plain completion', async () => {
    const answer = await host.openai().completions.create({ model: 'stand-in', prompt: 'seven lakes' });
    assert.match(answer.choices[0].text, /seven lakes/);
  });

  it('answers embeddings in the default encoding of the client and as floats', async () => {
    const client = host.openai();
    const request = { model: 'stand-in-embed', input: ['one', 'two'] };
    const packed = await client.embeddings.create(request);
    const plain = await client.embeddings.create({ ...request, encoding_format: 'float' });
    assert.deepEqual(
      packed.data.map(({ index }) => index),
      [0, 1],
    );
    for (const [number, { embedding }] of plain.data.entries()) {
      assert.ok(embedding.length > 0);
      assert.deepEqual(Array.from(packed.data[number].embedding), embedding.map(Math.fround));
    }
  });

  it('lists models and finds one whose id has a slash', async () => {
    const client = host.openai();
    const ids = (await collect(client.models.list())).map(({ id }) => id);
    assert.ok(['stand-in', 'stand-in-embed', 'test/frame'].every((id) => ids.includes(id)), ids.join());
    assert.equal((await client.models.retrieve('test/frame')).id, 'test/frame');
  });

  const failures = [
    ['a wrong key', OpenAI.AuthenticationError, 401, 'invalid_api_key', { apiKey: 'bkg_sk_0_nobody' }, {}],
    ['an unknown model', OpenAI.NotFoundError, 404, 'model_not_found', {}, { model: 'nothing-here' }],
    ['a refusal', OpenAI.RateLimitError, 429, 'rate_limit_exceeded', {}, { model: 'test/refuses' }],
    ['a refused stream', OpenAI.RateLimitError, 429, 'rate_limit_exceeded', {}, { model: 'test/refuses', stream: true }],
    ['a failure', OpenAI.InternalServerError, 502, 'plugin_error', {}, { model: 'test/unauthorized' }],
  ];
  for (const [what, kind, status, code, options, fields] of failures) {
    it(`raises ${kind.name} on ${what}`, async () => {
      await assert.rejects(host.openai(options).chat.completions.create(ask('hello', fields)), (error) => {
        assert.ok(error instanceof kind, `${error}`);
        assert.deepEqual([error.status, error.code], [status, code]);
        assert.ok(error.requestID);
        return true;
      });
    });
  }

  it('raises 413 on a body beyond the limit', async () => {
    const body = ask('x'.repeat(64 << 20));
    await assert.rejects(host.openai().chat.completions.create(body), { status: 413, code: 'payload_too_large' });
  });

  const refusals = [
    ['a wrong method', 'GET', '/v1/chat/completions', undefined, 405],
    ['an unknown path', 'GET', '/v1/nothing', undefined, 404],
    ['no JSON', 'POST', '/v1/chat/completions', '{"model": ', 400],
  ];
  for (const [what, method, path, body, status] of refusals) {
    it(`answers ${what} with ${status} and all four keys`, async () => {
      const response = await host.http(method, path, body);
      const { error } = await response.json();
      assert.equal(response.status, status);
      assert.ok(['message', 'type', 'param', 'code'].every((key) => key in error), JSON.stringify(error));
      assert.ok(response.headers.get('x-request-id'));
      if (status === 405) assert.match(response.headers.get('allow'), /POST/);
    });
  }

  it('tells the plugin within 100 ms that a client left a stream', async () => {
    const abort = new AbortController();
    const request = host.openai().chat.completions.create(ask('go', { model: 'test/slow', stream: true }), {
      signal: abort.signal,
    });
    const { data: stream, response } = await request.withResponse();
    await stream[Symbol.asyncIterator]().next();
    const leftAt = nowMs();
    abort.abort();
    const cancels = await host.cancels(response.headers.get('x-request-id'));
    assert.equal(cancels.length, 1);
    assert.ok(cancels[0].atMs - leftAt <= CANCEL_WITHIN_MS, `${cancels[0].atMs - leftAt} ms`);
    await until(async () => (await host.inFlight('misbehave')) === 0, 'the slot is free again');
  });

  it('tells the plugin within 100 ms that a client left before the first byte', async () => {
    const earlier = (await host.command('test.cancel_seen')).cancels.length;
    const abort = new AbortController();
    const request = host.openai().chat.completions.create(ask('go', { model: 'test/stall' }), {
      signal: abort.signal,
    });
    const left = assert.rejects(Promise.resolve(request), OpenAI.APIUserAbortError);
    await until(async () => (await host.inFlight('misbehave')) === 1, 'the request is at the plugin');
    const leftAt = nowMs();
    abort.abort();
    await left;
    const [cancel] = await until(async () => {
      const { cancels } = await host.command('test.cancel_seen');
      return cancels.length > earlier && cancels.slice(earlier);
    }, 'the cancel is seen');
    assert.ok(cancel.atMs - leftAt <= CANCEL_WITHIN_MS, `${cancel.atMs - leftAt} ms`);
  });

  it('raises on a failure in mid-stream', async () => {
    const stream = await host.openai().chat.completions.create(ask('go', { model: 'test/breaks', stream: true }));
    const parts = [];
    await assert.rejects(async () => {
      for await (const part of stream) parts.push(part);
    }, /broke half way/);
    assert.equal(parts.length, 3);
  });
});

describe('a daemon whose plugin is killed', { timeout: 120_000 }, () => {
  it('breaks the stream at once, and serves again', async () => {
    const host = await Host.start(llmserver({ tokenDelayMs: 50 }));
    try {
      const { pid } = await host.untilRunning('llmserver');
      const words = Array.from({ length: 200 }, (_, number) => `word${number}`).join(' ');
      const stream = await host.openai().chat.completions.create(ask(words, { stream: true }));
      const parts = stream[Symbol.asyncIterator]();
      assert.equal((await parts.next()).done, false);

      process.kill(pid, 'SIGKILL');
      const killedAt = nowMs();
      const rest = [];
      await assert.rejects(async () => {
        for (let part = await parts.next(); !part.done; part = await parts.next()) rest.push(part.value);
      }, OpenAI.APIError);
      assert.ok(nowMs() - killedAt <= ANSWER_WITHIN_MS, `${nowMs() - killedAt} ms`);
      assert.ok(rest.every((part) => part.choices.every((choice) => choice.finish_reason === null)));

      await host.untilRunning('llmserver', pid);
      const answer = await host.openai().chat.completions.create(ask('again'));
      assert.match(answer.choices[0].message.content, /again/);
    } finally {
      await host.stop();
    }
  });
});

describe('a daemon without plugins', { timeout: 60_000 }, () => {
  it('says that the service is unavailable', async () => {
    const host = await Host.start();
    try {
      await assert.rejects(host.openai().chat.completions.create(ask('hello')), {
        status: 503,
        code: 'plugin_unavailable',
      });
    } finally {
      await host.stop();
    }
  });
});
