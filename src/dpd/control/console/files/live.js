// SPDX-License-Identifier: Apache-2.0
// When to ask: each part of the page at a pace of its own, at once where a message says that something changed, and with
// patience while the server is away.

import { Away, Refused } from "./api.js";

const TOGETHER_MS = 150; // messages come in bursts: one question for all of them
const HIDDEN_MS = 30_000; // nobody looks at a hidden tab
const LONGEST_PAUSE_MS = 10_000;

/** A part has: load() → promise; paceMs(), read after each load; wants(message), whether a message concerns it. */
export class Live {
  #parts = [];
  #timers = new Map();
  #running = new Set();
  #again = new Set();
  #isAway = false;
  #isStopped = true;
  #pauseMs = 1000;
  #generation = 0;

  /** `tellAway(seconds, error)`: no answer, the next try is then; `tellBack()`; `tellRefused(error)`: 401, nothing more is asked. */
  constructor({ tellAway, tellBack, tellRefused, tellFault }) {
    this.tellAway = tellAway;
    this.tellBack = tellBack;
    this.tellRefused = tellRefused;
    this.tellFault = tellFault;
    document.addEventListener("visibilitychange", () => document.hidden || this.askAll());
    window.addEventListener("online", () => this.askAll());
  }

  start(parts) {
    this.stop();
    this.#isStopped = false;
    this.#parts = parts;
    this.askAll();
  }

  stop() {
    this.#isStopped = true;
    this.#generation += 1;
    this.#isAway = false;
    this.#pauseMs = 1000;
    this.#clearTimers();
    this.#running.clear();
    this.#again.clear();
  }

  askAll() {
    for (const part of this.#isAway ? this.#parts.slice(0, 1) : this.#parts) this.#askAfter(part, 0);
  }

  /** Ask what this message changed. */
  hear(message) {
    if (this.#isAway) return;
    for (const part of this.#parts) if (part.wants?.(message)) this.#askAfter(part, TOGETHER_MS);
  }

  ask(part) {
    this.#askAfter(part, 0);
  }

  #askAfter(part, ms) {
    if (this.#isStopped) return;
    const due = performance.now() + ms;
    const set = this.#timers.get(part);
    if (set && set.due <= due) return; // sooner already: a torrent of messages must not put it off for ever
    clearTimeout(set?.timer);
    this.#timers.set(part, { due, timer: setTimeout(() => this.#load(part), ms) });
  }

  async #load(part) {
    this.#timers.delete(part);
    if (this.#running.has(part)) {
      this.#again.add(part); // what is under way may have been answered before the change
      return;
    }
    const generation = this.#generation;
    this.#running.add(part);
    try {
      await part.load(() => generation === this.#generation);
      if (generation === this.#generation) this.#answered(part);
    } catch (error) {
      if (generation === this.#generation) this.#failed(part, error);
    } finally {
      if (generation === this.#generation) this.#running.delete(part);
    }
  }

  #answered(part) {
    this.#pauseMs = 1000;
    if (this.#isAway) {
      this.#isAway = false;
      this.tellBack();
      for (const other of this.#parts) if (other !== part) this.#askAfter(other, 0);
    }
    const isAskedAgain = this.#again.delete(part);
    this.#askAfter(part, isAskedAgain ? TOGETHER_MS : Math.max(part.paceMs(), document.hidden ? HIDDEN_MS : 0));
  }

  #failed(part, error) {
    if (error instanceof Away) {
      this.#wait(part, error);
    } else if (error instanceof Refused && error.status === 401) {
      this.stop();
      this.tellRefused(error);
    } else {
      this.tellFault(part, error);
      this.#askAfter(part, LONGEST_PAUSE_MS);
    }
  }

  #clearTimers() {
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  /** One question at a time until there is an answer: the first part's. */
  #wait(part, error) {
    if (this.#isAway && part !== this.#parts[0]) return; // asked before that was known
    this.#isAway = true;
    this.#clearTimers();
    this.tellAway(this.#pauseMs / 1000, error);
    this.#askAfter(this.#parts[0], this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 1.6, LONGEST_PAUSE_MS);
  }
}
