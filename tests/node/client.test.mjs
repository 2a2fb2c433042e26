// What of the client decides and asks nobody: places in a stream, waits, and by which way to go. Clock and chance are arguments.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import test from "node:test";

const FOLDER = new URL("../../web/client/", import.meta.url);
const { configOf } = await import(new URL("config.js", FOLDER));
const { Backoff } = await import(new URL("backoff.js", FOLDER));
const { Modes } = await import(new URL("modes.js", FOLDER));
const { earlier, follows, isBefore } = await import(new URL("position.js", FOLDER));
const { JobTopic } = await import(new URL("job.js", FOLDER));
const { Http } = await import(new URL("http.js", FOLDER));
const { readStream } = await import(new URL("stream.js", FOLDER));
const { ListTopic } = await import(new URL("list.js", FOLDER));

test("every module can be imported where there is no page", async () => {
  for (const name of readdirSync(FOLDER).filter((name) => name.endsWith(".js") && name !== "react.js")) {
    await import(new URL(name, FOLDER));
  }
});

test("what others wrote is what they published", () => {
  const hash = (name) => createHash("sha256").update(readFileSync(new URL(`vendor/${name}`, FOLDER))).digest("hex");
  const known = JSON.parse(readFileSync(new URL("vendor/vendored.json", FOLDER)));
  const files = readdirSync(new URL("vendor/", FOLDER)).filter((name) => name.endsWith(".js"));
  assert.deepEqual(files, Object.keys(known));
  for (const [name, { sha256 }] of Object.entries(known)) assert.equal(hash(name), sha256, name);
});

test("ids are compared as two numbers of 64 bits, never as text or as floats", () => {
  assert.ok(isBefore("9-9", "10-1"));
  assert.ok(isBefore("7-9", "7-10"));
  assert.ok(isBefore("18446744073709551614-1", "18446744073709551615-1"));
  assert.ok(!isBefore("7-10", "7-10"));
  assert.ok(isBefore(null, "1-1") && isBefore("nonsense", "1-1"));
  assert.ok(follows("7-10", "7-9"));
  assert.ok(!follows("8-10", "7-9") && !follows("7-11", "7-9"));
  assert.equal(earlier("7-300", 100), "7-200");
  assert.equal(earlier("7-100", 100), "0-0");
  assert.equal(earlier("7-100", Infinity), "0-0");
});

test("a wait is drawn from a range that doubles up to a cap, and is never less than what was asked for", () => {
  const most = new Backoff(() => 1);
  assert.deepEqual(Array.from({ length: 7 }, () => most.next()), [1e3, 2e3, 4e3, 8e3, 16e3, 30e3, 30e3]);
  most.reset();
  assert.equal(most.next(), 1e3);
  assert.equal(new Backoff(() => 0).next(5_000), 5_000);
  assert.equal(new Backoff(() => 0).next(1e9), 300_000);
  const never = new Backoff(() => 0.5);
  for (let failure = 0; failure < 5_000; failure += 1) assert.ok(never.next() <= 30_000);
});

test("a stream that is held back gives way to long-polls, and is tried again ever later", () => {
  const modes = new Modes();
  modes.heldBack(0);
  assert.equal(modes.at(29_999), "long-poll");
  assert.equal(modes.at(30_000), "stream");
  modes.heldBack(30_000);
  assert.equal(modes.at(89_999), "long-poll");
  assert.equal(modes.at(90_000), "stream");
  for (let now = 1e6; now < 1e8; now += 1e7) modes.heldBack(now);
  assert.equal(modes.left(91e6), 300_000);
  modes.passed();
  modes.heldBack(2e8);
  assert.equal(modes.left(2e8), 30_000);
});

test("three short streams in a row that brought nothing are as good as none", () => {
  const modes = new Modes();
  for (const lasted of [500, 500]) modes.broke(0, lasted);
  assert.equal(modes.at(0), "stream");
  modes.broke(0, 5_000);
  for (const lasted of [500, 500]) modes.broke(0, lasted);
  assert.equal(modes.at(0), "stream");
  modes.broke(0, 500);
  assert.equal(modes.at(0), "long-poll");
});

test("a server that gives no streams is polled until it gives them again", () => {
  const modes = new Modes();
  modes.refused(0, null);
  assert.equal(modes.at(1e9), "polling");
  modes.restored();
  assert.equal(modes.at(1e9), "stream");
  modes.refused(0, 5_000);
  assert.equal(modes.at(4_999), "polling");
  modes.restored();
  assert.equal(modes.at(4_999), "polling");
  assert.equal(modes.at(5_000), "stream");
});

