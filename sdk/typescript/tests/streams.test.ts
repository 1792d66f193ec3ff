// Streamed answers keep to the credit, and end when nobody reads them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BodyBytes, type ChunkSink, Plugin, type RawJson, type Request, RouteAnswer, SendError } from "bkg-sdk";

import { failure, gate, hosting } from "./tools.js";

async function count(request: Request, chunks: ChunkSink): Promise<string> {
  for (let number = 0; number < Number(request.payload); number += 1) {
    await chunks.send(number);
  }
  return "done";
}

const echo = (request: Request): RawJson => request.rawPayload;
const counter = (): Plugin => new Plugin().stream("test.count", count).answer("test.echo", echo);

test("chunks arrive in order and then the final answer", async () => {
  await hosting(counter(), async (host) => {
    const stream = host.stream("test.count", 1000);
    assert.deepEqual(await stream.collect(), [...Array(1000).keys()]);
    assert.equal(await stream.outcome(), "done");
    assert.equal(host.seen.dropped, 0);
  });
});

test("no more chunks leave than there is credit", async () => {
  let sent = 0;
  const plugin = new Plugin().answer("test.echo", echo).stream("test.endless", async (_, chunks) => {
    for (;;) {
      await chunks.send(0);
      sent += 1;
    }
  });
  await hosting(plugin, async (host) => {
    const stream = host.streamWithCredit("test.endless", null, 3);
    for (let chunk = 0; chunk < 3; chunk += 1) {
      assert.equal(await stream.next(), 0);
    }
    // A fourth chunk would have left before the answer to a later request.
    await host.request("test.echo", null);
    assert.deepEqual([stream.nextNow(), sent], [undefined, 3]);
    stream.grant(2);
    assert.deepEqual([await stream.next(), await stream.next()], [0, 0]);
    await host.request("test.echo", null);
    assert.deepEqual([stream.nextNow(), sent], [undefined, 5]);
  });
});

test("whoever sends for a caller who left is told", async () => {
  const told = gate<unknown>();
  const plugin = new Plugin().stream("test.outlive", async (_, chunks) => {
    for (;;) {
      await chunks.send(0).catch((problem: unknown) => {
        told.open(problem);
        throw problem;
      });
    }
  });
  await hosting(plugin, async (host) => {
    const stream = host.streamWithCredit("test.outlive", null, 1);
    assert.equal(await stream.next(), 0);
    stream.cancel();
    const problem = await told.opened;
    assert.ok(problem instanceof SendError && problem.reason === "over");
    await host.until("the stream is answered", (seen) => seen.answers.length === 1);
    const [answer] = host.seen.answers;
    assert.ok(answer?.outcome.ok === false && answer.outcome.error.code === "cancelled");
  });
});

test("a chunk that is too large is refused and the stream goes on", async () => {
  const refusals: unknown[] = [];
  const plugin = new Plugin().stream("test.large", async (_, chunks) => {
    await chunks.send("é".repeat(1000)).catch((problem: unknown) => refusals.push(problem));
    await chunks.send("small");
  });
  await hosting(
    plugin,
    async (host) => {
      assert.deepEqual(await host.stream("test.large", null).collect(), ["small"]);
      const [refusal] = refusals;
      assert.ok(refusal instanceof SendError && refusal.reason === "tooLarge");
      assert.match(refusal.message, /2002 bytes, the limit is 1000/);
    },
    { limits: { chunk: 1000 } },
  );
});

test("the caller chooses between one answer and a stream", async () => {
  const plugin = counter().answer("test.both", echo).stream("test.both", count);
  await hosting(plugin, async (host) => {
    assert.equal(await host.request("test.both", 2), 2);
    assert.deepEqual(await host.stream("test.both", 2).collect(), [0, 1]);
    // What can only stream says so; what cannot answers at once.
    assert.equal((await failure(host.request("test.count", 2))).code, "invalid_request");
    const stream = host.stream("test.echo", 2);
    assert.deepEqual([await stream.collect(), await stream.outcome()], [[], 2]);
  });
});

test("many streams share the socket and stay apart", async () => {
  const plugin = new Plugin().stream("test.label", async (request, chunks) => {
    for (let chunk = 0; chunk < 200; chunk += 1) {
      await chunks.send(request.rawPayload);
    }
  });
  await hosting(plugin, async (host) => {
    const streams = [...Array(64).keys()].map((number) => host.stream("test.label", number));
    const collected = await Promise.all(streams.map((stream) => stream.collect()));
    for (const [number, chunks] of collected.entries()) {
      assert.deepEqual(chunks, Array(200).fill(number));
    }
  });
});

test("chunks that nobody waits for keep their order and come before the end", async () => {
  const plugin = new Plugin().stream("test.hasty", (_, chunks) => {
    for (let number = 0; number < 100; number += 1) {
      void chunks.send(number);
    }
  });
  await hosting(plugin, async (host) => {
    const stream = host.stream("test.hasty", null);
    assert.deepEqual(await stream.collect(), [...Array(100).keys()]);
    assert.equal(await stream.outcome(), null);
  });
});

test("a socket that is behind bounds what streams pile up whatever their credit, and is not lost", async () => {
  const large = "x".repeat(100 << 10);
  let given = 0;
  const plugin = new Plugin().answer("test.echo", echo).stream("test.flood", async (_, chunks) => {
    for (; given < 50; given += 1) {
      await chunks.send(large);
    }
  });
  await hosting(plugin, async (host) => {
    const stream = host.streamWithCredit("test.flood", null, 1_000);
    const chunks = await stream.collect();
    assert.deepEqual([chunks.length, await stream.outcome(), given], [50, null, 50]);
  });
});

test("the head and the bytes of a streamed HTTP response travel as the host reads them", async () => {
  const plugin = new Plugin().stream("test.noise", async (_, chunks) => {
    await chunks.send(new RouteAnswer(200, { headers: { "Content-Type": "audio/wav", vary: ["a", "b"] } }));
    await chunks.send(new BodyBytes(new Uint8Array([255, 0])));
    await chunks.send("text");
  });
  await hosting(plugin, async (host) => {
    assert.deepEqual(await host.stream("test.noise", null).collect(), [
      { $http: { status: 200, headers: { "content-type": ["audio/wav"], vary: ["a", "b"] } } },
      { base64: "/wA=" },
      "text",
    ]);
  });
});

test("a chunk that cannot be written is refused, and the stream goes on", async () => {
  const plugin = new Plugin().stream("test.stream", async (_, chunks) => {
    let problem: unknown;
    await chunks.send({ number: 1n }).catch((thrown: unknown) => (problem = thrown));
    await chunks.send(problem instanceof TypeError);
  });
  await hosting(plugin, async (host) => {
    assert.deepEqual(await host.stream("test.stream", null).collect(), [true]);
  });
});
