import type { JobState, Options, Status } from "./index.js";

/** `<job-progress job="…" base="/progress/">`. Events: `job-state` and `job-end` (`{state}`), `job-status` (`{status}`). */
export class JobProgress extends HTMLElement {
  getToken: Options["getToken"];
  /** The state that is shown; set it to show one without following. */
  state: JobState | null;
  readonly status: Status;
}
