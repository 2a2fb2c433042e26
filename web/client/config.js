// What the server says to every page: whether it streams, how often to poll and how often it gives a sign of life. Asked once a page,
// and now and then by one that polls because streaming is switched off.

/** A page does not wait for it any longer. */
const LOAD_MS = 3_000;
/** How long the word that there are no streams is taken for true: a page that polls is back on streams so long after they are. */
const LOOK_MS = 10_000;

const known = new Map();

/** The one of this server: shared by all that is watched there. */
export function configOf(http) {
  const url = String(http.url("config.json"));
  if (!known.has(url)) known.set(url, new Config(url));
  return known.get(url);
}

export class Config {
  #url;
  #asked = null;
  #askedAt = 0;
  /** Also false where a stream was refused because streaming is switched off. */
  streaming = true;
  pollMs = 2_000;
  heartbeatMs = 15_000;

  constructor(url) {
    this.#url = url;
  }

  /** Once for a page; a server that cannot say it has the defaults. */
  load() {
    this.#asked ??= this.#refresh(AbortSignal.timeout(LOAD_MS)).catch(() => {
      this.#asked = null;
    });
    return this.#asked;
  }

  /** Whether streams are given; asked again where that is long ago, once for all that a page watches. Raises without an answer. */
  async streams(signal) {
    if (Date.now() - this.#askedAt >= LOOK_MS) await this.#refresh(signal);
    return this.streaming;
  }

  /** Asked now. */
  async #refresh(signal) {
    this.#askedAt = Date.now();
    const answer = await fetch(this.#url, { credentials: "include", cache: "no-store", signal });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const { streaming = true, poll_seconds: poll, heartbeat_seconds: heartbeat } = await answer.json();
    this.streaming = streaming;
    if (poll > 0) this.pollMs = 1_000 * poll;
    if (heartbeat > 0) this.heartbeatMs = 1_000 * heartbeat;
  }
}
