// The list of jobs: pages by cursor, and one stream that keeps the rows true. What arrives while somebody reads waits behind a button.

import { watchJobs } from "../client/watch.js";
import { $, announce, BASE, get, put } from "./page.js";
import { Rows } from "./rows.js";
import { CONNECTION, STATES } from "../client/words.js";

const PAGE = 50;
/** So near to the top counts as being there. */
const NEAR_PX = 40;

export class ListView {
  #rows = new Rows($("rows"));
  #waiting = new Map();
  #actors = new Set();
  #filter = {};
  #next = null;
  #watch = null;
  #second = 0;
  #visit = 0;
  #onProblem;

  constructor(onProblem) {
    this.#onProblem = onProblem;
    for (const [state, words] of Object.entries(STATES)) $("filter-state").add(new Option(words, state));
    $("filters").addEventListener("change", () => this.#choose());
    $("more").addEventListener("click", () => this.#more());
    $("new-jobs").addEventListener("click", () => this.#showNew());
    $("list-again").addEventListener("click", () => this.open(this.#filter));
  }

  /** Shows the list with this filter: `{state, actor, owner}`. */
  async open(filter) {
    this.leave();
    const visit = (this.#visit += 1);
    this.#filter = filter;
    this.#rows.clear();
    this.#show(filter);
    put($("list-note"), "Loading…");
    const page = await this.#page(null);
    if (visit !== this.#visit || page === null) return;
    this.#rows.append(page.jobs);
    this.#after(page);
    if (filter.owner) return void put($("list-note"), "Jobs of somebody else: this list does not move by itself.");
    this.#watch = watchJobs(null, {
      base: BASE,
      onJob: (state) => this.#onJob(state),
      onGone: (id) => this.#onGone(id),
      onStatus: (status) => this.#onStatus(status),
    });
    this.#second = setInterval(() => this.#rows.tick(), 10_000);
  }

  leave() {
    this.#visit += 1;
    this.#watch?.close();
    this.#watch = null;
    clearInterval(this.#second);
    this.#waiting.clear();
    this.#count();
    $("list-connection").hidden = true;
  }

  #show({ state = "", actor = "", owner = "" }) {
    $("filter-state").value = state;
    this.#know(actor);
    $("filter-actor").value = actor;
    put($("filter-owner"), owner && `Owner: ${owner}`);
    $("list-again").hidden = true;
  }

  #choose() {
    const query = new URLSearchParams();
    for (const [name, value] of [["state", $("filter-state").value], ["actor", $("filter-actor").value]]) {
      if (value) query.set(name, value);
    }
    if (this.#filter.owner) query.set("owner", this.#filter.owner);
    location.hash = query.size ? `#/?${query}` : "#/";
  }

  async #page(cursor) {
    const query = new URLSearchParams({ limit: PAGE, ...this.#filter, ...(cursor && { cursor }) });
    try {
      return await get(`jobs?${query}`);
    } catch (problem) {
      if (problem.status === 401) this.#onProblem(problem);
      put($("list-note"), problem.status === 403 ? "You may not look at this list." : problem.message);
      $("list-again").hidden = problem.status === 403;
      return null;
    }
  }

  async #more() {
    const visit = this.#visit;
    $("more").disabled = true;
    const page = await this.#page(this.#next);
    $("more").disabled = false;
    if (visit !== this.#visit || page === null) return;
    this.#rows.append(page.jobs);
    announce(`${page.jobs.length} more jobs`);
    this.#after(page);
  }

  #after({ jobs, next }) {
    for (const { actor } of jobs) this.#know(actor);
    this.#next = next;
    $("more").hidden = next === null;
    const isFiltered = Object.values(this.#filter).some(Boolean);
    const empty = isFiltered ? "No job fits these filters." : "No job yet. What you start appears here.";
    put($("list-note"), this.#rows.size === 0 && next === null ? empty : "");
  }

  #know(actor) {
    if (!actor || this.#actors.has(actor)) return;
    this.#actors.add(actor);
    $("filter-actor").add(new Option(actor, actor));
  }

  #onJob(state) {
    this.#know(state.actor);
    if (this.#rows.has(state.id)) this.#rows.update(state);
    else if (this.#waiting.has(state.id) || (this.#fits(state) && state.created_at >= this.#rows.newest)) this.#arrive(state);
  }

  #fits(state) {
    const { state: wanted, actor } = this.#filter;
    return (!wanted || state.state === wanted) && (!actor || state.actor === actor);
  }

  /** At the top of a list that nobody has in hand a new job may come in; else it waits to be asked for. */
  #arrive(state) {
    this.#waiting.set(state.id, state);
    const box = $("list-card");
    const isAtTop = box.getBoundingClientRect().top > -NEAR_PX;
    const isInHand = box.matches(":hover, :focus-within");
    if (isAtTop && !isInHand) this.#showNew();
    else this.#count();
  }

  #showNew() {
    const states = [...this.#waiting.values()].sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    this.#waiting.clear();
    this.#rows.prepend(states);
    this.#count();
    put($("list-note"), "");
  }

  #count() {
    const count = this.#waiting.size;
    // Its place is kept free, so that the rows stay where they are when it comes.
    $("new-jobs").textContent = count ? `${count} new` : "";
    $("new-jobs").disabled = count === 0;
  }

  #onGone(id) {
    this.#waiting.delete(id);
    this.#count();
    this.#rows.strike(id);
  }

  #onStatus(status) {
    const badge = $("list-connection");
    badge.dataset.status = status;
    put(badge, CONNECTION[status] ?? "");
    if (status === "unauthorised" || status === "expired") this.#onProblem({ status: 401 });
  }
}

/** The filters in an address such as `?state=running&actor=count`. */
export function filterIn(query) {
  const given = new URLSearchParams(query);
  return Object.fromEntries(["state", "actor", "owner"].map((name) => [name, given.get(name)]).filter(([, value]) => value));
}

