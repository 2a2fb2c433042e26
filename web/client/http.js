// Requests to the server: who asks, what is final and what may pass. Sends one at a time and keeps nothing but the token.

/** An answer after which asking again is of no use: `unauthorised`, `forbidden` or `missing`. */
export class Final extends Error {
  constructor(status) {
    super(status);
    this.status = status;
  }
}

/** An answer that may be another one later. */
export class Later extends Error {
  /** @param {number} told milliseconds that the server asked to wait; 0: it said nothing */
  constructor(why, told = 0, { off, limit } = {}) {
    super(why);
    this.told = told;
    /** Streaming is switched off. */
    this.off = off;
    /** One stream too many. */
    this.limit = limit;
  }
}

/** For an answer for which nobody waits. */
const ANSWER_MS = 15_000;
const FINAL = { 403: "forbidden", 404: "missing" };

/** Raises Later for an answer of another kind: no server of ours gives it. */
export async function mustBe(type, { headers, body }) {
  if (headers.get("Content-Type")?.startsWith(type)) return;
  await body?.cancel();
  throw new Later("not the server's answer");
}

export class Http {
  #base;
  #getToken;
  #token = null;

  constructor(base, getToken) {
    this.#base = base;
    this.#getToken = getToken;
  }

  url(path, query = {}) {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(query)) if (value !== null) url.searchParams.set(name, value);
    return url;
  }

  /** The token to ask with, for whoever must know who asks; null: a cookie says it. */
  async token() {
    if (this.#getToken && this.#token === null) this.#token = await this.#getToken({ renew: false });
    return this.#token;
  }

  /** It has run out. Raises Final where there is no way to another one. */
  async renew() {
    this.#token = (await this.#getToken?.({ renew: true })) ?? null;
    if (this.#token === null) throw new Final("unauthorised");
  }

  /** An answer of 200, 204 or 304. Raises Final, Later; a network's failure as it is. A 401 is tried again with a new token. */
  async get(url, headers, signal) {
    let answer = await this.#send(url, headers, signal);
    if (answer.status === 401) {
      await this.renew();
      answer = await this.#send(url, headers, signal);
    }
    if (answer.ok || answer.status === 304) return answer;
    await answer.body?.cancel().catch(() => {});
    if (answer.status === 401) throw new Final("unauthorised");
    if (answer.status in FINAL) throw new Final(FINAL[answer.status]);
    const told = 1_000 * Number(answer.headers.get("Retry-After") ?? 0);
    const off = /rel="?alternate/.test(answer.headers.get("Link") ?? "");
    throw new Later(`HTTP ${answer.status}`, told > 0 ? told : 0, { off, limit: answer.status === 429 });
  }

  /** A JSON answer, within so many milliseconds; `body` is null for 204 and 304. Raises as `get` does. */
  async json(url, signal, headers = {}, ms = ANSWER_MS) {
    const within = AbortSignal.any([signal, AbortSignal.timeout(ms)]);
    const answer = await this.get(url, { Accept: "application/json", ...headers }, within);
    const { status, headers: its } = answer;
    if (status === 200) await mustBe("application/json", answer);
    return { status, body: status === 200 ? await answer.json() : null, tag: its.get("ETag") };
  }

  /** The request that opens a stream after `position`. `viaUrl`: something on the way takes the header, so the address says it. */
  streamRequest(path, query, position, viaUrl) {
    return {
      url: this.url(path, { ...query, last_event_id: viaUrl ? position : null }),
      headers: position === null || viaUrl ? {} : { "Last-Event-ID": position },
    };
  }

  async #send(url, headers, signal) {
    const token = await this.token();
    const authorization = token === null ? {} : { Authorization: `Bearer ${token}` };
    const credentials = token === null ? "include" : "omit";
    return fetch(url, { headers: { ...headers, ...authorization }, credentials, cache: "no-store", signal });
  }
}
