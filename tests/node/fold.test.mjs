// The page's fold gives what the server's gives: the same vectors, by `node --test`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { fold, hasEnded } from "../../web/client/fold.js";

const { header, vectors } = JSON.parse(readFileSync(new URL("../vectors/fold.json", import.meta.url), "utf8"));

const created = new Date(header.created_at).toISOString();

/** What the server calls a new job, as far as the fold reads it. */
const fresh = () => ({
  ...header, state: "queued", attempt: null, done: null, total: null, unit: null, rate: null, eta: null, message: null,
  steps: [], stalled: false, cancel_requested: false, error: null, result: null, next_at: null,
  created_at: created, started_at: null, finished_at: null, updated_at: created,
});

/** An object that refuses every change, all the way down. */
function frozen(value) {
  if (value !== null && typeof value === "object") Object.values(Object.freeze(value)).forEach(frozen);
  return value;
}

for (const { name, events, expect } of vectors) {
  test(name, () => {
    const state = events.reduce((before, event) => frozen(fold(before, frozen(event))), frozen(fresh()));

    assert.deepEqual(Object.fromEntries(Object.keys(expect).map((key) => [key, state[key]])), expect);
  });
}

test("a type named like a thing that every object has is a type of the actor's own", () => {
  const running = fold(fresh(), { type: "started", at: "2026-01-01T00:00:00.000Z", attempt: 1 });
  for (const type of ["constructor", "to_string", "__proto__", "valueOf"]) {
    assert.equal(fold(running, { type, at: "2026-01-01T00:00:01.000Z", attempt: 1 }).state, "running");
  }
});

test("a job that nothing is known of has not ended", () => {
  assert.equal(hasEnded(null), false);
  assert.equal(hasEnded({ ...fresh(), state: "cancelled" }), true);
});
