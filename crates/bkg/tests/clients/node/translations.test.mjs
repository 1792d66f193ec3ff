/**
 * `/v1/responses` and `/v1/messages` with the official clients for Node.
 *
 * `test_responses.py` and `test_messages.py` are the same for Python; these show that other clients, which
 * read streams, errors and aborts in their own way, see the same.
 */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { Host, apikeys, misbehave, nowMs, scripted, until } from './harness.mjs';

const CANCEL_WITHIN_MS = 100;
const Trip = z.object({ city: z.string(), days: z.number().int() });
const City = z.object({ city: z.string() });
const TRIP = 'city=Bern for 3 days';

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(apikeys(), scripted(), misbehave());
});
after(() => host?.stop());

async function assertCancelledOnce(requestId, leftAt) {
  const [cancel, ...more] = await host.cancels(requestId);
  assert.equal(more.length, 0);
  assert.ok(cancel.atMs - leftAt <= CANCEL_WITHIN_MS, `${cancel.atMs - leftAt} ms`);
  await until(async () => (await host.inFlight('misbehave')) === 0, 'the slot is free again');
}

describe('responses', { timeout: 120_000 }, () => {
  const ask = (input, fields = {}) => ({ model: 'scripted-chat', input, ...fields });

  it('are the same whole and as a stream', async () => {
    const client = host.openai();
    const whole = await client.responses.create(ask('where is Bern?'));
    const stream = client.responses.stream(ask('where is Bern?'));
    let text = '';
    stream.on('response.output_text.delta', (event) => (text += event.delta));
    const final = await stream.finalResponse();
    assert.equal(whole.output_text, 'You said: where is Bern?');
    assert.equal(text, whole.output_text);
    assert.equal(final.output[0].content[0].text, whole.output_text);
    assert.deepEqual(final.usage, whole.usage);
  });

  it('are parsed into a type', async () => {
    const text = { format: zodTextFormat(Trip, 'trip') };
    const client = host.openai();
    const whole = await client.responses.parse(ask(TRIP, { text }));
    assert.deepEqual(whole.output_parsed, { city: 'Bern', days: 3 });
    const streamed = await client.responses.stream(ask(TRIP, { text })).finalResponse();
    assert.deepEqual(streamed.output_parsed, { city: 'Bern', days: 3 });
  });

  it('call functions and take what they gave', async () => {
    const tools = [zodResponsesFunction({ name: 'weather', parameters: City })];
    const client = host.openai();
    const first = await client.responses.stream(ask('city=Bern', { tools })).finalResponse();
    const [call] = first.output;
    assert.equal(call.type, 'function_call');
    assert.deepEqual(JSON.parse(call.arguments), { city: 'Bern' });
    const output = { type: 'function_call_output', call_id: call.call_id, output: 'sunny' };
    const { type, call_id, name, arguments: given } = call;
    const input = [{ role: 'user', content: 'city=Bern' }, { type, call_id, name, arguments: given }, output];
    const second = await client.responses.create(ask(input, { tools }));
    assert.equal(second.output_text, 'The tool said: sunny');
  });

  it('fail and never look complete when the model breaks', async () => {
    const events = [];
    const body = ask('one two three four five', { model: 'scripted-breaks', stream: true });
    for await (const event of await host.openai().responses.create(body)) events.push(event.type);
    assert.equal(events.at(-1), 'response.failed');
    assert.ok(!events.includes('response.completed'));
  });

  it('are refused by name where nothing could be kept', async () => {
    const refused = await host
      .openai()
      .responses.create(ask('hi', { previous_response_id: 'resp_1' }))
      .catch((problem) => problem);
    assert.ok(refused instanceof OpenAI.BadRequestError);
    assert.equal(refused.param, 'previous_response_id');
  });

  it('are cancelled within 100 ms when the client leaves', async () => {
    const { data, response } = await host
      .openai()
      .responses.create({ model: 'test/slow', input: 'go', stream: true })
      .withResponse();
    for await (const event of data) if (event.type === 'response.output_text.delta') break;
    const leftAt = nowMs();
    data.controller.abort();
    await assertCancelledOnce(response.headers.get('x-request-id'), leftAt);
  });
});

