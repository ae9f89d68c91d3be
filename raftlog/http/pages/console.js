// The pages: which one is shown follows from what stands behind the # of the address. A page is
//
//   title(names)                  its heading
//   load(names, signal)           what it shows, asked anew every few seconds while it is live
//   render(found, view, again)    elements of it; `view` is kept between, `again` shows the same anew, `view.reload` asks
//   open(element, names, query)   instead of load and render: a page that asks by itself; returns what ends it

import { access } from "./access.js";
import { get, node } from "./api.js";
import { h, morph } from "./elements.js";
import { clock } from "./format.js";
import { group, groups } from "./groups.js";
import { overview } from "./overview.js";
import { records } from "./records.js";
import { topic, topics } from "./topics.js";

const EVERY_MS = 4_000;
const FIRST_MS = 1_000; // a rate is the difference of two answers
const PAGES = [
  [/^$/, overview],
  [/^topics$/, topics],
  [/^topics\/([^/]+)$/, topic],
  [/^topics\/([^/]+)\/records$/, records],
  [/^groups$/, groups],
  [/^groups\/([^/]+)$/, group],
  [/^access$/, access],
];
const main = document.getElementById("main");
const alert = document.getElementById("alert");
const updated = document.getElementById("updated");
const liveButton = document.getElementById("live");

let ending = () => {};
let refresh = () => {};
let live = true;

function read(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  for (const [pattern, page] of PAGES) {
    const match = pattern.exec(path);
    if (match) return { path, page, names: match.slice(1).map(decodeURIComponent), query: new URLSearchParams(query) };
  }
  return { path: "", page: overview, names: [], query: new URLSearchParams() };
}

function say(error, old = false) {
  const text = !error ? "" : old ? `${error.message.replace(/\.$/, "")}. What is shown may be old.` : error.message;
  if (alert.textContent !== text) alert.replaceChildren(...(text ? [h("p", { class: "alert" }, text)] : []));
}

function show(page, names, content) {
  const heading = h("h1", null, page.title(names));
  morph(main, h("main", { id: "main", tabindex: "-1", "data-state": "shown" }, heading, content));
}

/** Shows a page until another one is chosen. Returns what ends it. */
function watch(page, names) {
  const ended = new AbortController();
  const view = {};
  let timer;
  let found;
  let asking = false;
  const again = () => show(page, names, page.render(found, view, again));
  async function turn() {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    const first = found === undefined;
    if (first || (live && !document.hidden)) {
      try {
        found = await page.load(names, ended.signal);
        if (ended.signal.aborted) return;
        again();
        updated.textContent = `Updated ${clock(Date.now())}`;
        say(null);
      } catch (error) {
        if (ended.signal.aborted) return;
        if (first) main.replaceChildren(h("h1", null, page.title(names)));
        main.dataset.state = "shown";
        say(error, !first);
      }
    }
    asking = false;
    timer = setTimeout(turn, first ? FIRST_MS : EVERY_MS);
  }
  const onVisible = () => !document.hidden && turn();
  document.addEventListener("visibilitychange", onVisible);
  refresh = turn;
  view.reload = turn;
  turn();
  return () => {
    ended.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisible);
  };
}

function go(byUser) {
  ending();
  say(null);
  const { path, page, names, query } = read(location.hash);
  updated.textContent = "";
  document.title = `${page.title(names)} – raftlog`;
  for (const anchor of document.querySelectorAll("#nav a")) {
    const own = anchor.getAttribute("href").slice(2);
    const current = own === "" ? path === "" : path === own || path.startsWith(`${own}/`);
    if (current) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  main.replaceChildren(h("h1", null, page.title(names)), h("p", { class: "faint" }, "Asking the nodes…"));
  main.dataset.state = "asking";
  if (byUser) main.focus();
  liveButton.hidden = Boolean(page.open);
  refresh = () => {};
  ending = page.open ? page.open(main, names, query, say) : watch(page, names);
}

document.getElementById("skip").onclick = (event) => {
  event.preventDefault();
  main.focus();
};
liveButton.onclick = () => {
  live = !live;
  liveButton.setAttribute("aria-pressed", String(live));
  liveButton.textContent = live ? "Live" : "Paused";
  if (live) refresh();
};
addEventListener("hashchange", () => go(true));

const about = await get("/api/console").catch(() => null);
if (about) {
  Object.assign(node, about);
  const only = about.read_only ? " It shows, and changes nothing." : "";
  const to = about.principal ? ` to ${about.principal}` : "";
  document.getElementById("footer").textContent = `Shown${to} by node ${about.node}, raftlog ${about.version}.${only}`;
}
go(false);
