// SPDX-License-Identifier: Apache-2.0
// Server-sent events over fetch, since EventSource cannot carry a token. A stream that ends is begun again behind the last
// event that came, so none is missed and none comes twice.

import { headers } from "./api.js";

const SILENCE_MS = 45_000; // three heartbeats of the server
const LONGEST_PAUSE_MS = 10_000;

/** Follow `path` until the signal says no more. `tell(kind, data, id)` gets each event's parsed JSON, `kind` "message" where the
 * server names none; `after` is the id to begin behind, "" for what comes from now on. */
export async function follow(path, { after = "", signal, tell }) {
  let last = after;
  let pauseMs = 500;
  while (!signal.aborted) {
    try {
      await readOnce(path, last, signal, (id, kind, data) => {
        last = id || last;
        pauseMs = 500;
        if (data) tell(kind, JSON.parse(data), last);
      });
    } catch {
      // it ended; the page's other questions tell whether the server is there
    }
    await pause(pauseMs, signal);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

async function readOnce(path, last, signal, tell) {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  const resume = last === "" ? {} : { "Last-Event-ID": String(last) };
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const accept = { Accept: "text/event-stream" };
    const response = await fetch(path, { headers: { ...headers(), ...accept, ...resume }, cache: "no-store", signal: either });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const lines = new Lines(tell);
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await text.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      lines.feed(value);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** The lines of an event stream as events (HTML standard, section 9.2.6); one without data tells how far the stream is. */
export class Lines {
  constructor(tell) {
    this.tell = tell;
    this.rest = "";
    this.id = "";
    this.kind = "";
    this.data = [];
  }

  feed(chunk) {
    const lines = (this.rest + chunk).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.#take(line);
  }

  #take(line) {
    if (line === "") {
      this.tell(this.id, this.kind || "message", this.data.join("\n"));
      this.kind = "";
      this.data = [];
      return;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "id") this.id = value;
    if (field === "event") this.kind = value;
    if (field === "data") this.data.push(value);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