describe('messages', { timeout: 120_000 }, () => {
  const client = (options = {}) =>
    new Anthropic({ baseURL: host.url, apiKey: host.key, maxRetries: 0, timeout: 30_000, ...options });
  const ask = (content, fields = {}) => ({
    model: 'scripted-chat',
    max_tokens: 100,
    messages: [{ role: 'user', content }],
    ...fields,
  });
  const weather = {
    name: 'weather',
    input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  };

  it('are the same whole and as a stream', async () => {
    const whole = await client().messages.create(ask('where is Bern?'));
    const stream = client().messages.stream(ask('where is Bern?'));
    let text = '';
    stream.on('text', (delta) => (text += delta));
    const final = await stream.finalMessage();
    assert.equal(whole.content[0].text, 'You said: where is Bern?');
    assert.equal(text, whole.content[0].text);
    assert.equal(final.content[0].text, whole.content[0].text);
    assert.equal(final.stop_reason, 'end_turn');
    assert.deepEqual(final.usage, whole.usage);
  });

  it('use tools and take what they gave', async () => {
    const asked = ask('city=Bern', { tools: [weather] });
    const first = await client().messages.stream(asked).finalMessage();
    const [use] = first.content;
    assert.deepEqual([use.type, use.input, first.stop_reason], ['tool_use', { city: 'Bern' }, 'tool_use']);
    const result = { type: 'tool_result', tool_use_id: use.id, content: 'sunny' };
    const messages = [
      ...asked.messages,
      { role: 'assistant', content: first.content },
      { role: 'user', content: [result] },
    ];
    const second = await client().messages.create({ ...asked, messages });
    assert.equal(second.content[0].text, 'The tool said: sunny');
  });

  it('have the form that was asked for', async () => {
    const schema = {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' } },
      required: ['city', 'days'],
      additionalProperties: false,
    };
    const format = { type: 'json_schema', schema };
    const message = await client().messages.create(ask(TRIP, { output_config: { format } }));
    assert.deepEqual(JSON.parse(message.content[0].text), { city: 'Bern', days: 3 });
  });

  it('end with an error when the model breaks', async () => {
    const broken = ask('one two three four five', { model: 'scripted-breaks' });
    await assert.rejects(client().messages.stream(broken).finalMessage(), /half way/);
  });

  it('fail in ways that the client knows', async () => {
    const problem = async (call) => call.catch((caught) => caught);
    const stranger = await problem(client({ apiKey: 'bkg_sk_wrong' }).messages.create(ask('hi')));
    assert.ok(stranger instanceof Anthropic.AuthenticationError);
    const missing = await problem(client().messages.create(ask('hi', { model: 'no-such-model' })));
    assert.ok(missing instanceof Anthropic.NotFoundError);
    assert.ok(missing.requestID);
    const busy = await problem(client().messages.create(ask('hi', { model: 'scripted-busy' })));
    assert.ok(busy instanceof Anthropic.RateLimitError);
  });

  it('take the key in x-api-key', async () => {
    const headers = { 'x-api-key': host.key, 'anthropic-version': '2023-06-01' };
    const answer = await fetch(`${host.url}/v1/messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(ask('hi')),
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('request-id'), answer.headers.get('x-request-id'));
  });

  it('are counted by an estimate', async () => {
    const { max_tokens: _, ...asked } = ask('four bytes are one token');
    const count = await client().messages.countTokens(asked);
    assert.ok(count.input_tokens > 0);
    assert.equal(count.estimated, true);
  });

  it('are cancelled within 100 ms when the client leaves', async () => {
    const { data, response } = await client()
      .messages.create(ask('go', { model: 'test/slow', stream: true }))
      .withResponse();
    for await (const event of data) if (event.type === 'content_block_delta') break;
    const leftAt = nowMs();
    data.controller.abort();
    await assertCancelledOnce(response.headers.get('request-id'), leftAt);
  });
});
