import type { JobOptions, JobState, Status } from "./index.js";

/** A job's state while the component is mounted; with no id nothing is followed. Safe to render on a server. */
export function useJob(id: string | null | undefined, options?: JobOptions): { state: JobState | null; status: Status };
