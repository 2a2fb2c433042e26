// Follows one topic by whichever way works, for as long as it takes: hands on what comes, and says how it stands. What a topic's
// frames mean is the topic's; who else hears of them is `share`'s.

import { Backoff, pause } from "./backoff.js";
import { Final } from "./http.js";
import { Modes, SILENT_HEARTBEATS } from "./modes.js";
import { ENDS, readStream } from "./stream.js";

/** How long a long-poll is asked to wait: less than proxies cut idle answers at. */
const WAIT_SECONDS = 25;
/** Between two long-polls of a busy topic: what comes meanwhile comes with the next. */
const GATHER_MS = 200;
/** Long-polls that failed in a row before the stream is tried again. */
const FAILED_POLLS = 2;
/** Without a slot for a connection of its own a topic is polled for so long. */
const SLOTLESS_MS = 10_000;
/** A stream that was silent for so many heartbeats when its tab wakes is made anew. */
const STALE_HEARTBEATS = 1.5;

export class Follower {
  #topic;
  #http;
  #config;
  #slots;
  #tell;
  #signal;
  #modes = new Modes();
  #backoff;
  #viaUrl = false;
  #nap = null;
  #attempt = null;
  #heardAt = 0;
  #failedPolls = 0;
  #releaseSlot = null;

  /**
   * @param {{topic: object, http: object, config: object, slots: object, signal: AbortSignal, random?: () => number,
   *   tell: {item: (item: object) => boolean, status: (status: string, detail?: object) => void, beat: () => void}}} how
   *   `item` says whether the topic is over with it
   */
  constructor({ topic, http, config, slots, signal, tell, random }) {
    this.#topic = topic;
    this.#http = http;
    this.#config = config;
    this.#slots = slots;
    this.#signal = signal;
    this.#tell = tell;
    this.#backoff = new Backoff(random);
  }

  /** Until it is over or aborted: the final status, or null where it was aborted. */
  async run() {
    try {
      while (!this.#signal.aborted) {
        const final = await this.#once();
        if (final) return final;
      }
      return null;
    } catch (error) {
      if (this.#signal.aborted) return null;
      if (error instanceof Final) return error.status;
      throw error;
    } finally {
      this.#leaveSlot();
    }
  }

  /** The tab was away, or the network came back: what may be dead is made anew, and nothing waits any longer. */
  wake(force = false) {
    if (force || Date.now() - this.#heardAt > STALE_HEARTBEATS * this.#config.heartbeatMs) this.#attempt?.abort();
    this.#backoff.reset();
    this.#nap?.abort();
  }

  async #once() {
    let pause = 0;
    try {
      const mode = this.#modes.at(Date.now());
      if (mode === "stream") {
        const outcome = await this.#stream();
        if (typeof outcome === "string") return outcome;
        pause = outcome;
      } else {
        this.#leaveSlot();
        const final = await this.#poll(mode);
        if (final) return final;
        pause = mode === "polling" ? this.#config.pollMs : GATHER_MS;
      }
    } catch (error) {
      if (this.#signal.aborted) return null;
      if (error instanceof Final) throw error;
      pause = this.#failed(error);
    }
    if (pause > 0) await this.#sleep(pause);
    return null;
  }

  #failed(error) {
    if (this.#modes.mode === "long-poll" && ++this.#failedPolls >= FAILED_POLLS) this.#modes = new Modes();
    if (error.off || error.limit) return this.#refused(error.off, error.told || SLOTLESS_MS);
    this.#tell.status(globalThis.navigator?.onLine === false ? "offline" : "reconnecting");
    return this.#backoff.next(error.told ?? 0);
  }

  // -- the stream

  /** The final status, or how long to wait. */
  async #stream() {
    if (!(await this.#takeSlot())) {
      this.#modes.refused(Date.now(), SLOTLESS_MS);
      return 0;
    }
    const said = { retry: 0, brought: false, bytes: 0, busy: null, over: false, expired: false, again: false };
    const began = Date.now();
    const signal = this.#begin();
    const { url, headers } = this.#topic.streamRequest(this.#http, this.#viaUrl);
    let end;
    try {
      end = await readStream(this.#http, url, headers, {
        signal,
        silenceMs: SILENT_HEARTBEATS * this.#config.heartbeatMs,
        onRetry: (ms) => (said.retry = ms),
        onByte: () => {
          said.bytes += 1;
          this.#heardAt = Date.now();
          this.#tell.beat();
        },
        onFrame: (frame) => this.#onFrame(frame, said),
      });
    } catch (error) {
      // Ended by ourselves, for a reason that was noted.
      if (this.#signal.aborted || !signal.aborted) throw error;
      end = ENDS.clean;
    }
    return this.#after(end, said, Date.now() - began);
  }

  #onFrame({ event, id, data: text }, said) {
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      return; // Not ours.
    }
    if (event === "position") {
      const eaten = this.#topic.position !== null && !data.resumed && !this.#viaUrl;
      if (!eaten) return this.#tell.status("live");
      // Something on the way took the header: from now on the position travels in the address.
      this.#viaUrl = said.again = true;
      return this.#attempt.abort();
    }
    if (event === "busy") said.busy = data;
    else if (event === "expired") said.expired = true;
    else if (event === "draining") this.#tell.status("draining");
    else if (event !== "ping") {
      said.brought = true;
      this.#backoff.reset();
      this.#modes.passed();
      const item = this.#topic.item(event, data, id);
      if (item && this.#tell.item(item)) {
        said.over = true;
        this.#attempt.abort();
      }
    }
  }

