// One job on the page: follows it and paints its state, at most once a frame.

import { hasEnded } from "../client/fold.js";
import { watchJob } from "../client/watch.js";
import { Bar } from "./bar.js";
import { Lag } from "./lag.js";
import { Log, sentenceOf } from "./log.js";
import { $, announce, BASE, confirmed, make, put, send } from "./page.js";
import { Plot } from "./plot.js";
import { clock, CONNECTION, duration, fractionOf, number, percent, secondsSince, size, STATES } from "../client/words.js";

/** Events shown again when the page is loaded in the middle of a job: enough for the log's tail. */
const TAIL_EVENTS = 300;
/** What somebody may do with a job: in which states, how it is asked, and what must be confirmed first. */
const ACTIONS = {
  cancel: {
    path: "/cancel", method: "POST", when: (state) => !hasEnded(state), ask: "Cancel this job? What it has done so far stays.", yes: "Cancel the job",
  },
  retry: { path: "/retry", method: "POST", when: hasEnded },
  delete: { path: "", method: "DELETE", when: hasEnded, ask: "Delete this job with its log and its files?", yes: "Delete" },
};

/**
 * Follows a job until it is left. `onStop` gets the status after which nothing can be shown any more, `onOther` the id of a job that
 * was made of this one; `onGone` is called when it was deleted here.
 */
export class JobView {
  #id;
  #on;
  #state = null;
  #status = "connecting";
  #bar = new Bar();
  #log = new Log($("log"), $("log-filter"));
  #plot = new Plot($("plot"));
  #lag = new Lag();
  #attempts = new Map();
  #depths = new Map();
  #openSteps = [];
  #watch;
  #frame = 0;
  #second;

