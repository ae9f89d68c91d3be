// Records of a topic: from a place on, by time, by key, those that hold a text, or as they come.

import { get, name } from "./api.js";
import { empty, field, h, link, table } from "./elements.js";
import { count, fromBase64, ids, plural, size, time, utf8, visible } from "./format.js";
import { openRecord } from "./record.js";

const TAIL_MS = 1_000;
const TAIL_RECORDS_MAX = 500;
const PLACES = [
  ["newest", "The newest"],
  ["beginning", "The oldest"],
  ["offset", "An offset"],
  ["time", "A time"],
];

export const records = {
  title: ([topic]) => `Records of ${topic}`,
  open,
};

function open(main, [topic], query, say) {
  const form = makeForm(query);
  const status = h("p", { role: "status", id: "found" });
  const list = h("div", { id: "records" });
  const more = h("div", { class: "bar" });
  let shown = [];
  let next = null;
  let newestFirst = false;
  let timer = null;
  let asked = 0;

  main.replaceChildren(h("h1", null, records.title([topic])), h("p", null, link(`topics/${name(topic)}`, `Topic ${topic}`)), form.element, status, list, more);

  function draw() {
    const rows = newestFirst ? [...shown].reverse() : shown;
    list.replaceChildren(rows.length ? recordTable(topic, rows, newestFirst) : empty("No records to show."));
    more.replaceChildren(
      ...(next && timer === null ? [h("button", { type: "button", onclick: () => ask({ at: at(next) }, true) }, form.filters() ? "Search on" : "Read on")] : []),
    );
    main.dataset.state = "shown";
  }

  async function ask(begin, goesOn) {
    const mine = (asked += 1);
    main.dataset.state = "asking";
    try {
      const parameters = new URLSearchParams({ ...form.wanted(), ...begin });
      const found = await get(`/api/records/${name(topic)}?${parameters}`);
      if (mine !== asked) return;
      shown = goesOn ? [...shown, ...found.records] : found.records;
      next = found.complete && timer === null ? null : found.next;
      status.textContent = words(found, form.filters());
      say(null);
      form.setPartitions(found);
    } catch (error) {
      if (mine !== asked) return;
      if (!goesOn) shown = [];
      say(error);
    }
    draw();
  }

  async function tail() {
    const mine = asked;
    try {
      const parameters = new URLSearchParams({ ...form.wanted(), limit: TAIL_RECORDS_MAX, ...(next ? { at: at(next) } : { limit: 1 }) });
      const found = await get(`/api/records/${name(topic)}?${parameters}`);
      if (mine !== asked || timer === null) return;
      const since = next === null ? [] : found.records;
      next = next === null ? found.end : { ...next, ...found.next };
      say(null);
      if (since.length) {
        shown = [...shown, ...since].slice(-TAIL_RECORDS_MAX);
        draw();
      }
      status.textContent = `Waiting for records; ${plural(shown.length, "record")} so far.`;
      main.dataset.state = "shown";
    } catch (error) {
      if (mine === asked) say(error);
    }
    if (timer !== null && mine === asked) timer = setTimeout(tail, TAIL_MS);
  }

  function setTail(on) {
    clearTimeout(timer);
    timer = null;
    asked += 1;
    form.tail.setAttribute("aria-pressed", String(on));
    if (on) {
      [shown, next, newestFirst, timer] = [[], null, true, 0];
      draw();
      tail();
    }
  }

  form.element.onsubmit = (event) => {
    event.preventDefault();
    setTail(false);
    newestFirst = form.place() === "newest" && !form.filters();
    history.replaceState(null, "", `#/topics/${name(topic)}/records?${form.query()}`);
    ask(form.begin(), false);
  };
  form.tail.onclick = () => setTail(timer === null);
  form.element.requestSubmit();
  return () => {
    clearTimeout(timer);
    timer = null;
    asked += 1;
    document.querySelector("dialog")?.close();
  };
}

const at = (next) => Object.entries(next).map(([partition, offset]) => `${partition}:${offset}`).join(",");

function words(found, filters) {
  const held = Object.keys(found.end).reduce((sum, partition) => sum + Math.max(0, found.end[partition] - found.start[partition]), 0);
  const texts = [`${plural(found.records.length, "record")}${filters ? ` found among ${count(found.looked_at)}` : ""} of ${count(held)}.`];
  if (filters && !found.complete) texts.push("There is more to search.");
  if (found.without_leader.length) texts.push(`Partition ${ids(found.without_leader)} has no leader and is left out.`);
  return texts.join(" ");
}

