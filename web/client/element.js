// `<job-progress job="…">`: one job as a bar with its words. The class alone; `define.js` registers it. Follows its job by itself, or
// shows the `state` that it is given. Text only: nothing that a job says becomes markup.

import { Highest } from "./bar.js";
import { hasEnded } from "./fold.js";
import { watchJob } from "./watch.js";
import { duration, fractionOf, number, percent, STATES } from "./words.js";

/** Between two announcements of how far it is, to those who hear the page. */
const QUIET_MS = 10_000;

const STYLE = `
:host {
  --job-accent: light-dark(#2563d9, #6ea3ff); --job-good: light-dark(#0d6636, #4fc98a); --job-bad: light-dark(#b3261e, #ff8f86);
  --job-warn: light-dark(#8a5a00, #f0b95a); --job-text: light-dark(#171a21, #e9ebf0); --job-quiet: light-dark(#5a6170, #9ba3b2);
  --job-track: light-dark(#e6e9f0, #262b36); --job-height: .75rem; --job-radius: 99px;
  color-scheme: light dark; display: block; color: var(--job-text); font: inherit; font-variant-numeric: tabular-nums;
}
:host([hidden]), [hidden] { display: none !important; }
.line { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem .75rem; min-height: 1.5em; }
.title { font-weight: 600; overflow-wrap: anywhere; }
.share { margin-left: auto; font-weight: 600; }
.quiet { color: var(--job-quiet); font-size: .875em; overflow-wrap: anywhere; }
.track {
  --tone: var(--job-accent); display: block; position: relative; height: var(--job-height); margin-block: .35rem; overflow: hidden;
  border-radius: var(--job-radius); background: var(--job-track);
}
.fill, .failed { position: absolute; inset: 0; border-radius: inherit; }
.fill { background: var(--tone); transform: translateX(calc((var(--done, 0) - 1) * 100%)); transition: transform .18s linear; }
.failed { background: var(--job-bad); transform: translateX(calc((1 - var(--failed, 0)) * 100%)); }
.track[data-look=succeeded] { --tone: var(--job-good); }
.track[data-look=failed] { --tone: var(--job-bad); }
.track:is([data-look=stalled], [data-look=retrying]) { --tone: var(--job-warn); }
.track:is([data-look=queued], [data-look=cancelled]) { --tone: var(--job-quiet); }
.track.unknown[data-look=running] .fill { width: 35%; transition: none; animation: wander 1.4s ease-in-out infinite; }
.track.unknown:not([data-look=running]) .fill { transform: translateX(-100%); }
.steps { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .35rem 0 0; padding: 0; list-style: none; font-size: .875em; color: var(--job-quiet); }
.steps li::before { content: "○ "; }
.steps li[data-state=started] { color: var(--job-text); font-weight: 600; }
.steps li[data-state=started]::before { content: "● "; }
.steps li[data-state=finished]::before { content: "✓ "; }
.steps li[data-state=failed]::before { content: "✕ "; }
.error { color: var(--job-bad); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@keyframes wander { from { transform: translateX(-100%); } to { transform: translateX(290%); } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { .track { border: 1px solid; } .fill { background: Highlight; forced-color-adjust: none; } }
`;

const PARTS = ["title", "share", "track", "fill", "failed", "count", "pace", "message", "parts", "steps", "error", "announcer"];

