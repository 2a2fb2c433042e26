// A job's state after one more event: the same rules as the server's (progress_stream/jobs.py), tried on the same
// vectors. Pure: no clock, no network, and the state that is passed in stays as it is.

/** What may follow what. Lifecycle events only; not in a row: changes nothing. No row: the job has ended. */
const NEXT = {
  queued: { started: "running", failed: "failed", cancelled: "cancelled" },
  running: {
    started: "running", retrying: "retrying",
    succeeded: "succeeded", failed: "failed", cancelled: "cancelled",
  },
  retrying: { started: "running", failed: "failed", cancelled: "cancelled" },
};
const LIFECYCLE = new Set(["queued", "started", "retrying", "succeeded", "failed", "cancelled"]);
/** Others write these, so they say nothing of whether the worker lives. */
const BY_OTHERS = new Set(["stalled", "cancelling"]);
const MAX_STEPS = 100;

export const TERMINAL = new Set(["succeeded", "failed", "cancelled"]);

/** True for a state after which nothing comes. */
export const hasEnded = (state) => state !== null && TERMINAL.has(state.state);

/** The state after `event` (its data object). An event that the table does not allow changes nothing. */
export function fold(state, event) {
  const following = advance(state.state, event.type);
  if (following === undefined) return state;
  const after = { ...state, state: following, updated_at: event.at };
  if (!BY_OTHERS.has(event.type) && "attempt" in event) {
    after.attempt = event.attempt;
    after.stalled = false;
  }
  if (following !== "queued" && after.waiting_for != null) after.waiting_for = null;
  if (Object.hasOwn(FOLDS, event.type)) FOLDS[event.type](after, event);
  return after;
}

function advance(state, type) {
  if (!Object.hasOwn(NEXT, state)) return undefined;
  if (!LIFECYCLE.has(type)) return state;
  return NEXT[state][type];
}

function started(state, event) {
  Object.assign(state, {
    done: null, total: null, unit: null, rate: null, eta: null, message: null, error: null, result: null,
    finished_at: null, next_at: null, steps: [], stalled: false, started_at: event.at,
  });
}

function progress(state, { done = null, total = null, unit, message, rate, eta = null, parts }) {
  if (total !== null) state.total = total;
  if (done !== null && (state.done === null || done >= state.done)) state.done = done;
  if (state.done !== null && state.total !== null && state.done > state.total) state.total = state.done;
  if (unit !== undefined) state.unit = unit;
  if (message !== undefined) state.message = message;
  if (rate !== undefined) state.rate = rate;
  // Without a number it says nothing of how long the job will take.
  if (done !== null || total !== null) state.eta = eta;
  if (parts !== undefined) state.parts = parts;
}

function step(state, { name = null, state: its = null, seconds = null }) {
  const now = { name, state: its, seconds };
  const at = state.steps.findIndex((known) => known.name === name);
  const steps = at < 0 ? [...state.steps, now] : state.steps.map((known, place) => (place === at ? now : known));
  state.steps = steps.slice(-MAX_STEPS);
}

function ended(state, event) {
  Object.assign(state, {
    finished_at: event.at, next_at: null, eta: null,
    error: event.error ?? null, result: event.result ?? null,
  });
}

const FOLDS = {
  started, progress, part: progress, step,
  stalled: (state) => Object.assign(state, { stalled: true, eta: null }),
  cancelling: (state) => Object.assign(state, { cancel_requested: true }),
  retrying: (state, event) =>
    Object.assign(state, { error: event.error ?? null, next_at: event.next_at ?? null, eta: null, rate: null }),
  succeeded: ended, failed: ended, cancelled: ended,
};
