// Many jobs as a topic: whole states, the latest wins, and what is gone. Compares by whole event ids, never goes back to an older one.

import { isBefore } from "./position.js";

/** Rows of one page, where the list is polled. */
const PAGE = 200;

export class ListTopic {
  #ids;
  #onJob;
  #onGone;
  #shown = new Map();
  #tags = new Map();
  /** The server's time up to which every change has been seen. */
  position = null;
  state = null;

  constructor(ids, { onJob, onGone }) {
    this.#ids = ids ? [...ids] : null;
    this.#onJob = onJob;
    this.#onGone = onGone;
  }

  get key() {
    return this.#ids ? `jobs ${[...this.#ids].sort().join(",")}` : "all jobs";
  }

  streamRequest(http, viaUrl) {
    return http.streamRequest("jobs/events", { jobs: this.#ids?.join(",") ?? null }, this.position, viaUrl);
  }

  async ask(http, _wait, signal) {
    const items = this.#ids ? await this.#askEach(http, signal) : await this.#askAll(http, signal);
    return { items, more: false, over: false };
  }

  async #askAll(http, signal) {
    const { body } = await http.json(http.url("jobs", { limit: PAGE }), signal);
    return body.jobs.map((state) => ({ id: "", state }));
  }

  async #askEach(http, signal) {
    const found = [];
    for (const id of this.#ids) {
      try {
        const tag = this.#tags.get(id);
        const url = http.url(`jobs/${encodeURIComponent(id)}`);
        const { body, tag: its } = await http.json(url, signal, tag ? { "If-None-Match": tag } : {});
        if (body === null) continue;
        this.#tags.set(id, its);
        const { result: _, ...state } = body;
        found.push({ id: "", state });
      } catch (error) {
        if (error.status !== "missing") throw error;
        found.push({ id: "", gone: id });
      }
    }
    return found;
  }

  item(event, data, id) {
    if (event === "job") return { id, state: data };
    return event === "gone" ? { id, gone: data.id } : null;
  }

  /** Each is whole: none needs the one before. */
  fits() {
    return true;
  }

  isNews() {
    return true;
  }

  apply({ id, state, gone }) {
    if (id) this.position = id;
    if (gone !== undefined) {
      if (this.#shown.get(gone) === null) return false;
      this.#shown.set(gone, null);
      this.#onGone?.(gone);
    } else if (!isBefore(state.last_event_id, this.#shown.get(state.id))) {
      this.#shown.set(state.id, state.last_event_id);
      this.#onJob?.(state);
    }
    return false;
  }
}
