// `useJob(id)`: a job's state in a React component. Follows while it is mounted; on a server it renders what is known: nothing.

import { useCallback, useRef, useSyncExternalStore } from "react";

import { watchJob } from "./watch.js";

const NOTHING = { state: null, status: "connecting" };

/** `{state, status}` of the job; with no id there is nothing to follow. `options` as of `watchJob`; only a new id begins anew. */
export function useJob(id, options = {}) {
  const latest = useRef(options);
  latest.current = options;
  const seen = useRef(NOTHING);
  const subscribe = useCallback(
    (changed) => {
      seen.current = NOTHING;
      if (!id) return () => {};
      const note = (more) => {
        seen.current = { ...seen.current, ...more };
        changed();
      };
      const { onState, onStatus, ...rest } = latest.current;
      const watch = watchJob(id, {
        ...rest,
        onEvent: (event, eventId) => latest.current.onEvent?.(event, eventId),
        onState: (state, why) => (note({ state }), latest.current.onState?.(state, why)),
        onStatus: (status, detail) => (note({ status }), latest.current.onStatus?.(status, detail)),
      });
      return () => watch.close();
    },
    [id],
  );
  return useSyncExternalStore(subscribe, () => seen.current, () => NOTHING);
}
