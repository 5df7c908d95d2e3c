// SPDX-License-Identifier: Apache-2.0
// Status messages as they come, the newest first.

import { get, pathOf } from "./api.js";
import { Rows, announce, el, setAttribute } from "./dom.js";
import { Panel } from "./panel.js";
import { follow } from "./stream.js";
import { plain, timeOfDay } from "./words.js";

const KEPT = 300;
const FIRST = 100;
const RANKS = { info: 0, warning: 1, error: 2 };
const TONES = { info: "idle", warning: "warn", error: "bad" };
const SIGNS = { info: "i", warning: "!", error: "✕" };
const TOGETHER_MS = 100; // they come in bursts, and are drawn at once
const REST_MS = 60_000;
const SPOKEN_MS = 5000; // no more than one error is read out in this time

export class Messages {
  constructor(section, session) {
    this.session = session;
    const choices = [["info", "All"], ["warning", "Warnings and errors"], ["error", "Errors"]];
    this.least = el(
      "select",
      { "aria-label": "Which messages to show", on: { change: () => this.#render() } },
      ...choices.map(([value, label]) => el("option", { value }, label)),
    );
    this.panel = new Panel(section, "Messages", { tools: [this.least] });
    this.list = el("ol");
    this.panel.body.append(el("div", { class: "messages", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Status messages, the newest first" }, this.list));
    this.rows = new Rows(this.list, keyOf, (message) => new Message(message, session.isSite));
    this.messages = [];
    this.position = "";
    this.spokenAt = 0;
    document.addEventListener("visibilitychange", () => this.#rest());
  }

  /** A tab that nobody sees lets go of its stream: browsers have six connections to a server for all tabs together. */
  #rest() {
    clearTimeout(this.resting);
    if (document.hidden) this.resting = setTimeout(() => this.stop(), REST_MS);
    else if (!this.stopping) this.session.live.ask(this);
  }

  /** What was before; then the stream keeps it up, so it is asked again only after the server was away. */
  async load(isCurrent) {
    const isFirst = this.position === "";
    const query = isFirst ? `limit=${FIRST}` : `limit=500&after=${encodeURIComponent(this.position)}`;
    const reply = await get(`/v1/messages?${query}`);
    if (!isCurrent()) return;
    this.position = reply.position;
    if (isFirst) this.#add(reply.messages);
    else for (const message of reply.messages) this.#hear("message", message);
    if (!this.stopping && !document.hidden) this.#follow();
  }

  paceMs() {
    return 3_600_000;
  }

  #follow() {
    this.stopping = new AbortController();
    follow(pathOf("/v1/events/stream"), {
      after: this.position,
      signal: this.stopping.signal,
      tell: (kind, data, position) => {
        this.position = position;
        this.#hear(kind, data);
      },
    });
  }

  stop() {
    this.stopping?.abort();
    this.stopping = null;
  }

  #hear(kind, message) {
    if (kind === "missed") {
      this.session.live.askAll();
      return;
    }
    if (kind !== "message") return;
    if (!this.#add([message])) return;
    this.session.live.hear(message);
    if (message.severity === "error" && Date.now() - this.spokenAt > SPOKEN_MS) {
      this.spokenAt = Date.now();
      announce(`Error: ${plain(message.text)}`);
    }
  }

  #add(messages) {
    const known = new Set(this.messages.map(keyOf));
    const fresh = messages.filter((message) => !known.has(keyOf(message)));
    if (!fresh.length && this.messages.length) return false;
    this.messages = [...this.messages, ...fresh].sort((a, b) => a.at - b.at).slice(-KEPT);
    this.drawing ||= setTimeout(() => this.#render(), TOGETHER_MS);
    return fresh.length > 0;
  }

  #render() {
    clearTimeout(this.drawing);
    this.drawing = 0;
    const least = RANKS[this.least.value];
    const shown = this.messages.filter((message) => (RANKS[message.severity] ?? 0) >= least).reverse();
    this.rows.show(shown);
    const empty = this.messages.length ? "None of these." : "Nothing has happened yet. What sessions, jobs and machines do appears here as it happens.";
    this.panel.tell("", !shown.length, empty);
  }
}

function keyOf(message) {
  return message.position;
}

class Message {
  constructor(message, isSite) {
    const severity = message.severity in RANKS ? message.severity : "info";
    const sign = el("span", { class: `sign ${TONES[severity]}`, "aria-hidden": "true" }, SIGNS[severity]);
    const time = el("time", { datetime: new Date(message.at * 1000).toISOString() }, timeOfDay(message.at));
    const spoken = severity === "info" ? "" : `${severity}: `;
    const at = isSite && message.fields?.point;
    const point = at ? el("strong", {}, `${plain(at, 63)}: `) : null;
    const text = el("span", { class: "text" }, el("span", { class: "unseen" }, spoken), point, plain(message.text, 600));
    this.node = el("li", {}, sign, time, text);
    setAttribute(this.node, "title", message.message_id ? `Message ${message.message_id}` : null);
  }

  update() {}
}
