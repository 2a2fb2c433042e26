// The client's public names.

export { fold, hasEnded, TERMINAL } from "./fold.js";
export { FINAL_STATUSES, watchJob, watchJobs } from "./watch.js";
