// SPDX-License-Identifier: Apache-2.0
// Numbers and moments as people read them, and the clock that keeps "ago" true.

import { el, setAttribute, setText } from "./dom.js";

let skewMs = 0; // of the server's clock, where the two differ by more than answers take

export function noteServerTime(dateHeader) {
  const server = Date.parse(dateHeader ?? "");
  if (Number.isNaN(server)) return;
  const difference = server - Date.now();
  skewMs = Math.abs(difference) > 3000 ? difference : 0;
}

/** Seconds since the epoch by the server's clock. */
export function now() {
  return (Date.now() + skewMs) / 1000;
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** With a capital at its beginning. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function percent(part) {
  return `${Math.floor(Math.min(Math.max(part, 0), 1) * 100)} %`; // down: 100 % is said of what is done alone
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return plural(Math.floor(whole / 86400), "day");
}

const hourCycle = "h23"; // as logs have it
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle });
const dayAndClock = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle });

/** The time of day, with the day where that is another. */
export function timeOfDay(at) {
  const moment = new Date(at * 1000);
  const isToday = moment.toDateString() === new Date().toDateString();
  return (isToday ? clock : dayAndClock).format(moment);
}

/** The day and the time of day; "–" for 0, which is no moment. */
export function moment(at) {
  return at ? exact.format(new Date(at * 1000)) : "–";
}

/** In steps that do not fidget: by five seconds below a minute, then by minutes; the clock after six hours. */
export function ago(at) {
  const passed = now() - at;
  if (passed < 5) return "just now";
  if (passed < 60) return `${Math.floor(passed / 5) * 5} s ago`;
  return passed < 6 * 3600 ? `${duration(passed)} ago` : timeOfDay(at);
}

/** A <time> that goes on by itself. `at` 0 is never. */
export function timeAgo(at, never = "") {
  const node = el("time", { class: "ago" });
  setTimeAgo(node, at, never);
  return node;
}

export function setTimeAgo(node, at, never = "") {
  node.dataset.at = at || "";
  setAttribute(node, "datetime", at ? new Date(at * 1000).toISOString() : null);
  setAttribute(node, "title", at ? exact.format(new Date(at * 1000)) : null);
  setText(node, at ? ago(at) : never);
}

export function keepClocks() {
  for (const node of document.querySelectorAll("time.ago[datetime]")) setText(node, ago(Number(node.dataset.at)));
}

/** What machines and people have typed, cut to what fits a line; control characters and direction marks become visible. */
export function plain(text, limit = 300) {
  const shown = String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
  return shown.length > limit ? `${shown.slice(0, limit - 1)}…` : shown;
}
