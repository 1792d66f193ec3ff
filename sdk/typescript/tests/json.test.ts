// JSON that is passed on is the text that came, and what is written is JSON.

import assert from "node:assert/strict";
import { inspect } from "node:util";
import { test } from "node:test";

import { BodyBytes, Environment, EnvironmentError, RawJson, RouteAnswer, Secret, WireError } from "bkg-sdk";
import { decodeHostMessage } from "#sdk/protocol/frame";
import { requestId, RequestIds } from "#sdk/protocol/name";

test("text is kept as it was written, without blanks around it", () => {
  const text = '{"b":1.0e2,"a":[1E400,"\\u00e9", 12345678901234567890]}';
  assert.equal(RawJson.parse(` \n${text}\t`).text, text);
  assert.equal(
    RawJson.of({ kept: RawJson.parse(text), list: [RawJson.parse("1.0")] }).text,
    `{"kept":${text},"list":[1.0]}`,
  );
  assert.equal(JSON.stringify({ read: RawJson.parse("1.0") }), '{"read":1}');
});

test("half a character is kept as an escape, since no frame can carry it", () => {
  for (const half of ["\ud800", "\udc00", "\udc00\ud800"]) {
    const raw = RawJson.parse(`{"${half}":"${half}😀"}`);
    assert.equal(raw.text, JSON.stringify({ [half]: `${half}😀` }));
    assert.deepEqual(raw.read(), { [half]: `${half}😀` });
  }
});

test("what is not one JSON value is refused", () => {
  for (const wrong of ["", "{", "1 2", "nul", '{"a":}', "\u{feff}1", "'a'"]) {
    assert.throws(() => RawJson.parse(wrong), SyntaxError, wrong);
  }
});

test("members are found as JSON has them, whatever stands in texts", () => {
  const texts = ["", "\\", '"', '\\"', "}", "]}", ',"b":2', "\\\\", "é\u2028", "[{"];
  for (const [index, name] of texts.entries()) {
    for (const value of texts) {
      const object = { [`${name}${String(index)}`]: value, list: [value, { [name]: value }, []], b: { deep: [value] } };
      for (const text of [JSON.stringify(object), JSON.stringify(object, undefined, 2)]) {
        const raw = RawJson.parse(text);
        const read = Object.fromEntries(Object.keys(object).map((member) => [member, raw.member(member)?.read()]));
        assert.deepEqual(read, object);
        assert.equal(raw.member("none"), undefined);
      }
    }
  }
  assert.equal(RawJson.parse("[]").member("length"), undefined);
  assert.equal(RawJson.parse('{"a":1,"a":2.0}').member("a")?.text, "2.0", "as `JSON.parse` takes the last");
  assert.equal(RawJson.parse('{"\\u0061":1.0}').member("a")?.text, "1.0");
  assert.equal(RawJson.parse("{}").member("__proto__"), undefined);
});

test("what a value is written as", () => {
  class Point {
    readonly x = 1;
    readonly raw = RawJson.parse("2.0");
  }
  class Itself {
    readonly x = 1;
    toJSON(): this {
      return this;
    }
  }
  const cases: [unknown, string][] = [
    [undefined, "null"],
    [Number.NaN, "null"],
    [[undefined, RawJson.NULL], "[null,null]"],
    [{ gone: undefined, kept: RawJson.EMPTY_OBJECT }, '{"kept":{}}'],
    [new Point(), '{"x":1,"raw":2.0}'],
    [{ at: new Date(0), raw: RawJson.parse("1.0") }, '{"at":"1970-01-01T00:00:00.000Z","raw":1.0}'],
    [
      { answer: new RouteAnswer(200, { json: RawJson.parse("1.0") }) },
      '{"answer":{"$http":{"status":200,"json":1.0}}}',
    ],
    [[new BodyBytes(new Uint8Array([1]))], '[{"base64":"AQ=="}]'],
    ["\ud800", '"\\ud800"'],
    // eslint-disable-next-line no-sparse-arrays -- What a plugin returns may have holes.
    [[1, , RawJson.parse("2.0")], "[1,null,2.0]"],
    [[new Number(1), new String("x"), new Boolean(false), RawJson.parse("1.0")], '[1,"x",false,1.0]'],
    [{ raw: RawJson.parse("1.0"), itself: new Itself() }, '{"raw":1.0,"itself":{"x":1}}'],
    [{ raw: RawJson.parse("1.0"), named: { toJSON: (name: string) => name } }, '{"raw":1.0,"named":"named"}'],
  ];
  for (const [value, text] of cases) {
    assert.equal(RawJson.of(value).text, text);
  }
  for (const wrong of [1n, () => 1, Symbol("x"), { deep: [RawJson.NULL, 1n] }]) {
    assert.throws(() => RawJson.of(wrong), TypeError);
  }
  const cyclic: { self?: object; raw: RawJson } = { raw: RawJson.NULL };
  cyclic.self = cyclic;
  assert.throws(() => RawJson.of(cyclic), TypeError);
  assert.equal(RawJson.of({ after: 1 }).text, '{"after":1}');
});

