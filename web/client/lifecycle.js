// What happens to a page that somebody looks at no longer: it sleeps, goes offline, is frozen or kept for the way back. Tells when it
// is there again, and when its connections must be let go.

/**
 * @param {{wake: (certain: boolean) => void, hide: () => void, show: () => void}} on `certain`: whatever was open is dead
 * @param {AbortSignal} signal
 */
export function watchLife({ wake, hide, show }, signal) {
  const { document, addEventListener } = globalThis;
  if (!document || !addEventListener) return;
  const how = { signal };
  addEventListener("pagehide", ({ persisted }) => persisted && hide(), how);
  addEventListener("pageshow", ({ persisted }) => persisted && show(), how);
  addEventListener("online", () => wake(false), how);
  document.addEventListener("resume", () => wake(false), how);
  document.addEventListener("visibilitychange", () => document.hidden || wake(false), how);
}
