// One job as a topic: its events, each once and in order, and the state that they lead to. Asks nobody by itself but as it is told.

import { fold, TERMINAL } from "./fold.js";
import { earlier, follows, isBefore } from "./position.js";

/** For an answer, beyond the wait that was asked for. */
const ANSWER_MS = 10_000;

export class JobTopic {
  #id;
  #onEvent;
  #onState;
  #tail;
  #begun = false;
  /** The whole state; null before the first. */
  state = null;
  /** The newest event that was handed on: where to go on from. */
  position = null;

  constructor(id, { onEvent, onState, tail = 0 }) {
    this.#id = id;
    this.#onEvent = onEvent;
    this.#onState = onState;
    this.#tail = tail;
  }

  get key() {
    return `job ${this.#id}`;
  }

  get #path() {
    return `jobs/${encodeURIComponent(this.#id)}`;
  }

  streamRequest(http, viaUrl) {
    return http.streamRequest(`${this.#path}/events`, {}, this.position, viaUrl);
  }

  /** What there is after the position, as items; `more`: there is more at once; `over`: nothing will come. */
  async ask(http, wait, signal) {
    const items = [];
    if (this.position === null && this.#tail > 0) {
      // The last events, which are shown but lead nowhere: the state that they led to is known.
      const { body } = await http.json(http.url(this.#path), signal);
      this.position = earlier(body.last_event_id, this.#tail);
      items.push(snapshot(body, { id: this.position }));
    }
    const ms = 1_000 * wait + ANSWER_MS;
    const query = this.position === null ? { replay: "snapshot" } : { last_event_id: this.position };
    const { status, body } = await http.json(http.url(`${this.#path}/events`, { wait, ...query }), signal, {}, ms);
    if (status === 204) return { items, more: false, over: true };
    return { items: [...items, ...itemsOf(body)], more: body.more, over: false };
  }

  item(event, data, id) {
    return event === "snapshot" ? snapshot(data.state, { ...data, id }) : { id, event: data };
  }

  /** True for an item that comes right after what is known. */
  fits(item) {
    return !item.state && this.position !== null && follows(item.id, this.position);
  }

  isNews(item) {
    return isBefore(this.position, item.state?.last_event_id ?? item.id);
  }

  /** Hands an item on. True when the job is over with it. */
  apply(item) {
    return item.state ? this.#adopt(item) : this.#follow(item);
  }

  #follow({ id, event }) {
    if (this.position !== null && !isBefore(this.position, id)) return false;
    this.#begun = true;
    this.position = id;
    this.#onEvent?.(event, id);
    if (this.state !== null && isBefore(this.state.last_event_id, id)) {
      this.#show({ ...fold(this.state, event), last_event_id: id });
    }
    return TERMINAL.has(event.type);
  }

  /** A state that comes as a whole. Events that it already holds will be handed on, but not folded. */
  #adopt({ state, id, gap, reason }) {
    // Where nothing was shown yet, nothing is missing.
    const missed = gap && this.#begun;
    if (id) this.position = id;
    this.#begun = true;
    const isNewer = this.state === null || !isBefore(state.last_event_id, this.state.last_event_id);
    if (isNewer || missed) this.#show(state, { gap: missed, reason });
    return TERMINAL.has(state.state) && !isBefore(this.position, state.last_event_id);
  }

  #show(state, why = { gap: false, reason: null }) {
    this.state = state;
    this.#onState?.(state, why);
  }
}

/** `id` is where to go on from; empty: it moves nothing. */
function snapshot(state, { id = "", gap = false, reason = null }) {
  return { state, id, gap, reason };
}

function itemsOf({ events, gap, reason, last_event_id: last, state }) {
  const items = events.map(({ id, ...event }) => ({ id, event }));
  if (gap) return [snapshot(state, { gap, reason, id: events.length ? earlier(events[0].id, 1) : last }), ...items];
  // Last, so that it is the place at which all of these have been handed on.
  return [...items, snapshot(state, { id: events.length ? "" : last })];
}
