// What every view uses: elements by id, which view is shown, and the server asked with its errors made readable.

export const $ = (id) => document.getElementById(id);

/** Beside the page, wherever the application is mounted. */
export const BASE = new URL(".", document.baseURI);

const VIEWS = ["submit", "job", "locked", "stop"];

/** Shows one view and hides the others. The heading takes the focus, so that a screen reader reads on there. */
export function show(view, { focus = true } = {}) {
  const before = VIEWS.find((name) => !$(`view-${name}`).hidden);
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view;
  if (focus && before !== undefined && before !== view) $(`view-${view}`).querySelector("h1").focus();
}

/** Puts text where there is some, and takes the element away where there is none. Text only: no markup gets in. */
export function put(element, text) {
  const value = text ?? "";
  if (element.textContent !== value) element.textContent = value;
  element.hidden = value === "";
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Says something to those who hear the page instead of seeing it. */
export const announce = (text) => ($("announcer").textContent = text);

export class Problem extends Error {
  constructor(status, body) {
    super(sentenceOf(status, body));
    this.status = status;
    this.field = typeof body?.field === "string" ? body.field : null;
  }
}

function sentenceOf(status, body) {
  const text = body?.detail || body?.title;
  if (typeof text === "string" && text) return text;
  if (status === 0) return "The server cannot be reached. Nothing is lost: try again in a moment.";
  if (status === 413) return "This file is larger than the server takes.";
  return `The server answered ${status} and gave no reason.`;
}

/** The JSON that a GET gives. Raises Problem. */
export async function get(path) {
  let answer;
  try {
    answer = await fetch(new URL(path, BASE), { headers: { Accept: "application/json" }, cache: "no-store" });
  } catch {
    throw new Problem(0);
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok || body === null) throw new Problem(answer.status, body);
  return body;
}

/** Sends a request that changes something, and gives the JSON of its answer; null where it has none. Raises Problem. */
export async function send(method, path) {
  let answer;
  try {
    answer = await fetch(new URL(path, BASE), { method, headers: { Accept: "application/json" } });
  } catch {
    throw new Problem(0);
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}

/** Asks before something that cannot be undone. */
export function confirmed(text, yes) {
  const dialog = $("confirm");
  put($("confirm-text"), text);
  put($("confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Posts a form. By XMLHttpRequest, because fetch does not say how far an upload is. Raises Problem. */
export function post(path, form, headers, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", new URL(path, BASE));
    request.responseType = "json";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onload = () =>
      request.status < 300 && request.response
        ? resolve(request.response)
        : reject(new Problem(request.status, request.response));
    request.onerror = () => reject(new Problem(0));
    request.send(form);
  });
}
