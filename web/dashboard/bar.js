// The bar itself: never goes back within an attempt, also where the total grows, and says to a screen reader what it
// shows.

import { $ } from "./page.js";

export class Bar {
  #attempt = undefined;
  #highest = 0;

  /** A gap or another job: it may go back once. */
  reset() {
    this.#attempt = undefined;
  }

  /** @returns {number|null} what is shown, from 0 to 1 */
  paint(fraction, attempt, look, text) {
    if (attempt !== this.#attempt) {
      this.#attempt = attempt;
      this.#highest = 0;
    }
    const bar = $("bar");
    const unknown = fraction === null && this.#highest === 0;
    this.#highest = Math.max(this.#highest, fraction ?? 0);
    bar.dataset.look = look;
    bar.classList.toggle("unknown", unknown);
    $("bar-fill").style.setProperty("--done", String(this.#highest));
    if (unknown) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(this.#highest * 100)));
    bar.setAttribute("aria-valuetext", text);
    return unknown ? null : this.#highest;
  }
}
