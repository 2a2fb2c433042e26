// Where one is in a job's stream: ids `<epoch>-<n>` of two unsigned 64-bit numbers, more than a JavaScript number can hold. Pure.

export const BEGINNING = "0-0";

/** True when `one` lies before `other`. What is no id lies before all. */
export function isBefore(one, other) {
  const [epoch, n] = parts(one);
  const [otherEpoch, otherN] = parts(other);
  return epoch === otherEpoch ? n < otherN : epoch < otherEpoch;
}

/** True when nothing can lie between the two: the next number of the same epoch. */
export function follows(next, id) {
  const [epoch, n] = parts(id);
  const [nextEpoch, nextN] = parts(next);
  return epoch === nextEpoch && nextN === n + 1n;
}

/** The id `count` events before `id`, or the beginning. */
export function earlier(id, count) {
  const [epoch, n] = parts(id);
  return Number.isFinite(count) && n > BigInt(count) ? `${epoch}-${n - BigInt(count)}` : BEGINNING;
}

function parts(id) {
  const [, epoch, n] = /^(\d{1,20})-(\d{1,20})$/.exec(id ?? "") ?? [null, 0, 0];
  return [BigInt(epoch), BigInt(n)];
}
