// How long an event took to come here. The two clocks differ by an unknown time, so the quickest one counts as nothing. Pure.

/** Clocks drift, and the quickest event of an hour ago says little of now. */
const WINDOW_MS = 120_000;

export class Lag {
  #least = Infinity;
  #since = 0;

  /** The lag in ms of an event that was made at `at` and came at `now` (both ms); 0 for the quickest so far. */
  note(at, now) {
    if (now - this.#since > WINDOW_MS) {
      this.#least = Infinity;
      this.#since = now;
    }
    this.#least = Math.min(this.#least, now - at);
    return now - at - this.#least;
  }
}
