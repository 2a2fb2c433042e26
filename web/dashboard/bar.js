// The job page's bar: what it shows, and what it says to a screen reader.

import { Highest } from "../client/bar.js";
import { $ } from "./page.js";

export class Bar {
  #highest = new Highest();

  /** A gap or another job: it may go back once. */
  reset() {
    this.#highest.reset();
  }

  /** @returns {number|null} what is shown, from 0 to 1 */
  paint(state, fraction, look, text) {
    const shown = this.#highest.of(state, fraction);
    const bar = $("bar");
    bar.dataset.look = look;
    bar.classList.toggle("unknown", shown === null);
    $("bar-fill").style.setProperty("--done", String(shown ?? 0));
    $("bar-failed").style.setProperty("--failed", String(state.parts?.total ? state.parts.failed / state.parts.total : 0));
    if (shown === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(shown * 100)));
    bar.setAttribute("aria-valuetext", text);
    return shown;
  }
}
