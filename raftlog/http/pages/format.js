// Numbers, sizes and times for people, and bytes as text, JSON or hexadecimal.

const number = new Intl.NumberFormat("en");
const rate = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export const count = (value) => (value === null || value === undefined ? "–" : number.format(value));
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
export const perSecond = (value) => (value === null ? "–" : `${value < 100 ? rate.format(value) : number.format(Math.round(value))}/s`);
export const ids = (values) => (values.length ? values.join(", ") : "–");

export function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${UNITS[unit]}`;
}

/** In this browser's time zone, to the millisecond. */
export function time(ms) {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return String(ms);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(ms)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

export function clock(ms) {
  const date = new Date(ms);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Text, or null when the bytes are no UTF-8. `cut`: they are the beginning of more, which may end inside a character. */
export function utf8(bytes, cut = false) {
  for (let less = 0; less <= (cut ? 3 : 0); less += 1) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, bytes.length - less));
    } catch {
      // tried with one byte less
    }
  }
  return null;
}

// What a terminal or a browser would act on instead of showing it: C0, C1, directions, invisible characters.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e007f}]/gu;

/** Each character that could not be seen as its number; line ends and tabs stay. */
export function visible(text) {
  return text.replace(UNSEEN, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

export function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const numbers = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${numbers.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}

/** Indented, or null when it is no JSON. Numbers stay as they are written: a parser would round large ones. */
export function json(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g) ?? [];
  return tokens
    .map((token, at) => {
      const opens = token === "{" || token === "[";
      const closes = token === "}" || token === "]";
      const isEmpty = (opens && "]}".includes(tokens[at + 1])) || (closes && "[{".includes(tokens[at - 1]));
      if (isEmpty) return token;
      if (opens) depth += 1;
      if (closes) depth -= 1;
      if (opens) return token + line();
      if (closes) return line() + token;
      return token === "," ? token + line() : token === ":" ? ": " : token;
    })
    .join("");
}
