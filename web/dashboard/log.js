// The log's tail: what came since the last paint is added, what is too old is dropped, and it stays at the end while
// the reader is there.

import { make } from "./page.js";
import { clock } from "./words.js";

const KEPT = 100;
/** So near to the end counts as being there. */
const NEAR_PX = 24;

export class Log {
  #element;
  #waiting = [];

  constructor(element) {
    this.#element = element;
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
    box.append(...this.#waiting.map(line));
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