test("a member that came twice is refused, and an unknown one is of no matter", () => {
  const frame = (members: string): string => `{"type":"chunk","requestId":"r","seq":0${members}}`;
  assert.equal(decodeHostMessage(frame(',"x":1,"x":2,"__proto__":{"seq":"x"}')).is, "message");
  const decoded = decodeHostMessage(frame(',"data":1,"data":2'));
  assert.ok(decoded.is === "unreadable" && decoded.requestId === "r");
  for (const wrong of ["", "[]", "{}", '{"type":1}', "null", '{"type":"chunk"']) {
    assert.equal(decodeHostMessage(wrong).is, "unreadable", wrong);
  }
  assert.equal(decodeHostMessage('{"type":"constructor"}').is, "unknown");
});

test("an error of any shape is an error", () => {
  const read = (text: string): WireError => {
    const decoded = decodeHostMessage(`{"type":"updated","success":false,"error":${text}}`);
    assert.ok(decoded.is === "message" && decoded.message.type === "updated" && decoded.message.error);
    return decoded.message.error;
  };
  assert.deepEqual([read('"boom"').code, read('"boom"').message], ["plugin_error", "boom"]);
  assert.equal(read('{"message":"m"}').code, "plugin_error");
  assert.equal(read('{"code":7,"message":"m"}').code, "7");
  assert.equal(read("[1]").message, "[1]");
  assert.equal(read('{"code":"x","retryAfterMs":5}').retryAfterMs, 5);
  assert.equal(read('{"code":"x","message":"m","retryable":"yes"}').code, "plugin_error");
  assert.equal(read('{"code":"x","details":1.0}').details?.text, "1.0");
  assert.equal(new WireError("x", "m", { retryAfterMs: 1.2 }).retryAfterMs, 2);
  assert.equal(new WireError("x", "m", { retryAfterMs: Number.NaN }).retryAfterMs, undefined);
  assert.equal(read('{"__proto__":{"code":"x"},"message":"m"}').code, "plugin_error");
});

test("a secret is not printed", () => {
  const environment = new Environment({ busUrl: "ws://127.0.0.1:1", name: "test", token: "canary" });
  const secret = new Secret("canary");
  for (const printed of [
    inspect(secret),
    String(secret),
    JSON.stringify({ secret }),
    inspect(environment, { showHidden: true }),
  ]) {
    assert.doesNotMatch(printed, /canary/);
  }
  assert.equal(environment.token.reveal(), "canary");
});

test("an id of this side names its request in its own session and spelling alone", () => {
  const ids = new RequestIds(0xdead_beef_dead_beefn);
  for (const number of [0, 1, 255, 2 ** 40]) {
    const id = ids.id(number);
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(ids.number(id), number);
    assert.equal(new RequestIds(1n).number(id), undefined);
  }
  for (const foreign of ["", "x", ids.id(255).toUpperCase(), `${ids.id(1)}0`, ids.id(1).slice(0, -1)]) {
    assert.equal(ids.number(foreign), undefined, foreign);
  }
  assert.throws(() => requestId(""));
  assert.throws(() => requestId("é".repeat(65)));
});

test("what is missing in the environment is named with who sets it", () => {
  const needed = { BKG_PLUGIN_BUS_URL: "ws://127.0.0.1:1", BKG_PLUGIN_NAME: "ping", BKG_PLUGIN_TOKEN: "t" };
  const environment = Environment.ofProcess(needed);
  assert.equal(environment.name, "ping");
  assert.throws(() => environment.dataDir, /`BKG_PLUGIN_DATA_DIR` is not set: the host sets it/);
  for (const name of Object.keys(needed)) {
    const problem = { name: "EnvironmentError", message: new RegExp(`\`${name}\` is not set: the host sets it`) };
    assert.throws(() => Environment.ofProcess({ ...needed, [name]: undefined }), problem);
  }
  assert.throws(() => Environment.ofProcess({ ...needed, BKG_PLUGIN_NAME: "No Name" }), EnvironmentError);
  assert.throws(() => Environment.ofProcess({ ...needed, BKG_PLUGIN_INSTANCE: "7" }), EnvironmentError);
});
