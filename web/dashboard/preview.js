// The first personal lines of a file, while the template is written. Only a help: the worker reads file and template with more care.

import { readHead } from "./columns.js";

const ROWS = 3;

/** @returns {Promise<string[]>} the first lines; empty where there is nothing to go by */
export async function previewOf(file, template) {
  const { names, rows } = await readHead(file, ROWS);
  if (!names.length || !template.includes("{{")) return [];
  return rows.map((cells) => merged(template, names, cells));
}

/** `{{column}}` and `{{column|instead}}`; a column that is not there is left as it stands, a line with a hole is none. */
export function merged(template, names, cells) {
  const known = names.map((name) => name.trim().toLowerCase());
  let missing = null;
  const line = template.replace(/\{\{([^{}|]+)(?:\|([^{}]*))?\}\}/g, (whole, spaced, instead) => {
    const name = spaced.trim();
    const at = known.indexOf(name.toLowerCase());
    if (at < 0) return whole;
    const value = (cells[at] ?? "").trim() || (instead ?? "").trim();
    if (!value) missing ??= name;
    return value;
  });
  return missing === null ? line : `(left empty: no ${missing})`;
}
