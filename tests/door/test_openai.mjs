// The official JavaScript client against a box that tests/door/with_box.py has started: TESSERA_URL.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRequire } from 'node:module';

const OpenAI = createRequire(process.env.TESSERA_CLIENTS + '/')('openai');
const client = new OpenAI({ baseURL: process.env.TESSERA_URL + '/v1', apiKey: 'none', maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const ask = {
  model,
  messages: [{ role: 'user', content: 'list all files in the current folder' }],
  temperature: 0,
  max_tokens: 24,
};

test('a stream says what the whole answer says', async () => {
  const whole = await client.chat.completions.create(ask);
  let text = '';
  let usage = null;
  for await (const chunk of await client.chat.completions.create({
    ...ask, stream: true, stream_options: { include_usage: true },
  })) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.ok(text.length > 0);
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test('the helper that gathers a stream agrees', async () => {
  const whole = await client.chat.completions.create(ask);
  const stream = client.chat.completions.stream(ask);
  assert.equal(await stream.finalContent(), whole.choices[0].message.content);
});

test('embeddings', async () => {
  const { data, usage } = await client.embeddings.create({ model, input: ['list files', 'show disk usage'] });
  assert.equal(data.length, 2);
  for (const { embedding } of data) {
    assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-3);
  }
  assert.ok(usage.prompt_tokens > 0);
});

test('responses stream', async () => {
  let text = '';
  let last = '';
  for await (const event of await client.responses.create({
    model, input: ask.messages[0].content, temperature: 0, max_output_tokens: 24, stream: true,
  })) {
    text += event.type === 'response.output_text.delta' ? event.delta : '';
    last = event.type;
  }
  assert.match(last, /^response\.(completed|incomplete)$/);
  assert.equal(text, (await client.chat.completions.create(ask)).choices[0].message.content);
});

test('errors name the parameter', async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, temperature: 'hot' }), (error) => {
    assert.equal(error.status, 400);
    assert.equal(error.param, 'temperature');
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...ask, model: 'gpt-none' }), { status: 404 });
});

test('an aborted stream ends its request', async () => {
  const stream = await client.chat.completions.create({ ...ask, max_tokens: 1500, ignore_eos: true, stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
    break;
  }
  for (let tries = 0; ; tries++) {
    const figures = await (await fetch(process.env.TESSERA_URL + '/metrics')).text();
    const running = /^tessera:num_requests_running\S* (\S+)$/m.exec(figures)[1];
    if (Number(running) === 0) {
      break;
    }
    assert.ok(tries < 500, 'the request is still running');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
});
