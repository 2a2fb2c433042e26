// Numbers and times as people say them. Pure.

const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

export const number = (value) =>
  Number.isInteger(value) || value >= 100 ? NUMBER.format(value) : SMALL.format(value);

export const clock = (text) => CLOCK.format(new Date(text));

/** "less than 1 s", "45 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds) {
  if (seconds < 1) return "less than 1 s";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return join(Math.floor(whole / 60), "min", whole % 60, "s");
  return join(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
}

const join = (big, unit, small, smaller) => `${big} ${unit}${small ? ` ${small} ${smaller}` : ""}`;

export function size(bytes) {
  const steps = ["bytes", "kB", "MB", "GB"];
  const step = Math.min(steps.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${number(bytes / 1000 ** step)} ${steps[step]}`;
}

/** How far a job is, from 0 to 1, or null where nobody can know. */
export function fractionOf(state) {
  if (state.state === "succeeded") return 1;
  if (state.done === null || state.total === null) return null;
  return state.total === 0 ? 1 : Math.min(1, state.done / state.total);
}

export const secondsSince = (text) => (Date.now() - Date.parse(text)) / 1000;

/** Rounded down, so that 100 % means all of it. */
export const percent = (fraction) => `${Math.floor(fraction * 100)} %`;

const AGO = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** "5 minutes ago". */
export function ago(text) {
  const seconds = Math.max(0, secondsSince(text));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return AGO.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86_400) return AGO.format(-Math.floor(seconds / 3600), "hour");
  return AGO.format(-Math.floor(seconds / 86_400), "day");
}

export const STATES = {
  queued: "Queued", running: "Running", retrying: "Waiting to retry",
  succeeded: "Done", failed: "Failed", cancelled: "Cancelled",
};

/** How the connection stands, by the client's words. */
export const CONNECTION = {
  connecting: "Connecting…", live: "Live", "long-poll": "Live (long-poll)", polling: "Polling", reconnecting: "Reconnecting…",
  offline: "Offline", busy: "Server busy, waiting…", draining: "Reconnecting…",
};