test("where streaming is switched off the server is asked again each ten seconds, once for all that a page watches", async (t) => {
  let asked = 0;
  let streaming = false;
  const server = createHttpServer((_, answer) => {
    asked += 1;
    answer.end(JSON.stringify({ streaming }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const config = configOf({ url: (path) => new URL(path, `http://127.0.0.1:${server.address().port}`) });
  const { signal } = new AbortController();
  const looks = () => Promise.all([config.streams(signal), config.streams(signal)]);
  t.mock.timers.enable({ apis: ["Date"], now: 1e12 });

  config.streaming = false;
  assert.deepEqual(await looks(), [false, false]);
  assert.equal(asked, 1);
  t.mock.timers.tick(9_999);
  assert.deepEqual(await looks(), [false, false]);
  assert.equal(asked, 1);
  t.mock.timers.tick(1);
  assert.deepEqual(await looks(), [false, false]);
  assert.equal(asked, 2);
  streaming = true;
  assert.deepEqual(await looks(), [false, false]);
  t.mock.timers.tick(10_000);
  await looks();
  assert.equal(await config.streams(signal), true);
  assert.equal(asked, 3);
});

const state = (n, more = {}) => ({ id: "j", state: "running", done: n, total: 10, steps: [], last_event_id: `7-${n}`, ...more });
const event = (n, type = "log") => ({ id: `7-${n}`, event: { job: "j", type, at: "2026-01-01T00:00:00.000Z", attempt: 1 } });

test("an event is handed on once, and folded where the state does not hold it yet", () => {
  const seen = [];
  const states = [];
  const topic = new JobTopic("j", { onEvent: (_, id) => seen.push(id), onState: (one) => states.push(one.last_event_id) });
  topic.apply({ state: state(3), id: "7-1", gap: false, reason: null });
  for (const n of [1, 2, 3, 4, 4, 2]) assert.equal(topic.apply(event(n)), false);
  assert.deepEqual(seen, ["7-2", "7-3", "7-4"]);
  assert.deepEqual(states, ["7-3", "7-4"]);
  assert.equal(topic.apply(event(5, "succeeded")), true);
  assert.equal(topic.state.state, "succeeded");
});

test("only what comes right after the last is taken from another tab", () => {
  const topic = new JobTopic("j", {});
  assert.equal(topic.fits(event(1)), false);
  topic.apply({ state: state(3), id: "7-3", gap: false, reason: null });
  assert.equal(topic.fits(event(4)), true);
  assert.equal(topic.fits(event(5)), false);
  assert.equal(topic.isNews(event(5)), true);
  assert.equal(topic.isNews(event(3)), false);
  assert.equal(topic.fits({ id: "8-4", event: {} }), false);
});

test("a gap is told once something was shown, and not before", () => {
  const gaps = [];
  const topic = new JobTopic("j", { onState: (_, { gap }) => gaps.push(gap) });
  topic.apply({ state: state(3), id: "7-3", gap: true, reason: "trimmed" });
  topic.apply({ state: state(9), id: "7-9", gap: true, reason: "lost" });
  assert.deepEqual(gaps, [false, true]);
});

test("of a list an older state is never shown, and what is gone is told once", () => {
  const shown = [];
  const gone = [];
  const list = new ListTopic(null, { onJob: ({ last_event_id: id }) => shown.push(id), onGone: (id) => gone.push(id) });
  for (const n of [2, 1, 3, 3]) list.apply({ id: "", state: state(n) });
  list.apply({ id: "55", gone: "j" });
  list.apply({ id: "", gone: "j" });
  assert.deepEqual(shown, ["7-2", "7-3", "7-3"]);
  assert.deepEqual(gone, ["j"]);
  assert.equal(list.position, "55");
});

test("a stream that never began is a failure, one that was cut has ended: only those speak against streams", async () => {
  const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n";
  const read = async (answer) => {
    const server = createServer((socket) => socket.once("data", () => socket.end(answer)));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const base = new URL(`http://127.0.0.1:${server.address().port}/`);
    const frames = [];
    const how = { signal: new AbortController().signal, silenceMs: 5_000, onByte() {}, onRetry() {} };
    const onFrame = ({ id }) => frames.push(id);
    try {
      return [await readStream(new Http(base), base, {}, { ...how, onFrame }), frames];
    } finally {
      server.close();
    }
  };
  await assert.rejects(read(""), TypeError);
  assert.deepEqual(await read(`${head}id: 7-1\ndata: {}\n\nid: 7-2`), ["cut", ["7-1"]]);
});
