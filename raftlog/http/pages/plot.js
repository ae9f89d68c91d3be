// A line over time, and what it is made of: values that this page has seen since it was opened.

import { h, svg } from "./elements.js";
import { clock, count } from "./format.js";

const SAMPLES_MAX = 720;
const WIDTH = 600;
const HEIGHT = 160;
const series = new Map();

/** Remembers `value` as of now. */
export function remember(key, value) {
  const samples = series.get(key) ?? [];
  samples.push({ at: Date.now(), value });
  if (samples.length > SAMPLES_MAX) samples.shift();
  series.set(key, samples);
  return samples;
}

/** Per second, between the last two values of what only grows; null before there are two. */
export function growth(key, value) {
  const samples = remember(key, value);
  if (samples.length < 2) return null;
  const [before, now] = samples.slice(-2);
  return now.at > before.at ? Math.max(0, ((now.value - before.value) * 1000) / (now.at - before.at)) : null;
}

export function plot(title, key, show = count) {
  const samples = series.get(key) ?? [];
  if (samples.length < 2) return h("p", { class: "empty" }, `${title}: drawn as soon as there are two values.`);
  const begin = samples[0].at;
  const span = Math.max(1, samples.at(-1).at - begin);
  const most = Math.max(...samples.map(({ value }) => value));
  const x = (at) => ((at - begin) / span) * WIDTH;
  const y = (value) => HEIGHT - (value / (most || 1)) * HEIGHT;
  const points = samples.map(({ at, value }) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const words =
    `${title}, from ${clock(begin)} to ${clock(samples.at(-1).at)}: ` +
    `${show(samples[0].value)} at first, ${show(most)} at most, ${show(samples.at(-1).value)} now.`;
  return h(
    "figure",
    null,
    svg(
      "svg",
      { class: "plot", viewBox: `-8 -14 ${WIDTH + 16} ${HEIGHT + 24}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: 0, y2: 0 }),
      svg("polygon", { class: "area", points: `0,${HEIGHT} ${points} ${WIDTH},${HEIGHT}` }),
      svg("polyline", { class: "line", points }),
    ),
    h("figcaption", { class: "faint" }, words),
  );
}

/** A part of a whole as a bar; the number stands beside it. */
export function meter(part, whole) {
  const width = whole > 0 ? (100 * part) / whole : 0;
  return svg(
    "svg",
    { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "whole", width: 100, height: 8 }),
    svg("rect", { width: width.toFixed(1), height: 8 }),
  );
}