function makeForm(query) {
  const input = (key, attributes) => {
    const made = h("input", { autocomplete: "off", ...attributes });
    made.value = query.get(key) ?? attributes.value ?? "";
    return made;
  };
  const partition = h("select", null, h("option", { value: "" }, "All"));
  const place = h("select", null, PLACES.map(([value, text]) => h("option", { value }, text)));
  const offset = input("offset", { type: "number", min: 0, value: "0" });
  const since = input("since", { type: "datetime-local", step: 1 });
  const key = input("key", { type: "text" });
  const search = input("search", { type: "search" });
  const limit = input("limit", { type: "number", min: 1, max: 500, value: "50" });
  const tail = h("button", { type: "button", "aria-pressed": "false", id: "tail" }, "Tail");
  if (query.get("partition")) partition.append(h("option", { value: query.get("partition") }, query.get("partition")));
  partition.value = query.get("partition") ?? "";
  place.value = query.get("from") ?? "newest";
  const offsetField = field("offset", "Offset", offset);
  const sinceField = field("since", "At or after (this browser's time)", since);
  place.onchange = () => {
    offsetField.hidden = place.value !== "offset";
    sinceField.hidden = place.value !== "time";
  };
  place.onchange();
  const element = h(
    "form",
    { class: "bar", "aria-label": "Which records" },
    field("partition", "Partition", partition),
    field("from", "Begin with", place),
    offsetField,
    sinceField,
    field("key", "Only with this key", key),
    field("search", "Only with this text in key, value or header", search),
    field("limit", "At most", limit),
    h("button", { class: "main" }, "Read"),
    tail,
  );
  const filters = () => Boolean(search.value || key.value);
  return {
    element,
    tail,
    filters,
    place: () => place.value,
    wanted: () => ({
      limit: limit.value || "50",
      ...(partition.value === "" ? {} : { partition: partition.value }),
      ...(search.value ? { search: search.value } : {}),
      ...(key.value ? { key: key.value } : {}),
    }),
    begin: () => {
      if (place.value === "offset") return { offset: offset.value || "0" };
      if (place.value === "time") return { time_ms: String(since.value ? new Date(since.value).getTime() : 0) };
      return place.value === "beginning" ? { offset: "0" } : {};
    },
    query: () => {
      const entries = { partition, from: place, offset, since, key, search, limit };
      return new URLSearchParams(Object.entries(entries).map(([id, control]) => [id, control.value]).filter(([, value]) => value !== ""));
    },
    setPartitions: (found) => {
      // Of one partition only that one is known.
      const known = [...Object.keys(found.end).map(Number), ...found.without_leader].sort((a, b) => a - b);
      const there = new Set([...partition.options].map((option) => option.value));
      partition.append(...known.filter((number) => !there.has(String(number))).map((number) => h("option", { value: number }, String(number))));
    },
  };
}

function recordTable(topic, rows, newestFirst) {
  return table(
    `${plural(rows.length, "record")}, ${newestFirst ? "newest" : "oldest"} first`,
    [
      ["Offset", (record) => h("button", { type: "button", class: "link", "aria-label": `Show record ${record.offset} of partition ${record.partition}`, onclick: () => openRecord(topic, record) }, count(record.offset))],
      ["Partition", (record) => String(record.partition), "num"],
      ["Time", (record) => h("span", { class: "time" }, time(record.timestamp_ms))],
      ["Key", (record) => preview(record.key)],
      ["Value", (record) => preview(record.value)],
      ["Value's size", (record) => (record.value ? size(record.value.size_bytes) : "–"), "num"],
      ["Headers", (record) => count(record.header_count), "num"],
    ],
    rows,
  );
}

const PREVIEW_CHARACTERS = 200;

function preview(shown) {
  if (shown === null) return h("span", { class: "faint" }, "null");
  if (shown.size_bytes === 0) return h("span", { class: "faint" }, "empty");
  const bytes = fromBase64(shown.base64);
  const text = utf8(bytes, bytes.length < shown.size_bytes);
  if (text !== null) return h("bdi", { class: "preview" }, visible(text.slice(0, PREVIEW_CHARACTERS)).replace(/\s+/g, " "));
  const beginning = [...bytes.subarray(0, 32)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return h("span", { class: "preview", title: "bytes that are no UTF-8" }, beginning);
}
