// All tabs of one browser share one connection a topic: whoever holds the topic's lock follows it and tells the others over a channel.
// A tab that is told takes what follows its own place; anything else it looks up itself. So a leader that goes leaves no gap.

/** A leader that gives no sign for so many heartbeats is asked, and loses the lock where it does not answer in time. */
const SILENT_HEARTBEATS = 2.5;
const ANSWER_MS = 3_000;
/** What a told end takes to arrive everywhere, at most. */
const HEARD_MS = 500;

export class Share {
  #name;
  #config;
  #part;
  #over;
  #channel = null;
  #leading = null;
  #waiting = null;
  #heardAt = Date.now();
  #status = null;
  #timer = 0;

  /**
   * @param {string} name the topic's, of this server and this caller
   * @param {object} config
   * @param {{lead: (signal: AbortSignal) => Promise<boolean>, take: (item: object) => void, status: (status: string, detail: object)
   *   => void}} part what this tab does: follow the topic, take an item that another tab tells of, show how that one stands
   * @param {AbortSignal} over
   */
  constructor(name, config, part, over) {
    this.#name = `progress-stream ${name}`;
    this.#config = config;
    this.#part = part;
    this.#over = over;
  }

  /** Take part from now on. */
  begin() {
    const { locks } = globalThis.navigator ?? {};
    if (!locks || !globalThis.BroadcastChannel) return void this.#lead();
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#over.addEventListener("abort", () => this.#leave(), { once: true });
    this.#queue(locks);
    this.#send({ ask: true });
    this.#watch();
  }

  /** Tell the other tabs, where this one leads. */
  tell(item) {
    if (this.#leading) this.#send({ item });
  }

  beat() {
    if (this.#leading) this.#send({ beat: true });
  }

  status(status, detail) {
    this.#status = { status, detail };
    if (this.#leading) this.#send(this.#status);
  }

  /** This tab was away: is the leader still there? */
  wake() {
    if (!this.#leading) this.#send({ ask: true });
  }

  #send(message) {
    this.#channel?.postMessage(message);
  }

  #heard(message) {
    if (message.ask) {
      if (this.#leading && this.#status) this.#send(this.#status);
      return;
    }
    if (this.#leading) return;
    this.#heardAt = Date.now();
    if (message.item) this.#part.take(message.item);
    if (message.status) this.#part.status(message.status, message.detail);
  }

  #queue(locks, steal = false) {
    this.#waiting = new AbortController();
    const how = steal ? { steal } : { signal: this.#waiting.signal };
    locks
      .request(this.#name, how, () => this.#lead())
      .catch(() => {
        // Taken away, or left: a tab that is still here stands in line again.
        this.#leading?.abort();
        this.#leading = null;
        if (!this.#over.aborted && !this.#waiting.signal.aborted) this.#queue(locks);
      });
  }

  async #lead() {
    if (this.#over.aborted) return;
    const leading = (this.#leading = new AbortController());
    const ended = await this.#part.lead(AbortSignal.any([this.#over, leading.signal]));
    if (this.#leading === leading) this.#leading = null;
    // The others hear of the end over the channel; with the lock in the same moment the next of them would open a stream.
    if (ended) await new Promise((resolve) => setTimeout(resolve, HEARD_MS));
  }

  #watch() {
    const every = SILENT_HEARTBEATS * this.#config.heartbeatMs;
    this.#timer = setTimeout(() => {
      const silent = !this.#leading && Date.now() - this.#heardAt > every;
      if (!silent) return this.#watch();
      this.#send({ ask: true });
      const asked = Date.now();
      this.#timer = setTimeout(() => {
        if (!this.#leading && this.#heardAt < asked) this.#takeOver();
        this.#watch();
      }, ANSWER_MS);
    }, every / 2);
  }

  #takeOver() {
    this.#waiting?.abort();
    this.#heardAt = Date.now();
    this.#queue(globalThis.navigator.locks, true);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#waiting?.abort();
    this.#leading?.abort();
    this.#channel?.close();
    this.#channel = null;
  }
}

/** Names the caller without telling of the token: tabs of two callers must not share. */
export async function identityOf(token) {
  if (token === null) return "cookie";
  const [, payload] = token.split(".");
  let known = token;
  try {
    const { iss, sub, aud, scope } = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    known = JSON.stringify([iss, sub, aud, scope]);
  } catch {
    // A ticket says nothing of itself.
  }
  if (!globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(known));
  return String(new Uint8Array(digest, 0, 12));
}
