// The page: which view belongs to the address, and what to say when none can be shown.
// `#/` the form and the list (`#/?state=failed&actor=count`), `#/jobs/<id>` a job. All of it lives in the address, so a reload or a
// shared link comes back to it.

import { JobView } from "./job.js";
import { filterIn, ListView } from "./list.js";
import { $, BASE, get, put, send, show } from "./page.js";
import { SubmitView } from "./submit.js";

/** When a page with nothing to submit to looks again: soon at first, for somebody who starts a worker now, and then ever later. */
const FIRST_LOOK_MS = 3_000;
const LAST_LOOK_MS = 60_000;

let job = null;
let again = 0;
let pause = FIRST_LOOK_MS;
let login = null;
const open = (id) => (location.hash = `#/jobs/${encodeURIComponent(id)}`);
const form = new SubmitView(open, onProblem);
const list = new ListView(onProblem);

function route() {
  clearTimeout(again);
  job?.leave();
  job = null;
  list.leave();
  const id = idIn(location.hash);
  if (id !== null) {
    show("job");
    job = new JobView(id, { onStop, onOther: open, onGone: () => (location.hash = "#/") });
  } else if (location.hash === "#/sign-in-failed") {
    stop("Signing in did not work", "It took too long, or was begun in another window. Nothing is lost: try once more.");
    $("again").focus();
  } else {
    show("submit");
    list.open(filterIn(location.hash.split("?")[1] ?? ""));
    offer();
  }
}

function idIn(hash) {
  const match = /^#\/jobs\/([^/]+)$/.exec(hash);
  try {
    return match && decodeURIComponent(match[1]);
  } catch {
    return null;
  }
}

async function offer() {
  await form.open();
  if (form.waiting && job === null && !$("view-submit").hidden) {
    again = setTimeout(offer, pause);
    pause = Math.min(2 * pause, LAST_LOOK_MS);
  }
}

function onStop(status) {
  job?.leave();
  job = null;
  list.leave();
  if (status === "unauthorised") lock();
  else if (status === "expired") stop("Your sign-in ran out", "The job goes on without this page. Open a fresh link to see it again.");
  else if (status === "forbidden") stop("Not allowed", "Your link does not allow you to look at jobs.");
  else stop("No such job", "It does not exist, has expired, or belongs to somebody else.");
}

function onProblem(problem) {
  list.leave();
  if (problem.status === 401) lock();
  else if (problem.status === 403) stop("Not allowed", problem.message);
  else stop("The server did not answer", problem.message);
}

function lock() {
  put($("sample-link"), BASE.href);
  if (login !== null) {
    const view = /^#\/sign-in/.test(location.hash) ? "" : location.hash;
    $("sign-in").href = `${login}?${new URLSearchParams({ next: view })}`;
    put($("locked-title"), "Sign in to see your jobs");
    put($("locked-text"), "Your organisation's own sign-in tells this page who you are.");
  }
  $("sign-in").hidden = login === null;
  document.querySelector("#view-locked .sample").hidden = login !== null;
  $("unlock").hidden = login !== null;
  show("locked");
}

async function signOut() {
  const { location: next } = await send("POST", "logout").catch(() => ({ location: BASE.href }));
  location.assign(next);
}

async function begin() {
  const known = await get("config.json").catch(() => ({ login: null }));
  login = known.login;
  $("sign-out").hidden = login === null;
  route();
}

function stop(title, text) {
  put($("stop-title"), title);
  put($("stop-text"), text);
  show("stop");
}

addEventListener("hashchange", route);
$("unlock").addEventListener("click", route);
$("sign-out").addEventListener("click", signOut);
$("again").addEventListener("click", () => (location.hash === "#/sign-in-failed" ? (location.hash = "#/") : route()));
begin();
