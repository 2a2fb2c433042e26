// What npm's eventsource-parser reads from raw bytes: a JSON line of base64 chunks in, a JSON line of what it saw out.

import { createInterface } from "node:readline";

import { createParser } from "eventsource-parser";

function parse(chunks) {
  const seen = { events: [], retries: [], comments: [] };
  const parser = createParser({
    onEvent: ({ id, event, data }) => seen.events.push({ id: id ?? null, event: event ?? "message", data }),
    onRetry: (milliseconds) => seen.retries.push(milliseconds),
    onComment: (text) => seen.comments.push(text),
  });
  // As its users do: the decoder takes a BOM away and keeps a character that a chunk has cut.
  const decoder = new TextDecoder();
  for (const chunk of chunks) parser.feed(decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
  return seen;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(parse(JSON.parse(line))) + "\n");
}
