// How long to wait before asking again: drawn from the whole range (full jitter), which doubles with each failure up to a cap, so
// that a fleet of pages does not come back in step. Never gives up. Pure: the randomness is an argument.

const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;
/** A server that asks for more than this has made a mistake. */
const MOST_TOLD_MS = 300_000;

export class Backoff {
  #failures = 0;
  #random;

  constructor(random = Math.random) {
    this.#random = random;
  }

  /** Something came: the next failure is the first again. */
  reset() {
    this.#failures = 0;
  }

  /** Milliseconds to wait after one more failure; `told` is what the server asked for at least. */
  next(told = 0) {
    const most = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#failures++, 10));
    return Math.max(Math.min(told, MOST_TOLD_MS), most * this.#random());
  }
}

/** Waits so long, or until the signal's end. The one part here that touches the clock. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", wake, { once: true });
    if (signal.aborted) wake();
  });
}
