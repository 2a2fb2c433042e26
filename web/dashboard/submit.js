// The form that starts a job, built from what the workers announced (GET /actors).

import { columnsOf } from "./columns.js";
import { previewOf } from "./preview.js";
import { $, get, make, post, put } from "./page.js";
import { size } from "../client/words.js";

/** Better words for what comes with this project; any other actor gets its schema's own. */
const KNOWN = {
  personalize: {
    title: "Personalize a CSV",
    lead: "Upload a CSV and write one line. Every row gets its own, in a new column of the same file.",
    fields: {
      file: { title: "CSV file", description: "With a first row of column names. Any encoding, commas, semicolons or tabs." },
      template: {
        title: "Line",
        description: "{{column}} is replaced by the row's value, {{column|instead}} gives what stands in for an empty one.",
        placeholder: "Hi {{first_name}}, I saw that {{company|your firm}} is growing.",
      },
    },
  },
};

export class SubmitView {
  #actors = [];
  #key = null;
  #onJob;
  #onProblem;

  constructor(onJob, onProblem) {
    this.#onJob = onJob;
    this.#onProblem = onProblem;
    $("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // Another content is another job; the same one sent again after a lost answer is not.
    $("form").addEventListener("input", () => (this.#key = null));
  }

  async open() {
    try {
      const answer = await get("actors");
      this.#actors = Array.isArray(answer) ? answer : answer.actors;
    } catch (problem) {
      return this.#onProblem(problem);
    }
    if (this.#actors.length === 0) {
      $("form").hidden = true;
      put($("submit-lead"), "No worker is running that takes jobs from here. Start one, and this page notices.");
      return;
    }
    if (!$("form").hidden) return;
    this.#build(this.#actors.find(({ name }) => name === "personalize") ?? this.#actors[0]);
  }

  /** True where it pays to ask again. */
  get waiting() {
    return $("form").hidden;
  }

  #build(actor) {
    const known = KNOWN[actor.name];
    put($("submit-title"), this.#actors.length > 1 ? "New job" : titleOf(actor));
    put($("submit-lead"), known?.lead ?? actor.description ?? "");
    const fields = Object.entries(actor.schema?.properties ?? {}).map(([name, schema]) =>
      field(name, { ...schema, ...known?.fields[name] }, (actor.schema.required ?? []).includes(name)),
    );
    $("fields").replaceChildren(...(this.#actors.length > 1 ? [this.#choice(actor)] : []), ...fields);
    $("form").dataset.actor = actor.name;
    $("form").hidden = false;
    put($("form-error"), "");
    offerColumns();
  }

  #choice(chosen) {
    const select = make("select");
    for (const actor of this.#actors) {
      select.add(new Option(titleOf(actor), actor.name, false, actor.name === chosen.name));
    }
    select.addEventListener("change", () => this.#build(this.#actors.find(({ name }) => name === select.value)));
    return labelled("actor-choice", "What to run", select);
  }

  async #submit() {
    const form = new FormData();
    form.set("actor", $("form").dataset.actor);
    const title = read(form);
    if (title) form.set("title", title);
    this.#key ??= newKey();
    this.#busy(true);
    try {
      const state = await post("jobs", form, { "Idempotency-Key": this.#key }, (part) =>
        put($("uploading"), part < 1 ? `Uploading ${Math.floor(part * 100)} %` : "Starting…"),
      );
      this.#key = null;
      this.#onJob(state.id);
    } catch (problem) {
      if (problem.status === 401) this.#onProblem(problem);
      else complain(problem);
    } finally {
      this.#busy(false);
    }
  }

  #busy(yes) {
    $("form").querySelector("[type=submit]").disabled = yes;
    put($("uploading"), yes ? "Starting…" : "");
    if (yes) complain(null);
  }
}

const titleOf = (actor) => KNOWN[actor.name]?.title || actor.title || actor.name;

const controls = () => [...$("fields").querySelectorAll("[data-field]")];

/** Fills `form` and gives the job's title: the file's name. Files go last, so that a server can check the rest first. */
function read(form) {
  let title = "";
  for (const control of controls().sort((one, other) => (one.type === "file") - (other.type === "file"))) {
    const name = control.dataset.field;
    if (control.type === "file") {
      if (control.files.length === 0) continue;
      title = control.files[0].name;
      form.set(name, control.files[0]);
    } else if (control.type === "checkbox") form.set(name, String(control.checked));
    else if (control.value !== "" || control.required) form.set(name, control.value);
  }
  // Systems put unusual blanks into file names; a title takes printable characters only.
  return title.replace(/[\p{C}\p{Z}]/gu, " ").trim().slice(0, 200);
}

function complain(problem) {
  put($("form-error"), problem?.message);
  for (const control of controls()) {
    const its = problem !== null && problem.field?.split(".").pop() === control.dataset.field;
    control.setAttribute("aria-invalid", String(its));
    if (its) control.focus();
  }
}

/** randomUUID exists only over https and on localhost. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");

function field(name, given, required) {
  // `int | None` is an anyOf of two.
  const schema = { ...given, ...given.anyOf?.find(({ type }) => type !== "null") };
  const control = controlFor(schema);
  control.dataset.field = name;
  control.required = required && control.type !== "checkbox";
  if (schema.placeholder) control.placeholder = schema.placeholder;
  if (schema.default !== undefined && control.type !== "file") {
    if (control.type === "checkbox") control.checked = Boolean(schema.default);
    else control.value = schema.default ?? "";
  }
  const title = schema.title ?? name.replaceAll("_", " ");
  return labelled(`field-${name}`, required ? title : `${title} (optional)`, control, schema.description);
}

function controlFor(schema) {
  if (schema.format === "binary") return Object.assign(make("input"), { type: "file" });
  if (Array.isArray(schema.enum)) {
    const select = make("select");
    for (const value of schema.enum) select.add(new Option(value, value));
    return select;
  }
  if (schema.type === "boolean") return Object.assign(make("input"), { type: "checkbox" });
  if (schema.type === "integer" || schema.type === "number") {
    const { minimum: min = "", maximum: max = "" } = schema;
    return Object.assign(make("input"), { type: "number", step: schema.type === "integer" ? 1 : "any", min, max });
  }
  return Object.assign(make("textarea"), { rows: 3 });
}

function labelled(id, title, control, help) {
  const box = make("div", "field");
  const label = make("label", "", title);
  control.id = label.htmlFor = id;
  box.append(label, control.type === "file" ? dropZone(control) : control);
  if (help) {
    const line = make("p", "help", help);
    line.id = `${id}-help`;
    control.setAttribute("aria-describedby", line.id);
    box.append(line);
  }
  return box;
}

/** A file input that covers its box: a drop, a click and the keyboard all reach it, and the browser does the rest. */
function dropZone(input) {
  const zone = make("div", "drop");
  const text = make("span", "drop-text");
  const say = () => {
    const [file] = input.files;
    text.replaceChildren(...(file ? [make("strong", "", file.name), ` ${size(file.size)}`] : ["Drop a file here, or choose one"]));
    zone.classList.toggle("filled", Boolean(file));
  };
  input.addEventListener("change", say);
  for (const [type, over] of [["dragenter", true], ["dragleave", false], ["drop", false]]) {
    input.addEventListener(type, () => zone.classList.toggle("over", over));
  }
  say();
  zone.append(text, input);
  return zone;
}

/** Where there is one file and one line to write: the file's columns as buttons that put themselves into the line. */
function offerColumns() {
  const file = $("fields").querySelector("input[type=file]");
  const text = $("fields").querySelector("textarea");
  if (!file || !text || $("form").dataset.actor !== "personalize") return;
  const chips = make("div", "chips");
  chips.hidden = true;
  chips.setAttribute("role", "group");
  chips.setAttribute("aria-label", "Put a column into the line");
  text.after(chips);
  const preview = previewBox();
  chips.after(preview);
  const look = async () => {
    const lines = file.files.length ? await previewOf(file.files[0], text.value) : [];
    preview.hidden = lines.length === 0;
    preview.querySelector("ol").replaceChildren(...lines.map((line) => make("li", "", line)));
  };
  text.addEventListener("input", look);
  file.addEventListener("change", async () => {
    const names = file.files.length ? await columnsOf(file.files[0]) : [];
    chips.hidden = names.length === 0;
    chips.replaceChildren(...names.map((name) => chip(name, text)));
    await look();
  });
}

/** The first lines as they will be, as far as this page can tell. */
function previewBox() {
  const box = make("div", "preview");
  box.hidden = true;
  box.append(make("p", "help", "The first lines, as a preview"), make("ol"));
  return box;
}

function chip(name, text) {
  const button = Object.assign(make("button", "chip", name), { type: "button" });
  button.addEventListener("click", () => {
    text.setRangeText(`{{${name}}}`, text.selectionStart, text.selectionEnd, "end");
    text.dispatchEvent(new Event("input", { bubbles: true }));
    text.focus();
  });
  return button;
}