  constructor(id, on) {
    this.#id = id;
    this.#on = on;
    for (const name of Object.keys(ACTIONS)) $(name).onclick = () => this.#act(name);
    this.#log.clear();
    clean();
    this.#bar.paint({ attempt: null, state: "queued" }, null, "queued", "");
    $("job-title").textContent = "Job";
    this.#watch = watchJob(id, {
      base: BASE,
      tail: TAIL_EVENTS,
      onEvent: (event) => this.#onEvent(event),
      onState: (state, why) => this.#onState(state, why),
      onStatus: (status) => this.#onStatus(status),
    });
    // Times that pass while nothing comes: the next attempt, a silent worker. Also the title of a hidden tab.
    this.#second = setInterval(() => this.#tick(), 1000);
    this.#paintSoon();
  }

  leave() {
    this.#watch.close();
    if ($("confirm").open) $("confirm").close();
    $("lag").textContent = "";
    clearInterval(this.#second);
    cancelAnimationFrame(this.#frame);
    $("connection").hidden = true;
    document.title = "progress_stream";
  }

  #onEvent(event) {
    this.#note(event);
    const said = sentenceOf(event);
    if (said) this.#log.add(event.at, ...said);
    this.#paintSoon();
  }

  #note(event) {
    if (this.#status === "live") this.#showLag(this.#lag.note(Date.parse(event.at), Date.now()));
    if (event.type === "progress" && event.rate > 0) this.#plot.add(Date.parse(event.at), event.rate);
    if (event.type === "step") this.#nest(event);
    if (event.type === "started") {
      this.#plot.clear();
      this.#depths.clear();
      this.#openSteps = [];
      this.#attempts.set(event.attempt, { from: event.at, to: null, how: "running" });
    }
    if (["retrying", "succeeded", "failed", "cancelled"].includes(event.type) && this.#attempts.has(event.attempt)) {
      Object.assign(this.#attempts.get(event.attempt), { to: event.at, how: event.type === "retrying" ? "failed" : event.type });
    }
  }

  /** A step that begins within another one is part of it. */
  #nest({ name, state }) {
    if (state === "started") {
      this.#depths.set(name, Math.min(this.#openSteps.length, 3));
      this.#openSteps.push(name);
    } else this.#openSteps = this.#openSteps.filter((open) => open !== name);
  }

  #showLag(ms) {
    $("lag").textContent = `${Math.round(ms)} ms`;
    $("lag").title = "How much longer than the quickest the latest event took to come here";
  }

  async #act(name) {
    const { path, method, ask, yes } = ACTIONS[name];
    if (ask && !(await confirmed(ask, yes))) return;
    put($("action-error"), "");
    $(name).disabled = true;
    try {
      const answer = await send(method, `jobs/${encodeURIComponent(this.#id)}${path}`);
      if (name === "retry") this.#on.onOther(answer.id);
      if (name === "delete") this.#on.onGone();
    } catch (problem) {
      put($("action-error"), problem.message);
    } finally {
      $(name).disabled = false;
    }
  }

  #onState(state, { gap }) {
    if (gap) {
      this.#bar.reset();
      this.#log.add(state.updated_at, "note", "Some lines are missing here: the server no longer has them");
    }
    const news = state.state !== this.#state?.state;
    this.#state = state;
    if (news) {
      announce(`${STATES[state.state]}. ${state.error?.message ?? ""}`);
      if (state.state === "succeeded") this.#offerResult();
    }
    this.#paintSoon();
  }

  #onStatus(status) {
    this.#status = status;
    this.#paintSoon();
    if (status !== "live") $("lag").textContent = "";
    if (status in CONNECTION || status === "ended") return;
    this.#on.onStop(status);
  }

  async #offerResult() {
    const address = new URL(`jobs/${encodeURIComponent(this.#id)}/result`, BASE);
    const answer = await fetch(address, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 404) return;
    const link = $("download");
    const bytes = Number(answer?.headers.get("Content-Length"));
    link.href = address;
    put(link, bytes > 0 ? `Download result (${size(bytes)})` : "Download result");
  }

  #tick() {
    if (this.#state === null) return;
    const { state, title, actor } = this.#state;
    const fraction = fractionOf(this.#state);
    const sign = state === "running" && fraction !== null ? percent(fraction) : STATES[state];
    document.title = `${sign} · ${title || actor}`;
    if (!hasEnded(this.#state)) this.#paintSoon();
  }

  #paintSoon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #paint() {
    this.#log.paint();
    this.#paintConnection();
    if (this.#state === null) return;
    this.#paintHeading(this.#state);
    this.#paintGauge(this.#state);
    this.#paintNotices(this.#state);
    paintSteps(this.#state, this.#depths);
    put($("parts"), partsOf(this.#state));
    this.#paintAttempts();
    this.#plot.paint();
    for (const [name, { when }] of Object.entries(ACTIONS)) $(name).hidden = !when(this.#state);
    $("outcome").hidden = !hasEnded(this.#state);
    paintResult(this.#state);
  }

  #paintConnection() {
    const badge = $("connection");
    badge.dataset.status = this.#status;
    put(badge, CONNECTION[this.#status]);
  }

  /** One attempt is nothing to speak of. */
  #paintAttempts() {
    const list = $("attempts");
    list.hidden = this.#attempts.size < 2;
    if (list.hidden) return;
    const texts = [...this.#attempts].map(([number, { from, to, how }]) => {
      const lasted = to === null ? "" : ` after ${duration((Date.parse(to) - Date.parse(from)) / 1000)}`;
      return `Attempt ${number} · ${clock(from)} · ${how}${lasted}`;
    });
    if (list.childElementCount !== texts.length) list.replaceChildren(...texts.map(() => make("li")));
    texts.forEach((text, at) => put(list.children[at], text));
  }

  #paintHeading(state) {
    put($("job-title"), state.title || state.actor);
    const pill = $("job-state");
    pill.dataset.state = state.stalled ? "stalled" : state.state;
    put(pill, state.stalled ? "Stalled" : STATES[state.state]);
    const attempt = state.attempt > 1 && `attempt ${state.attempt}${state.max_attempts ? ` of ${state.max_attempts}` : ""}`;
    $("job-meta").title = state.id;
    put($("job-meta"), [state.title && state.actor, attempt, state.id].filter(Boolean).join(" · "));
  }

  #paintGauge(state) {
    const count = countOf(state);
    const look = state.stalled ? "stalled" : state.state;
    const words = [STATES[state.state], count].filter(Boolean).join(", ");
    const shown = this.#bar.paint(state, fractionOf(state), look, words);
    put($("percent"), shown === null ? "" : percent(shown));
    put($("count"), count);
    put($("pace"), paceOf(state));
    // Its line stays, so that the page does not jump when a message comes and goes.
    $("message").textContent = hasEnded(state) ? "" : (state.message ?? waitOf(state));
  }

  #paintNotices(state) {
    put($("failure"), state.state === "failed" ? failureOf(state.error) : "");
    put($("warning"), warningOf(state));
  }
}

/** Nothing of the job before may show. */
function clean() {
  for (const part of ["warning", "failure", "percent", "count", "pace", "job-meta", "job-state", "parts", "action-error"]) put($(part), "");
  for (const part of ["steps", "outcome", "download", "attempts", "cancel", "retry", "delete"]) $(part).hidden = true;
  $("plot").setAttribute("hidden", "");
  for (const part of ["steps", "result", "message"]) $(part).replaceChildren();
}

function countOf({ done, total, unit }) {
  if (done === null) return "";
  const of = total === null ? "" : ` of ${number(total)}`;
  return `${number(done)}${of} ${unit ?? ""}`.trimEnd();
}

/** Of a job that was spread over many messages. */
function partsOf({ parts }) {
  if (!parts) return "";
  const said = ["running", "succeeded", "failed", "cancelled"].filter((name) => parts[name] > 0).map((name) => `${number(parts[name])} ${name}`);
  return [`${number(parts.total)} parts`, ...said].join(" · ");
}

function paceOf(state) {
  if (hasEnded(state)) {
    const from = state.started_at ?? state.created_at;
    return from && state.finished_at ? `in ${duration((Date.parse(state.finished_at) - Date.parse(from)) / 1000)}` : "";
  }
  if (state.state !== "running" || state.stalled) return "";
  // Seconds a second say nothing.
  const rate = state.rate > 0 && state.unit !== "s" && `${number(state.rate)} ${state.unit ?? ""}/s`.replace(" /s", "/s");
  const left = state.eta !== null && `about ${duration(state.eta)} left`;
  return [rate, left].filter(Boolean).join(" · ");
}

function waitOf(state) {
  if (state.state === "queued") return state.run_at ? "Waiting for its time" : "Waiting for a worker";
  return "";
}

function failureOf(error) {
  if (error === null) return "The job failed and gave no reason.";
  if (error.type === "Lost") return `The job was lost: ${error.message}.`.replace("..", ".");
  return error.message || `The job failed: ${error.type}.`;
}

function warningOf(state) {
  if (state.state === "queued") return state.waiting_for ? `Still waiting: ${state.waiting_for}.` : "";
  if (state.state === "retrying") {
    const wait = state.next_at ? -secondsSince(state.next_at) : 0;
    const when = wait >= 1 ? `Trying again in ${duration(wait)}.` : "Trying again now.";
    return `Attempt ${state.attempt} failed: ${state.error?.message ?? "no reason given"}. ${when}`.replace("..", ".");
  }
  if (state.stalled) {
    const silent = duration(secondsSince(state.seen_at ?? state.updated_at));
    return `No sign from the worker for ${silent}. If it died, another attempt begins by itself.`;
  }
  return state.cancel_requested && !hasEnded(state) ? "Asked to stop; waiting for the worker to notice." : "";
}

function paintSteps({ steps, state, stalled }, depths) {
  const list = $("steps");
  list.classList.toggle("tree", steps.some(({ name }) => depths.get(name) > 0));
  list.classList.toggle("moving", state === "running" && !stalled);
  list.hidden = steps.length === 0;
  const rows = [...list.children];
  steps.forEach((step, at) => {
    const row = rows[at] ?? list.appendChild(make("li"));
    row.dataset.state = step.state ?? "";
    row.dataset.depth = depths.get(step.name) ?? 0;
    const time = step.seconds >= 1 ? duration(step.seconds) : "";
    if (row.textContent !== step.name + time) row.replaceChildren(step.name ?? "", make("small", "", time));
  });
  rows.slice(steps.length).forEach((row) => row.remove());
}

/** A flat result is a small table; anything deeper is for the download. */
function paintResult({ state, result }) {
  const list = $("result");
  const flat = state === "succeeded" && result !== null && typeof result === "object" && !Array.isArray(result);
  const entries = flat ? Object.entries(result).filter(([, value]) => ["number", "string"].includes(typeof value)) : [];
  list.hidden = entries.length === 0;
  if (entries.length === list.childElementCount) return;
  list.replaceChildren(
    ...entries.slice(0, 12).map(([name, value]) => {
      const pair = make("div");
      pair.append(
        make("dt", "", name.replaceAll("_", " ")),
        make("dd", "", typeof value === "number" ? number(value) : value.slice(0, 200)),
      );
      return pair;
    }),
  );
}
