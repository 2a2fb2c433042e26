// `watchJob` and `watchJobs`: what a page calls. Brings together who follows a topic, with whom it is shared, and what becomes of it.

import { configOf } from "./config.js";
import { Follower } from "./follower.js";
import { Final, Http } from "./http.js";
import { Backoff, pause } from "./backoff.js";
import { JobTopic } from "./job.js";
import { watchLife } from "./lifecycle.js";
import { ListTopic } from "./list.js";
import { identityOf, Share } from "./share.js";
import { Slots } from "./slots.js";

/** After these nothing comes any more. */
export const FINAL_STATUSES = ["ended", "expired", "unauthorised", "forbidden", "missing"];

/** Follows one job to its end. See index.d.ts. */
export function watchJob(id, options = {}) {
  return new Watch(new JobTopic(id, options), options);
}

/** Follows these jobs, or all of the caller's. See index.d.ts. */
export function watchJobs(ids, options = {}) {
  return new Watch(new ListTopic(ids, options), options);
}

class Watch {
  #topic;
  #options;
  #http;
  #config;
  #base;
  #over = new AbortController();
  /** Ends with the watch, or while the page is kept for the way back. */
  #here = null;
  #share = null;
  #follower = null;
  #looking = false;
  #again = false;
  #status = "";

  constructor(topic, options) {
    this.#topic = topic;
    this.#options = options;
    this.#base = new URL(options.base ?? new URL(".", globalThis.document?.baseURI));
    this.#http = new Http(this.#base, options.getToken);
    this.#config = configOf(this.#http);
    const { signal } = options;
    if (signal?.aborted) return this.#over.abort();
    signal?.addEventListener("abort", () => this.close(), { signal: this.#over.signal });
    watchLife(
      {
        wake: (certain) => (this.#follower ? this.#follower.wake(certain) : this.#share?.wake()),
        hide: () => this.#here?.abort(),
        show: () => void this.#begin(),
      },
      this.#over.signal,
    );
    this.#say("connecting");
    void this.#begin();
  }

  /** The whole state of the job that is watched; null before the first. */
  get state() {
    return this.#topic.state;
  }

  get status() {
    return this.#status;
  }

  close() {
    this.#over.abort();
    this.#here?.abort();
  }

  async #begin() {
    if (this.#over.signal.aborted) return;
    this.#here?.abort();
    this.#here = new AbortController();
    const here = this.#here.signal;
    try {
      await this.#config.load();
      if (!(await this.#catchUp(here))) return;
      const name = this.#options.share === false ? null : await identityOf(await this.#http.token());
      if (here.aborted) return;
      const part = {
        lead: (signal) => this.#lead(signal),
        take: (item) => this.#takeTold(item, here),
        status: (status, detail) => this.#say(status, detail),
      };
      if (name === null) return void this.#lead(here);
      this.#share = new Share(`${this.#base} ${this.#topic.key} ${name}`, this.#config, part, here);
      this.#share.begin();
    } catch (error) {
      if (!here.aborted) this.#finish(error instanceof Final ? error.status : "missing");
    }
  }

  /** To the present by plain answers, for as long as it takes. False where that was the end. */
  async #catchUp(signal) {
    const backoff = new Backoff();
    for (;;) {
      try {
        const { items, more, over } = await this.#topic.ask(this.#http, 0, signal);
        backoff.reset();
        for (const item of items) if (this.#apply(item)) return false;
        if (over) this.#finish("ended");
        if (over || !more) return !over;
      } catch (error) {
        if (signal.aborted || error instanceof Final) throw error;
        this.#say(globalThis.navigator?.onLine === false ? "offline" : "reconnecting");
        await pause(backoff.next(error.told ?? 0), signal);
        if (signal.aborted) throw error;
      }
    }
  }

  /** Whether it is over now. */
  async #lead(signal) {
    const { random } = this.#options;
    this.#follower = new Follower({
      topic: this.#topic, http: this.#http, config: this.#config, slots: new Slots(this.#base), signal, random,
      tell: {
        item: (item) => {
          this.#share?.tell(item);
          return this.#apply(item);
        },
        status: (status, detail = {}) => {
          this.#share?.status(status, detail);
          this.#say(status, detail);
        },
        beat: () => this.#share?.beat(),
      },
    });
    const final = await this.#follower.run();
    this.#follower = null;
    if (final !== null) this.#finish(final);
    return final !== null;
  }

  /** What the leading tab told: the next one is taken; where anything is missing between, it is looked up. */
  #takeTold(item, here) {
    if (this.#looking) this.#again = true;
    else if (this.#topic.fits(item)) this.#apply(item);
    else if (this.#topic.isNews(item)) void this.#lookUp(here);
  }

  async #lookUp(here) {
    this.#looking = true;
    try {
      do {
        this.#again = false;
        if (!(await this.#catchUp(here))) return;
      } while (this.#again);
    } catch (error) {
      if (!here.aborted && error instanceof Final) this.#finish(error.status);
    } finally {
      this.#looking = false;
    }
  }

  #apply(item) {
    if (this.#over.signal.aborted) return true;
    const over = this.#topic.apply(item);
    if (over) this.#finish("ended");
    return over;
  }

  #say(status, detail = {}) {
    if (status === this.#status || this.#over.signal.aborted) return;
    this.#status = status;
    this.#options.onStatus?.(status, detail);
  }

  #finish(status) {
    this.#say(status);
    this.close();
  }
}
