// What the dashboard reckons without a page: the lag, the plot, the first lines of a file, and what a bar may show.

import assert from "node:assert/strict";
import test from "node:test";

import { Highest } from "../../web/client/bar.js";
import { readHead } from "../../web/dashboard/columns.js";
import { Lag } from "../../web/dashboard/lag.js";
import { pointsOf } from "../../web/dashboard/plot.js";
import { merged, previewOf } from "../../web/dashboard/preview.js";

test("the quickest event counts as nothing, whatever the clocks say", () => {
  const lag = new Lag();
  assert.equal(lag.note(1_000, 901_040), 0);
  assert.equal(lag.note(2_000, 902_060), 20);
  assert.equal(lag.note(3_000, 903_030), 0);
  assert.equal(lag.note(4_000, 904_035), 5);
  // Another window: a clock that was set is forgotten.
  assert.equal(lag.note(200_000, 1_200_000), 0);
});

test("a plot goes from left to right and from nothing to the most", () => {
  const samples = [{ at: 0, rate: 0 }, { at: 50, rate: 10 }, { at: 100, rate: 5 }];
  assert.equal(pointsOf(samples, 300, 40), "0,39 150,1 300,20");
});

test("a bar never goes back within an attempt, and is full at the end alone", () => {
  const bar = new Highest();
  const at = (attempt, state, fraction) => bar.of({ attempt, state }, fraction);
  assert.equal(at(null, "queued", null), null);
  assert.equal(at(1, "running", 0.5), 0.5);
  assert.equal(at(1, "running", 0.4), 0.5);
  assert.equal(at(1, "running", 1), 0.999);
  assert.equal(at(2, "running", null), null);
  assert.equal(at(2, "running", 0.1), 0.1);
  bar.reset();
  assert.equal(at(2, "running", 0.05), 0.05);
  assert.equal(at(2, "succeeded", 1), 1);
});

test("the first lines are merged as the worker does it", async () => {
  const file = new File(['first_name;company\n"Ann; B.";Firm\nBob;\n'], "a.csv");
  assert.deepEqual(await previewOf(file, "Hi {{ First_Name }} of {{company|your firm}}"), ["Hi Ann; B. of Firm", "Hi Bob of your firm"]);
  assert.deepEqual(await previewOf(file, "{{company}}"), ["Firm", "(left empty: no company)"]);
  assert.deepEqual(await previewOf(file, "no blank"), []);
  assert.equal(merged("{{nobody}}", ["a"], ["x"]), "{{nobody}}");
});

test("a quoted cell may hold everything", async () => {
  const file = new File(['a,b\r\n"x ""y""\nz","1,2"\r\nlast,3'], "a.csv");
  assert.deepEqual(await readHead(file, 5), { names: ["a", "b"], rows: [['x "y"\nz', "1,2"], ["last", "3"]] });
});
