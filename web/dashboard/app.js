// The page: which view belongs to the address, and what to say when none can be shown.
// `#/` the form, `#/jobs/<id>` a job. The id lives in the address, so a reload or a shared link comes back to it.

import { JobView } from "./job.js";
import { $, BASE, put, show } from "./page.js";
import { SubmitView } from "./submit.js";

/** How often a page with nothing to submit to looks again. */
const LOOK_AGAIN_MS = 3_000;

let job = null;
let again = 0;
const form = new SubmitView((id) => (location.hash = `#/jobs/${encodeURIComponent(id)}`), onProblem);

function route() {
  clearTimeout(again);
  job?.leave();
  job = null;
  const id = idIn(location.hash);
  if (id !== null) {
    show("job");
    job = new JobView(id, onStop);
  } else {
    show("submit");
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
  if (form.waiting && job === null && !$("view-submit").hidden) again = setTimeout(offer, LOOK_AGAIN_MS);
}

function onStop(status) {
  job?.leave();
  job = null;
  if (status === "unauthorised") lock();
  else if (status === "expired") stop("Your sign-in ran out", "The job goes on without this page. Open a fresh link to see it again.");
  else if (status === "forbidden") stop("Not allowed", "Your link does not allow you to look at jobs.");
  else stop("No such job", "It does not exist, has expired, or belongs to somebody else.");
}

function onProblem(problem) {
  if (problem.status === 401) lock();
  else if (problem.status === 403) stop("Not allowed", problem.message);
  else stop("The server did not answer", problem.message);
}

function lock() {
  put($("sample-link"), BASE.href);
  show("locked");
}

function stop(title, text) {
  put($("stop-title"), title);
  put($("stop-text"), text);
  show("stop");
}

addEventListener("hashchange", route);
$("unlock").addEventListener("click", route);
$("again").addEventListener("click", route);
route();
