/** How a watch stands. After `ended`, `expired`, `unauthorised`, `forbidden` and `missing` nothing comes any more. */
export type Status =
  | "connecting" | "live" | "long-poll" | "polling" | "reconnecting" | "offline" | "busy" | "draining"
  | "ended" | "expired" | "unauthorised" | "forbidden" | "missing";

export interface Parts {
  total: number; queued: number; running: number; succeeded: number; failed: number; cancelled: number;
}

export interface Step { name: string; state: "started" | "finished" | "failed"; seconds: number | null }

/** A whole job. What is not known is null. Times are RFC 3339 in UTC. */
export interface JobState {
  id: string; actor: string; queue: string | null; title: string | null; owner: string | null;
  state: "queued" | "running" | "retrying" | "succeeded" | "failed" | "cancelled";
  attempt: number | null; max_attempts: number | null; run_at: string | null; next_at: string | null;
  done: number | null; total: number | null; unit: string | null; rate: number | null; eta: number | null;
  message: string | null; steps: Step[]; parent: string | null; parts: Parts | null; retry_of: string | null;
  stalled: boolean; cancel_requested: boolean; error: { type: string; message: string } | null; result?: unknown;
  created_at: string; started_at: string | null; finished_at: string | null; updated_at: string; seen_at: string | null;
  last_event_id: string; waiting_for: string | null;
}

export interface JobEvent { job: string; type: string; at: string; attempt?: number; [name: string]: unknown }

export interface Options {
  /** Where the application is mounted (ends with `/`); default: beside the page. */
  base?: string | URL;
  /** Gives a token, a new one where `renew` is true; without it the browser's cookie says who asks. */
  getToken?: (how: { renew: boolean }) => string | null | Promise<string | null>;
  signal?: AbortSignal;
  /** false: this tab keeps a connection of its own. Default: all tabs of a browser share one. */
  share?: boolean;
  onStatus?: (status: Status, detail: Record<string, unknown>) => void;
}

export interface JobOptions extends Options {
  /** Each event once, in order. */
  onEvent?: (event: JobEvent, eventId: string) => void;
  /** The whole state after each change; `gap`: history is missing before it, and the bar may go back. */
  onState?: (state: JobState, why: { gap: boolean; reason: string | null }) => void;
  /** So many of the latest events are handed on at the start; Infinity: all that are kept. Default 0. */
  tail?: number;
}

export interface ListOptions extends Options {
  /** A whole state without its result; never an older one than before. */
  onJob?: (state: JobState) => void;
  /** Deleted, expired, another's or never there. */
  onGone?: (id: string) => void;
}

export interface Watch {
  /** The latest state; null before the first, and always for lists. */
  readonly state: JobState | null;
  readonly status: Status;
  /** Ends it at once: nothing is called any more, and nothing stays open. */
  close(): void;
}

/** Follows a job to its end, over whatever happens on the way. Without `base` it needs a page. */
export function watchJob(id: string, options?: JobOptions): Watch;
/** Follows these jobs by one stream; without ids all of the caller's, those made later too. */
export function watchJobs(ids?: Iterable<string> | null, options?: ListOptions): Watch;
/** The state after one more event. Pure. */
export function fold(state: JobState, event: JobEvent): JobState;
export function hasEnded(state: JobState | null): boolean;
export const TERMINAL: ReadonlySet<string>;
export const FINAL_STATUSES: readonly Status[];
