// Numbers and times as the page says them.

import assert from "node:assert/strict";
import test from "node:test";

import { duration, fractionOf, size } from "../../web/client/words.js";

test("a duration has at most two units", () => {
  const cases = [[-3, "less than 1 s"], [0.4, "less than 1 s"], [1, "1 s"], [59.4, "59 s"], [60, "1 min"], [200, "3 min 20 s"], [3600, "1 h"], [7500, "2 h 5 min"]];
  for (const [seconds, text] of cases) assert.equal(duration(seconds), text);
});

test("a size is in the unit that a person would take", () => {
  assert.equal(size(0), "0 bytes");
  assert.match(size(75_400), /^75 kB$/);
  assert.match(size(50_000_000), /^50 MB$/);
});

test("how far a job is, where it can be known", () => {
  const cases = [
    [{ state: "running", done: null, total: 10 }, null],
    [{ state: "running", done: 5, total: null }, null],
    [{ state: "running", done: 5, total: 20 }, 0.25],
    [{ state: "running", done: 0, total: 0 }, 1],
    [{ state: "succeeded", done: null, total: null }, 1],
    [{ state: "failed", done: 5, total: 20 }, 0.25],
  ];
  for (const [state, fraction] of cases) assert.equal(fractionOf(state), fraction);
});
