// What a bar may show: within an attempt it never goes back, and before the end it is never full. Pure.

/** Just under all of it: full is said by the end alone. */
const ALMOST = 0.999;

export class Highest {
  #attempt = undefined;
  #value = null;

  /** After a gap, or for another job, it may go back once. */
  reset() {
    this.#attempt = undefined;
  }

  /** What to show of a state, from 0 to 1; null while nobody can know. */
  of(state, fraction) {
    if (state.attempt !== this.#attempt) {
      this.#attempt = state.attempt;
      this.#value = null;
    }
    if (state.state === "succeeded") this.#value = 1;
    else if (fraction !== null) this.#value = Math.max(this.#value ?? 0, Math.min(fraction, ALMOST));
    return this.#value;
  }
}
