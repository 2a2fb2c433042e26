// The names in a CSV's first line, as a help while a template is written. Only a help: the worker reads the file with
// more care, so a wrong guess here costs nothing.

const LOOKED_AT_BYTES = 65_536;
const DELIMITERS = [",", ";", "\t", "|"];

/** @returns {Promise<string[]>} empty where there is nothing to go by */
export async function columnsOf(file) {
  return (await readHead(file, 0)).names;
}

/** The names in the first line, and the cells of so many rows after it. */
export async function readHead(file, count) {
  const bytes = new Uint8Array(await file.slice(0, LOOKED_AT_BYTES).arrayBuffer());
  const text = decode(bytes);
  const first = text.split(/\r\n|\r|\n/, 1)[0];
  const times = (delimiter) => first.split(delimiter).length;
  const delimiter = DELIMITERS.reduce((best, next) => (times(next) > times(best) ? next : best));
  const [header = [], ...rows] = records(text, delimiter, count + 1);
  const names = header.map((name) => name.trim());
  const usable = (name) => name && name.length <= 60 && !/[{}|]/.test(name);
  return { names: names.filter(usable).slice(0, 40), rows: rows.map((cells) => cells.filter((_, at) => usable(names[at]))) };
}

/** RFC 4180: a quoted cell may hold delimiters, line breaks and doubled quotes. */
function records(text, delimiter, most) {
  const found = [];
  let cells = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length && found.length < most; at += 1) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') cell += text[(at += 1)];
      else quoted = false;
    } else if (sign === '"' && cell.trim() === "") [quoted, cell] = [true, ""];
    else if (sign === delimiter) cells.push(cell), (cell = "");
    else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && text[at + 1] === "\n") at += 1;
      found.push([...cells, cell]);
      [cells, cell] = [[], ""];
    } else cell += sign;
  }
  if (found.length < most && (cells.length || cell)) found.push([...cells, cell]);
  return found;
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
