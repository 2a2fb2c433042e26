// Follows a stream with one of npm's clients, reconnecting as its README says, and tells each event as a line of JSON.
// node follow.mjs CLIENT URL TYPE…; where a client can send headers, TOKEN in the environment is the bearer token.

const [name, url, ...types] = process.argv.slice(2);
const headers = process.env.TOKEN ? { Authorization: `Bearer ${process.env.TOKEN}` } : {};
const ENDS = ["succeeded", "failed", "cancelled"];

const tell = (id, event, data) => process.stdout.write(`${JSON.stringify([id, event, data])}\n`);

/** As EventSource tells them: by name, and what has no name, or an empty one, as `message`. */
function listen(source) {
  for (const type of types) source.addEventListener(type, (event) => tell(event.lastEventId, event.type, event.data));
  source.onmessage = (event) => tell(event.lastEventId, "message", event.data);
}

class NothingMore extends Error {}

const clients = {
  // 204 ends it, as it ends a browser's.
  async "eventsource"() {
    const { EventSource } = await import("eventsource");
    listen(new EventSource(url));
  },

  // Asks again after 204 too: its user closes it.
  async "reconnecting-eventsource"() {
    const { EventSource } = await import("eventsource");
    const { default: ReconnectingEventSource } = await import("reconnecting-eventsource");
    const source = new ReconnectingEventSource(url, { eventSourceClass: EventSource });
    listen(source);
    for (const end of ENDS) source.addEventListener(end, () => source.close());
  },

  async "eventsource-client"() {
    const { createEventSource } = await import("eventsource-client");
    for await (const { id, event, data } of createEventSource({ url, headers })) tell(id ?? "", event ?? "message", data);
  },

  // Made for browsers. It takes a clean end for the end, and asks again after 204, unless its callbacks throw.
  async "@microsoft/fetch-event-source"() {
    globalThis.window = globalThis;
    globalThis.document = { addEventListener() {}, removeEventListener() {}, hidden: false };
    const { default: { fetchEventSource } } = await import("@microsoft/fetch-event-source");
    await fetchEventSource(url, {
      headers,
      openWhenHidden: true,
      async onopen(response) {
        if (response.status === 204) throw new NothingMore();
        if (!response.ok) throw new Error(`HTTP ${response.status}`);
      },
      onmessage({ id, event, data }) {
        tell(id, event || "message", data);
      },
      onclose() {
        throw new Error("the end of a stream, not of the job");
      },
      onerror(error) {
        if (error instanceof NothingMore) throw error;
      },
    }).catch((error) => {
      if (!(error instanceof NothingMore)) throw error;
    });
  },
};

await clients[name]();
