// OpenAI's npm client against a gateway: node drive.mjs http://127.0.0.1:PORT/v1
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 1 });
const messages = [{ role: "user", content: "What is 40 + 2?" }];
const vote = "mock+self-consistency(n=5, stop=fixed)";
const checks = {
  async chat() {
    const told = await client.chat.completions.create({ model: vote, messages });
    assert.match(told.choices[0].message.content, /answer is 4[12]/);
    assert.equal(told.thinkscale.samples, 5);
    assert.equal(told.usage.completion_tokens, 25);
  },
  async "method in the body"() {
    const told = await client.chat.completions.create({
      model: "mock", messages, thinkscale: { method: "best-of-n(n=4, scorer=length)", trace: true },
    });
    assert.equal(told.thinkscale.traces.length, 4);
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: vote, messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "", usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.match(text, /answer is 4[12]/);
    assert.equal(usage.completion_tokens, 25);
  },
  async "stream interface"() {
    const final = await client.chat.completions.stream({ model: "mock", messages }).finalChatCompletion();
    assert.match(final.choices[0].message.content, /answer is 4[12]/);
  },
  async "choices and seed"() {
    const ask = () => client.chat.completions.create({ model: "mock", messages, n: 3, seed: 7 });
    const [first, again] = [await ask(), await ask()];
    assert.deepEqual(first.choices.map((c) => c.message.content), again.choices.map((c) => c.message.content));
    assert.equal(first.choices.length, 3);
  },
  async responses() {
    const told = await client.responses.create({ model: vote, input: "What is 40 + 2?" });
    assert.match(told.output_text, /answer is 4[12]/);
  },
  async "responses in a stream"() {
    const kinds = [];
    for await (const event of client.responses.stream({ model: vote, input: "What is 40 + 2?" })) kinds.push(event.type);
    assert.equal(kinds[0], "response.created");
    assert.equal(kinds.at(-1), "response.completed");
  },
  async "responses in the background"() {
    const wish = { model: vote, input: "What is 40 + 2?", background: true };
    const begun = await client.responses.create(wish);
    assert.equal(begun.background, true);
    let told = begun;
    while (["queued", "in_progress"].includes(told.status)) told = await client.responses.retrieve(begun.id);
    assert.equal(told.status, "completed");
    assert.match(told.output_text, /answer is 4[12]/);
    assert.equal((await client.responses.cancel(begun.id)).status, "completed");
    await client.responses.delete(begun.id);
    await assert.rejects(client.responses.retrieve(begun.id), OpenAI.NotFoundError);
  },
  async models() {
    const listed = await client.models.list();
    assert.equal(listed.data[0].id, "mock");
  },
  async errors() {
    const refused = (body, kind, param) =>
      assert.rejects(client.chat.completions.create({ model: "mock", messages, ...body }),
        (error) => error instanceof kind && error.param === param);
    await refused({ model: "nope" }, OpenAI.NotFoundError, "model");
    await refused({ n: 10000 }, OpenAI.BadRequestError, "n");
    await refused({ temperature: "hot" }, OpenAI.BadRequestError, "temperature");
  },
  async "leaving a stream"() {
    const stream = await client.chat.completions.create({ model: vote, messages, stream: true });
    stream.controller.abort();
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error}`);
  }
}
process.exit(failed ? 1 : 0);
