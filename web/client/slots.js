// A browser opens six connections to a host over HTTP/1.1, for all its tabs together: streams take four of them, so that clicks still
// get through. Slots are locks that the tabs share; HTTP/2 and where there are no locks need none.

const SLOTS = 4;

export class Slots {
  #base;

  constructor(base) {
    this.#base = String(base);
  }

  /** A function that gives the slot back; null where all are taken. */
  async take(signal) {
    const { locks } = globalThis.navigator ?? {};
    if (!locks || this.#isMultiplexed()) return () => {};
    const origin = new URL(this.#base).origin;
    for (let number = 0; number < SLOTS; number += 1) {
      const release = await held(locks, `progress-stream ${origin} slot ${number}`, signal);
      if (release) return release;
    }
    return null;
  }

  #isMultiplexed() {
    const entries = globalThis.performance?.getEntriesByType?.("resource") ?? [];
    return entries.some(({ name, nextHopProtocol }) => name.startsWith(this.#base) && /^h[23]/.test(nextHopProtocol));
  }
}

function held(locks, name, signal) {
  return new Promise((resolve) => {
    locks
      .request(name, { ifAvailable: true }, (lock) => {
        if (lock === null) return resolve(null);
        return new Promise((release) => {
          signal.addEventListener("abort", release, { once: true });
          resolve(release);
        });
      })
      .catch(() => resolve(null));
  });
}
