// One event stream over fetch, from its opening to its end: hands on its frames, and watches the clock for bytes that do not come.

import { Later, mustBe } from "./http.js";
import { OPENING_MS } from "./modes.js";
import { createParser } from "./vendor/eventsource-parser.js";

/** How a stream ended that nobody ended: by its own framing, by a cut, or because nothing came any more. */
export const ENDS = { clean: "clean", cut: "cut", heldBack: "held back", silent: "silent" };

/**
 * Reads one stream. Raises Final and Later as `Http.get` does, and the network's failure where no answer began.
 *
 * @param {import("./http.js").Http} http
 * @param {URL} url
 * @param {Record<string, string>} headers
 * @param {{signal: AbortSignal, silenceMs: number, onFrame: (frame: {event: string, id: string, data: string}) => void,
 *   onByte: () => void, onRetry: (ms: number) => void}} how
 * @returns {Promise<string>} one of ENDS; `over` where there is nothing more to come (204)
 */
export async function readStream(http, url, headers, { signal, silenceMs, onFrame, onByte, onRetry }) {
  const attempt = new AbortController();
  let end = null;
  let answered = false;
  let timer = 0;
  const expect = (ms, otherwise) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      end = otherwise;
      attempt.abort();
    }, ms);
  };
  try {
    expect(OPENING_MS, ENDS.heldBack);
    const answer = await http.get(url, { Accept: "text/event-stream", ...headers }, AbortSignal.any([signal, attempt.signal]));
    answered = true;
    if (answer.status === 204) return "over";
    await mustBe("text/event-stream", answer);
    const parser = createParser({
      onEvent: ({ event, id, data }) => onFrame({ event: event ?? "message", id: id ?? "", data }),
      onRetry,
    });
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return ENDS.clean;
      expect(silenceMs, ENDS.silent);
      onByte();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (signal.aborted) throw error;
    if (end !== null) return end;
    if (!answered || error instanceof Later) throw error;
    return ENDS.cut;
  } finally {
    clearTimeout(timer);
    attempt.abort();
  }
}
