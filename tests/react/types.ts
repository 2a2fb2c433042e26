// Every public name of the client as a TypeScript application uses it; `tsc` alone reads this file.

import { FINAL_STATUSES, TERMINAL, fold, hasEnded, watchJob, watchJobs } from "progress-stream";
import type { JobEvent, JobOptions, JobState, ListOptions, Options, Parts, Status, Step, Watch } from "progress-stream";
import { fold as foldAlone } from "progress-stream/fold";
import { JobProgress } from "progress-stream/element";
import { JobProgress as Defined } from "progress-stream/define";
import { useJob } from "progress-stream/react";

const common: Options = { base: "/progress/", getToken: async ({ renew }) => (renew ? null : "token"), share: false };
const options: JobOptions = {
  ...common,
  tail: Infinity,
  onEvent: (event: JobEvent, id: string) => console.log(event.type, id.length),
  onState: (state: JobState, { gap, reason }) => console.log(state.done ?? 0, gap, reason),
  onStatus: (status: Status) => console.log(status satisfies string),
};
const list: ListOptions = { onJob: ({ parts }) => show(parts), onGone: (id) => console.log(id.length) };

export const watches: Watch[] = [watchJob("job-1", options), watchJobs(["job-1"], list), watchJobs(null)];

export function after(state: JobState, event: JobEvent): [boolean, Step[]] {
  const next = fold(foldAlone(state, event), event);
  return [hasEnded(next) || TERMINAL.has(next.state) || FINAL_STATUSES.includes("ended"), next.steps];
}

export function element(): JobProgress {
  const made: JobProgress = new Defined();
  made.getToken = common.getToken;
  return made;
}

export function component(): string {
  const { state, status } = useJob("job-1", options);
  return `${status} ${state?.done}`;
}

function show(parts: Parts | null): void {
  console.log(parts?.succeeded);
}

// @ts-expect-error: a job has no such field.
export const wrong = (state: JobState): unknown => state.percent;
