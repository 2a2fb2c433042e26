// The rows of the list: one element a job, found by its id, filled in place. A row once shown stays where it is.

import { make, put } from "./page.js";
import { ago, fractionOf, percent, STATES } from "../client/words.js";

export class Rows {
  #list;
  #rows = new Map();
  #changed = new Map();
  #frame = 0;

  constructor(list) {
    this.#list = list;
  }

  get size() {
    return this.#rows.size;
  }

  /** When the newest row's job was made; empty before the first. */
  get newest() {
    return this.#list.firstElementChild?.dataset.created ?? "";
  }

  has(id) {
    return this.#rows.has(id);
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#rows.clear();
    this.#changed.clear();
    this.#list.replaceChildren();
  }

  /** Older jobs, below all others. */
  append(states) {
    this.#list.append(...states.filter(({ id }) => !this.has(id)).map((state) => this.#make(state)));
  }

  /** Newer jobs, above all others. */
  prepend(states) {
    this.#list.prepend(...states.filter(({ id }) => !this.has(id)).map((state) => this.#make(state)));
  }

  /** A row's job as it is now; painted with the next frame. */
  update(state) {
    this.#changed.set(state.id, state);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      for (const [id, one] of this.#changed) this.#rows.get(id)?.fill(one);
      this.#changed.clear();
    });
  }

  /** Its job is gone: the row stays, so that nothing moves under the pointer. */
  strike(id) {
    this.#changed.delete(id);
    this.#rows.get(id)?.strike();
  }

  /** Times that pass while nothing comes. */
  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  #make(state) {
    const row = new Row(state);
    this.#rows.set(state.id, row);
    return row.element;
  }
}

class Row {
  #created;
  #title = make("a", "row-title");
  #kind = "";
  #about = make("span", "row-about quiet");
  #pill = make("span", "pill");
  #share = make("span", "row-share");
  #bar = make("span", "row-bar");
  element = make("li", "row");

  constructor(state) {
    this.#created = state.created_at;
    this.element.dataset.created = state.created_at;
    this.#title.href = `#/jobs/${encodeURIComponent(state.id)}`;
    this.element.append(this.#title, this.#pill, this.#about, this.#share, this.#bar);
    this.fill(state);
  }

  fill(state) {
    const look = state.stalled ? "stalled" : state.state;
    const fraction = fractionOf(state);
    const runs = state.state === "running" && fraction !== null;
    this.element.dataset.look = look;
    this.element.dataset.actor = state.actor;
    put(this.#title, state.title || state.actor);
    // Where it has no title it goes by its actor; once is enough.
    this.#kind = state.title ? `${state.actor} · ` : "";
    this.#pill.dataset.state = look;
    put(this.#pill, state.stalled ? "Stalled" : STATES[state.state]);
    // Its place stays, so that nothing moves when it comes and goes.
    this.#share.textContent = runs ? percent(fraction) : "";
    this.#bar.style.setProperty("--done", String(fraction ?? 0));
    this.#bar.hidden = !runs;
    this.tick();
  }

  tick() {
    put(this.#about, this.#kind + ago(this.#created));
  }

  strike() {
    this.element.dataset.look = "gone";
    this.#pill.dataset.state = "gone";
    put(this.#pill, "Deleted");
    this.#share.textContent = "";
    this.#bar.hidden = true;
    this.#title.removeAttribute("href");
  }
}
