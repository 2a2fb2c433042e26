// Follows one job over EventSource for as long as it takes: resumes by itself over cuts, restarts, proxies' errors and
// sleeping tabs, and keeps the job's state folded. Leaves showing it to the caller.
//
// What EventSource alone does not do, and this does:
// - a status other than 200 (a proxy's 502 during a deploy) ends an EventSource for good: a new one is made;
// - a proxy or CDN that eats `Last-Event-ID` is noticed by the `position` frame: the id goes into the URL;
// - it cannot say why it failed (401, 404): the job itself is asked;
// - heartbeats are comments that JavaScript never sees, so a tab that slept cannot tell a dead stream from a quiet
//   one: when the tab comes back, a stream that was silent for long is made anew. Resuming costs nothing.

import { fold, hasEnded, TERMINAL } from "./fold.js";

const BUILT_IN = [
  "queued", "started", "progress", "step", "log", "part", "stalled", "cancelling", "retrying", ...TERMINAL,
];
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
/** Two heartbeats: a stream that gave no event for so long may be dead. */
const SILENT_MS = 30_000;
const BEGINNING = "0-0";

/**
 * Follows a job until it ends, is closed, or cannot be followed.
 *
 * @param {string} id
 * @param {object} options
 * @param {(event: object, id: string) => void} [options.onEvent] each event once, in order
 * @param {(state: object, why: {gap: boolean, reason: string|null}) => void} [options.onState] after each change;
 *   `gap` where history is missing before it
 * @param {(status: string, detail: object) => void} [options.onStatus] `connecting`, `live`, `reconnecting`, `busy`,
 *   `draining`; and, after which nothing comes: `ended`, `expired`, `unauthorised`, `forbidden`, `missing`
 * @param {AbortSignal} [options.signal] stops it
 * @param {string|URL} [options.base] where the application is mounted (ends with `/`); default: beside the page
 * @param {string} [options.token] a ticket, where there is no cookie
 * @param {string[]} [options.types] the actor's own event types to hear of, for EventSource must know each by name
 * @param {number} [options.tail] so many of the latest events are shown again at the start; default 0
 * @returns {{close: () => void}}
 */
export function watchJob(id, options = {}) {
  const watch = new Watch(id, options);
  watch.begin();
  return { close: () => watch.close() };
}

class Watch {
  #id;
  #options;
  #base;
  #source = null;
  #state = null;
  /** The newest event that was handed on: where to resume. */
  #position = null;
  /** True once the stream has given something. */
  #started = false;
  #status = "";
  #failures = 0;
  #timer = 0;
  #lastHeard = 0;
  #over = new AbortController();

  constructor(id, options) {
    this.#id = id;
    this.#options = options;
    this.#base = new URL(`jobs/${encodeURIComponent(id)}`, options.base ?? new URL(".", document.baseURI));
  }

