// By which way a topic is followed now: its stream; long-polls, where something on the way holds streams back; or polling, where
// the server gives none. Pure: the clock is an argument.

/** A stream's first bytes come at once: who waits longer is behind something that keeps them. */
export const OPENING_MS = 3_000;
/** Heartbeats without a byte after which a connection counts as dead. */
export const SILENT_HEARTBEATS = 2.5;
/** So many streams in a row that brought nothing and lasted no longer than this are as good as none. */
const SHORT_STREAMS = 3;
const SHORT_MS = 1_000;
/** How long there are long-polls before the stream is tried again: doubled each time that was in vain. */
const FIRST_POLLED_MS = 30_000;
const LONGEST_POLLED_MS = 300_000;

export class Modes {
  #until = null;
  #polled = FIRST_POLLED_MS;
  #short = 0;
  /** `stream`, `long-poll` or `polling`. */
  mode = "stream";
  /** Streams are switched off: only the server's own word brings them back. */
  off = false;

  /** The way to go at `now` (ms). */
  at(now) {
    if (this.#until !== null && now >= this.#until) {
      this.#until = null;
      this.mode = "stream";
    }
    return this.mode;
  }

  /** How long nothing changes by itself; null: for as long as it works. */
  left(now) {
    return this.#until === null ? null : Math.max(0, this.#until - now);
  }

  /** A stream brought more than its first bytes. */
  passed() {
    this.#short = 0;
    this.#polled = FIRST_POLLED_MS;
  }

  /** No byte came in time. */
  heldBack(now) {
    this.mode = "long-poll";
    this.#until = now + this.#polled;
    this.#polled = Math.min(2 * this.#polled, LONGEST_POLLED_MS);
    this.#short = 0;
  }

  /** A stream is over that lasted so long and brought nothing. */
  broke(now, lasted) {
    this.#short = lasted < SHORT_MS ? this.#short + 1 : 0;
    if (this.#short >= SHORT_STREAMS) this.heldBack(now);
  }

  /** The server gives no stream for so long (ms); null: until it says so. */
  refused(now, wait) {
    this.mode = "polling";
    this.off = wait === null;
    this.#until = wait === null ? null : now + wait;
  }

  /** It gives them again. */
  restored() {
    if (!this.off) return;
    this.off = false;
    this.#until = null;
    this.mode = "stream";
  }
}