  async #after(end, said, lasted) {
    if (said.over || end === "over") return "ended";
    if (said.again) return 0;
    if (said.expired) return this.#renew();
    if (said.busy) return this.#refuse(said.busy);
    if (end === ENDS.heldBack || (end === ENDS.silent && said.bytes < 2)) {
      this.#modes.heldBack(Date.now());
      return 0;
    }
    if (!said.brought) this.#modes.broke(Date.now(), lasted);
    if (end === ENDS.cut || end === ENDS.silent) {
      this.#tell.status("reconnecting");
      return this.#backoff.next();
    }
    // A life that was over: back within the time that the server draws for each.
    return Math.random() * Math.max(said.retry, 100);
  }

  async #renew() {
    try {
      await this.#http.renew();
    } catch (error) {
      return error instanceof Final ? "expired" : this.#failed(error);
    }
    return 0;
  }

  #refuse({ reason, retry_after: seconds }) {
    const off = reason === "streaming_off";
    if (!off && !/^too_many/.test(reason)) {
      this.#tell.status("busy", { reason });
      return 1_000 * seconds;
    }
    return this.#refused(off, 1_000 * seconds);
  }

  /** No streams for so long, or (`off`) until the server gives them again: polled at once. */
  #refused(off, ms) {
    if (off) this.#config.streaming = false;
    this.#modes.refused(Date.now(), off ? null : ms);
    return 0;
  }

  // -- without it

  async #poll(mode) {
    const polling = mode === "polling";
    const left = this.#modes.left(Date.now());
    const wait = polling ? 0 : Math.min(WAIT_SECONDS, Math.ceil((left ?? Infinity) / 1_000));
    const signal = this.#begin();
    if (polling && this.#modes.off && (await this.#config.streams(signal))) return void this.#modes.restored();
    this.#tell.status(mode);
    const found = await this.#topic.ask(this.#http, wait, signal);
    this.#heardAt = Date.now();
    this.#failedPolls = 0;
    this.#backoff.reset();
    this.#tell.beat();
    const over = found.items.map((item) => this.#tell.item(item)).some(Boolean);
    return over || found.over ? "ended" : null;
  }

  // -- the rim

  #begin() {
    const { signal } = (this.#attempt = new AbortController());
    return AbortSignal.any([this.#signal, signal]);
  }

  #sleep(ms) {
    const { signal } = (this.#nap = new AbortController());
    return pause(ms, AbortSignal.any([this.#signal, signal]));
  }

  async #takeSlot() {
    this.#releaseSlot ??= await this.#slots.take(this.#signal);
    return this.#releaseSlot !== null;
  }

  #leaveSlot() {
    this.#releaseSlot?.();
    this.#releaseSlot = null;
  }
}