  begin() {
    const { signal, tail = 0 } = this.#options;
    const over = { signal: this.#over.signal };
    if (signal?.aborted) return;
    signal?.addEventListener("abort", () => this.close(), over);
    addEventListener("pageshow", (event) => event.persisted && this.#wake(true), over);
    addEventListener("online", () => this.#wake(false), over);
    document.addEventListener("resume", () => this.#wake(false), over);
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake(false), over);
    this.#say("connecting");
    if (tail > 0) this.#ask();
    else this.#open();
  }

  close() {
    this.#over.abort();
    this.#disconnect();
  }

  #open() {
    this.#disconnect();
    const url = new URL(`${this.#base}/events`);
    if (this.#position === null) url.searchParams.set("replay", "snapshot");
    else url.searchParams.set("last_event_id", this.#position);
    if (this.#options.token) url.searchParams.set("token", this.#options.token);

    const source = new EventSource(url, { withCredentials: !this.#options.token });
    const on = (type, handle) =>
      source.addEventListener(type, (message) => {
        // An event that was on its way when this source was given up.
        if (source !== this.#source) return;
        this.#lastHeard = Date.now();
        handle(JSON.parse(message.data), message.lastEventId);
      });
    this.#source = source;
    this.#lastHeard = Date.now();
    source.onerror = () => source === this.#source && this.#onError(source.readyState);
    on("position", (data) => this.#onPosition(data, url.searchParams.get("last_event_id")));
    on("snapshot", (data, eventId) => this.#onSnapshot(data, eventId));
    on("busy", (data) => this.#say("busy", data));
    on("draining", (data) => this.#say("draining", data));
    on("expired", (data) => this.#finish("expired", data));
    for (const type of new Set([...BUILT_IN, ...(this.#options.types ?? [])])) {
      on(type, (data, eventId) => this.#onEvent(data, eventId));
    }
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #onPosition({ position, resumed }, asked) {
    this.#failures = 0;
    const astray = this.#position !== null && (!resumed || isBefore(position, this.#position));
    // Once more with the id in the URL. A stream that starts too early even so is taken as it is.
    if (astray && asked !== this.#position) return this.#open();
    this.#say("live");
  }

  #onSnapshot({ gap, reason = null, state }, eventId) {
    // Where nothing was shown yet, nothing is missing.
    const missed = Boolean(gap) && this.#started;
    this.#started = true;
    this.#position = eventId || state.last_event_id;
    this.#show(state, { gap: missed, reason });
    this.#say("live");
  }

  #onEvent(event, eventId) {
    this.#started = true;
    this.#position = eventId;
    this.#options.onEvent?.(event, eventId);
    if (this.#state !== null && isBefore(this.#state.last_event_id, eventId)) {
      this.#show({ ...fold(this.#state, event), last_event_id: eventId });
    }
    if (TERMINAL.has(event.type)) this.#finish("ended");
  }

  #show(state, why = { gap: false, reason: null }) {
    this.#state = state;
    this.#options.onState?.(state, why);
  }

  #onError(readyState) {
    if (hasEnded(this.#state)) return this.#finish("ended");
    // A busy or draining server said so itself; the cut that follows is no news.
    if (this.#status !== "busy" && this.#status !== "draining") this.#say("reconnecting");
    // CONNECTING: the browser comes back by itself, with its Last-Event-ID.
    if (readyState === EventSource.CLOSED) this.#later();
  }

  #later() {
    this.#disconnect();
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    this.#timer = setTimeout(() => this.#ask(), longest * (0.5 + Math.random() / 2));
  }

  /** Asks the job itself, which can say what EventSource cannot, and opens the stream if there is more to come. */
  async #ask() {
    this.#disconnect();
    let answer;
    try {
      const { token } = this.#options;
      const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
      const credentials = token ? "omit" : "include";
      answer = await fetch(this.#base, { headers, credentials, cache: "no-store", signal: this.#over.signal });
      if (answer.ok) this.#adopt(await answer.json());
    } catch {
      answer = null;
    }
    if (this.#over.signal.aborted) return;
    const final = { 401: "unauthorised", 403: "forbidden", 404: "missing" }[answer?.status];
    if (final) this.#finish(final);
    else if (answer?.ok) this.#open();
    else {
      this.#say("reconnecting");
      this.#later();
    }
  }

  /** Takes a state that did not come by the stream. Events that it already holds will be handed on, but not folded. */
  #adopt(state) {
    const first = this.#state === null;
    if (first) this.#position = earlier(state.last_event_id, this.#options.tail ?? 0);
    if (first || isBefore(this.#state.last_event_id, state.last_event_id)) this.#show(state);
  }

  #wake(restored) {
    const dead = this.#source === null || this.#source.readyState !== EventSource.OPEN;
    if (restored || dead || Date.now() - this.#lastHeard > SILENT_MS) {
      this.#say("reconnecting");
      this.#ask();
    }
  }

  #say(status, detail = {}) {
    if (status === this.#status) return;
    this.#status = status;
    this.#options.onStatus?.(status, detail);
  }

  #finish(status, detail = {}) {
    this.close();
    this.#say(status, detail);
  }
}

/** Ids are two unsigned 64-bit numbers, more than a JavaScript number can hold. */
function isBefore(one, other) {
  const [epoch, n] = parts(one);
  const [otherEpoch, otherN] = parts(other);
  return epoch === otherEpoch ? n < otherN : epoch < otherEpoch;
}

/** The id `count` events before `id`, or the beginning. */
function earlier(id, count) {
  const [epoch, n] = parts(id);
  return n > BigInt(count) ? `${epoch}-${n - BigInt(count)}` : BEGINNING;
}

function parts(id) {
  const [, epoch, n] = /^(\d{1,20})-(\d{1,20})$/.exec(id ?? "") ?? [null, 0, 0];
  return [BigInt(epoch), BigInt(n)];
}