// There is no HTMLElement where a page is rendered on a server; importing this there must be safe.
export class JobProgress extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ["job", "base"];
  static #sheet = null;

  /** Gives a token where there is no cookie: see `watchJob`. */
  getToken = undefined;
  #at = {};
  #highest = new Highest();
  #watch = null;
  #state = null;
  #status = "connecting";
  #frame = 0;
  #spokenAt = 0;
  #spoken = "";

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    JobProgress.#sheet ??= sheetOf(STYLE);
    root.adoptedStyleSheets = [JobProgress.#sheet];
    for (const name of PARTS) this.#at[name] = document.createElement(name === "steps" ? "ol" : name === "message" || name === "error" ? "p" : "span");
    this.#build(root);
  }

  /** The state that is shown; set it to show one without following. */
  get state() {
    return this.#state;
  }

  set state(state) {
    this.#take(state, false);
  }

  /** How the connection stands: see `watchJob`. */
  get status() {
    return this.#status;
  }

  connectedCallback() {
    this.#follow();
  }

  disconnectedCallback() {
    this.#leave();
  }

  attributeChangedCallback(_, before, after) {
    if (this.isConnected && before !== after) this.#follow();
  }

  #follow() {
    this.#leave();
    const job = this.getAttribute("job");
    if (!job) return;
    this.#state = null;
    this.#highest.reset();
    this.#paintSoon();
    const base = this.getAttribute("base");
    this.#watch = watchJob(job, {
      getToken: this.getToken,
      ...(base && { base: new URL(base, document.baseURI) }),
      onState: (state, { gap }) => this.#take(state, gap),
      onStatus: (status) => {
        this.#status = status;
        this.dispatchEvent(new CustomEvent("job-status", { detail: { status } }));
      },
    });
  }

  #leave() {
    this.#watch?.close();
    this.#watch = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #take(state, gap) {
    if (gap) this.#highest.reset();
    const before = this.#state?.state;
    this.#state = state;
    this.#paintSoon();
    if (state === null || state.state === before) return;
    this.dispatchEvent(new CustomEvent("job-state", { detail: { state } }));
    if (hasEnded(state)) this.dispatchEvent(new CustomEvent("job-end", { detail: { state } }));
  }

  #build(root) {
    for (const [name, element] of Object.entries(this.#at)) {
      element.part = name;
      element.className = name;
    }
    const { title, share, track, fill, failed, count, pace, message, parts, steps, error, announcer } = this.#at;
    for (const quiet of [count, pace, message, parts]) quiet.classList.add("quiet");
    announcer.className = "unseen";
    announcer.setAttribute("role", "status");
    for (const [name, value] of Object.entries({ role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Progress" })) {
      track.setAttribute(name, value);
    }
    track.append(fill, failed);
    root.append(row(title, share), track, row(count, pace), message, parts, steps, error, announcer);
  }

  #paintSoon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint(this.#state);
    });
  }

  #paint(state) {
    const at = this.#at;
    if (state === null) {
      for (const name of ["title", "share", "count", "pace", "message", "parts", "error"]) put(at[name], "");
      at.steps.replaceChildren();
      return this.#paintTrack("queued", null, null, "Connecting");
    }
    const look = state.stalled ? "stalled" : state.state;
    const shown = this.#highest.of(state, fractionOf(state));
    const words = `${state.stalled ? "Stalled" : STATES[state.state]}${state.attempt > 1 ? `, attempt ${state.attempt}` : ""}`;
    put(at.title, state.title || state.actor);
    put(at.share, shown === null ? words : `${percent(shown)} · ${words}`);
    put(at.count, countOf(state));
    put(at.pace, paceOf(state));
    put(at.message, hasEnded(state) ? "" : (state.message || (state.state === "queued" && state.waiting_for) || ""));
    put(at.parts, partsOf(state));
    put(at.error, state.state === "failed" ? (state.error?.message ?? "It failed and gave no reason.") : "");
    this.#paintSteps(state.steps);
    this.#paintTrack(look, shown, state, [words, countOf(state)].filter(Boolean).join(", "));
    this.#speak(state, shown, words);
  }

  #paintTrack(look, shown, state, words) {
    const { track, fill, failed } = this.#at;
    track.dataset.look = look;
    track.classList.toggle("unknown", shown === null);
    fill.style.setProperty("--done", String(shown ?? 0));
    failed.style.setProperty("--failed", String(state?.parts?.total ? state.parts.failed / state.parts.total : 0));
    if (shown === null) track.removeAttribute("aria-valuenow");
    else track.setAttribute("aria-valuenow", String(Math.floor(shown * 100)));
    track.setAttribute("aria-valuetext", words);
  }

  #paintSteps(steps) {
    const list = this.#at.steps;
    list.hidden = steps.length === 0;
    while (list.childElementCount > steps.length) list.lastElementChild.remove();
    while (list.childElementCount < steps.length) list.append(document.createElement("li"));
    steps.forEach(({ name, state }, at) => {
      list.children[at].dataset.state = state ?? "";
      put(list.children[at], name ?? "");
    });
  }

  /** A new state at once; how far it is by tenths, and not more often than somebody can listen to. */
  #speak(state, shown, words) {
    const tenth = shown === null || hasEnded(state) ? "" : ` ${Math.floor(shown * 10) * 10} %`;
    const text = words + tenth;
    const isNews = !this.#spoken.startsWith(words);
    if (text === this.#spoken || (!isNews && Date.now() - this.#spokenAt < QUIET_MS)) return;
    this.#spoken = text;
    this.#spokenAt = Date.now();
    this.#at.announcer.textContent = text;
  }
}

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

function row(...children) {
  const line = document.createElement("div");
  line.className = "line";
  line.append(...children);
  return line;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

function countOf({ done, total, unit }) {
  if (done === null) return "";
  return `${number(done)}${total === null ? "" : ` of ${number(total)}`} ${unit ?? ""}`.trimEnd();
}

function paceOf(state) {
  if (state.state !== "running" || state.stalled) return "";
  const rate = state.rate > 0 && state.unit !== "s" && `${number(state.rate)} ${state.unit ?? ""}/s`.replace(" /s", "/s");
  return [rate, state.eta !== null && `about ${duration(state.eta)} left`].filter(Boolean).join(" · ");
}

function partsOf({ parts }) {
  if (!parts) return "";
  const said = ["running", "succeeded", "failed", "cancelled"].filter((name) => parts[name] > 0);
  return [`${number(parts.total)} parts`, ...said.map((name) => `${number(parts[name])} ${name}`)].join(" · ");
}
