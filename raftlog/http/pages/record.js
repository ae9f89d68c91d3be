// One record in a dialog: key, value and headers, each as text, JSON or hexadecimal, whole where that is asked for.

import { getBytes, name } from "./api.js";
import { h } from "./elements.js";
import { count, fromBase64, hex, json, size, time, utf8, visible } from "./format.js";

const AT_ONCE = 64 * 1024; // what a browser lays out without delay
const FORMS = ["text", "JSON", "hex"];

export function openRecord(topic, record) {
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h(
    "dialog",
    { "aria-labelledby": "record-title" },
    h("h2", { id: "record-title" }, `${topic}-${record.partition}, offset ${count(record.offset)}`),
    h("p", { class: "faint" }, time(record.timestamp_ms)),
    part("Key", record.key, `${address(topic, record)}/key`),
    part("Value", record.value, `${address(topic, record)}/value`),
    h("h3", null, record.header_count ? `Headers (${record.header_count})` : "No headers"),
    record.headers.map((header) => part(visible(header.name), header.value, null)),
    record.header_count > record.headers.length ? h("p", null, `Only the first ${record.headers.length} are shown.`) : null,
    h("div", { class: "ends" }, close),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const address = (topic, record) => `/api/records/${name(topic)}/${record.partition}/${record.offset}`;

/** `path`: where the whole can be had; null: nowhere. */
function part(title, shown, path) {
  const heading = h("h3", null, title);
  if (shown === null) return [heading, h("p", { class: "faint" }, "null")];
  let bytes = fromBase64(shown.base64);
  const note = h("p", { class: "faint", role: "status" });
  const content = h("pre", { tabindex: "0", "aria-label": title });
  const whole = () => bytes.length === shown.size_bytes;
  const first = utf8(bytes, !whole());
  let form = first === null ? "hex" : whole() && /^\s*[[{]/.test(first) && json(first) !== null ? "JSON" : "text";
  let all = false;

  function draw() {
    const part = all ? bytes : bytes.subarray(0, AT_ONCE);
    const cut = part.length < shown.size_bytes;
    const text = form === "hex" ? null : utf8(part, cut);
    const made = form === "JSON" && text !== null ? json(text) : null;
    content.textContent = form === "hex" ? hex(part) : text === null ? "" : visible(made ?? text);
    content.classList.toggle("hex", form === "hex");
    const notes = [size(shown.size_bytes)];
    if (cut) notes.push(`the first ${size(part.length)} are shown`);
    if (form !== "hex" && text === null) notes.push("no UTF-8: look at it as hex");
    else if (form === "JSON" && made === null) notes.push(cut ? "JSON is indented once the whole is shown" : "no JSON");
    note.textContent = `${notes.join(", ")}.`;
    more.hidden = !cut || (whole() === false && path === null);
  }

  async function fetchWhole() {
    if (!whole() && path !== null) bytes = (await getBytes(path)) ?? new Uint8Array();
  }

  const failing = (act) => () => act().catch((error) => { note.textContent = error.message; });
  const more = h("button", { type: "button", onclick: failing(async () => {
    await fetchWhole();
    all = true;
    draw();
  }) }, "Show all");
  const copy = h("button", { type: "button", onclick: failing(async () => {
    await fetchWhole();
    await copyText(form === "hex" ? hex(bytes) : (utf8(bytes) ?? hex(bytes)));
    note.textContent = "Copied.";
  }) }, "Copy");
  const choices = FORMS.map((choice) => {
    const radio = h("input", { type: "radio", name: `form ${title} ${path}`, value: choice, onchange: () => { form = choice; draw(); } });
    radio.checked = choice === form;
    return h("label", null, radio, choice);
  });
  const save = path === null ? null : h("a", { href: path, download: "" }, "Save");
  draw();
  return [
    heading,
    h("div", { class: "bar" }, h("fieldset", null, h("legend", null, `${title} as`), choices), copy, more, save),
    note,
    content,
  ];
}

async function copyText(text) {
  // Browsers have no clipboard where the page came over plain HTTP from another machine.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  throw new Error("This browser copies only on pages of localhost or of HTTPS: use Save.");
}
