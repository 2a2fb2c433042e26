// The log's tail: what came since the last paint is added, what is too old is dropped, and it stays at the end while
// the reader is there.

import { make } from "./page.js";
import { clock } from "../client/words.js";

const KEPT = 500;
/** So near to the end counts as being there. */
const NEAR_PX = 24;

export class Log {
  #element;
  #waiting = [];
  #sought = "";

  constructor(element, search) {
    this.#element = element;
    // Assigned, not added: the next job's log takes the field over.
    search.oninput = () => this.#seek(search.value);
    search.value = "";
  }

  /** Shows the lines that hold this text, whatever their case. */
  #seek(text) {
    this.#sought = text.trim().toLowerCase();
    for (const row of this.#element.children) row.hidden = !this.#fits(row);
    this.#element.scrollTop = this.#element.scrollHeight;
  }

  #fits(row) {
    return this.#sought === "" || row.textContent.toLowerCase().includes(this.#sought);
  }

  clear() {
    this.#waiting = [];
    this.#element.replaceChildren();
  }

  add(at, level, text) {
    this.#waiting.push({ at, level, text });
    if (this.#waiting.length > KEPT) this.#waiting.shift();
  }

  paint() {
    if (this.#waiting.length === 0) return;
    const box = this.#element;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    const rows = this.#waiting.map(line);
    for (const row of rows) row.hidden = !this.#fits(row);
    box.append(...rows);
    this.#waiting = [];
    while (box.childElementCount > KEPT) box.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}

function line({ at, level, text }) {
  const row = make("p", "line");
  row.dataset.level = level;
  row.append(make("time", "", clock(at)), make("span", "", text));
  return row;
}

/** What an event says in the log: [level, text], or null for one that the rest of the page shows. */
export function sentenceOf(event) {
  switch (event.type) {
    case "log":
      return [String(event.level ?? "info").toLowerCase(), String(event.message ?? "")];
    case "queued":
      return ["note", "Waiting for a worker"];
    case "started":
      return ["note", event.attempt > 1 ? `Attempt ${event.attempt} started` : "Started"];
    case "stalled":
      return ["warning", "No sign from the worker"];
    case "cancelling":
      return ["note", "Asked to stop"];
    case "retrying":
      return ["warning", `Attempt ${event.attempt} failed, another follows: ${event.error?.message ?? "no reason given"}`];
    case "succeeded":
      return ["note", "Finished"];
    case "failed":
      return ["error", `Failed: ${event.error?.message ?? "no reason given"}`];
    case "cancelled":
      return ["note", "Cancelled"];
  }
  return null;
}
