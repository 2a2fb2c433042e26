// The names in a CSV's first line, as a help while a template is written. Only a help: the worker reads the file with
// more care, so a wrong guess here costs nothing.

const LOOKED_AT_BYTES = 65_536;
const DELIMITERS = [",", ";", "\t", "|"];

/** @returns {Promise<string[]>} empty where there is nothing to go by */
export async function columnsOf(file) {
  const bytes = new Uint8Array(await file.slice(0, LOOKED_AT_BYTES).arrayBuffer());
  const line = decode(bytes).split(/\r\n|\r|\n/, 1)[0];
  const count = (delimiter) => line.split(delimiter).length;
  const delimiter = DELIMITERS.reduce((best, next) => (count(next) > count(best) ? next : best));
  return line
    .split(delimiter)
    .map((name) => name.trim().replace(/^"(.*)"$/, "$1").replaceAll('""', '"').trim())
    .filter((name) => name && name.length <= 60 && !/[{}|]/.test(name))
    .slice(0, 40);
}

function decode(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    // `stream`: the cut at the end may lie within a character.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}
