// SPDX-License-Identifier: Apache-2.0
// Machines that run a task sequence, step by step, and the last that ended.

import { Refused, get, post } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, badge, el, setAttribute, setBadge, setSentence, setText, show } from "./dom.js";
import { Finder } from "./finder.js";
import { Bar, Panel, opener, tool } from "./panel.js";
import { duration, percent, plain, plural, setTimeAgo, size, timeAgo } from "./words.js";

const ASKED = 500;
const FIRST = 30;
const ENDED = 10;
const STATES = {
  running: ["info", "Running"],
  restarting: ["info", "Restarting"],
  done: ["ok", "Deployed"],
  failed: ["bad", "Failed"],
  cancelled: ["idle", "Cancelled"],
  lost: ["bad", "Lost"],
};
const STEPS = { waiting: "", running: "Runs", restarting: "Restarts", done: "Done", failed: "Failed", skipped: "Left out" };
const OVER = new Set(["done", "failed", "skipped"]);

export class Executions {
  constructor(section, desk) {
    this.desk = desk;
    this.finder = new Finder("a deployment under way", "machine, step or state", () => this.#render());
    this.panel = new Panel(section, "Deployments under way", { tools: [this.finder.search] });
    this.list = el("ul", { class: "list" });
    this.panel.body.append(this.list, this.finder.all);
    this.rows = new Rows(this.list, (each) => each.id, () => new Execution(this));
    this.open = [];
    this.ended = [];
    show(section, false);
  }

  paceMs() {
    return this.open.length ? 2000 : 10_000;
  }

  wants(message) {
    return message.event.startsWith("deployment.");
  }

  async load(isCurrent) {
    const answers = await Promise.all([`open&limit=${ASKED}`, `ended&limit=${ENDED}`].map((query) => this.#ask(query)));
    if (!isCurrent()) return;
    [this.open, this.ended] = answers;
    show(this.panel.section, this.open.length + this.ended.length > 0);
    this.#render();
  }

  /** None where this dpd has no book of them. */
  async #ask(query) {
    try {
      return (await get(`/v1/executions?state=${query}`)).executions;
    } catch (error) {
      if (error instanceof Refused && error.status === 409) return [];
      throw error;
    }
  }

  #render() {
    const all = [...this.open, ...this.ended];
    const found = this.finder.matches(all, (each) => `${nameOf(each)} ${each.mac} ${each.point ?? ""} ${each.sequence} ${each.step_name} ${stateOf(each)[1]}`);
    const shown = this.finder.cut(found, FIRST);
    this.rows.show(shown);
    this.finder.offer(shown.length, found.length);
    this.panel.tell(this.open.length ? plural(this.open.length, "machine") : "", !found.length, "No machine like that.");
    const failed = this.ended.filter((each) => stateOf(each)[0] === "bad").length;
    this.desk.figure("executions-running", this.open.length, "being deployed", "info");
    this.desk.figure("executions-failed", failed, failed === 1 ? "deployment failed" : "deployments failed", failed ? "bad" : "", () => this.finder.find("failed"));
  }

  askToCancel(execution) {
    askFor(this.desk, {
      title: `Stop deploying ${nameOf(execution)}?`,
      words: "The machine stops behind the piece of work that it is at, and stays as it is then.",
      fields: [{ name: "reason", label: "Reason", maxlength: 200, help: "Shown at the machine." }],
      verb: "Stop",
      after: this.panel.heading,
      send: async ({ reason }) => {
        await post(`/v1/executions/${execution.id}/cancel`, { reason });
        this.desk.live.ask(this);
        return `${nameOf(execution)} is told to stop`;
      },
    });
  }
}

function nameOf(execution) {
  return plain(execution.computer, 63) || execution.mac;
}

function stateOf(execution) {
  if (execution.is_silent) return ["warn", "Silent"];
  return STATES[execution.state] ?? ["idle", plain(execution.state, 20)];
}

function isOpen(execution) {
  return execution.state === "running" || execution.state === "restarting";
}

class Execution {
  constructor(part) {
    this.part = part;
    this.badge = badge();
    this.time = timeAgo(0);
    this.steps = el("ol", { class: "run-steps" });
    this.fault = el("p", { class: "error" });
    this.story = el("div", { class: "story" }, this.fault, this.steps);
    this.opener = opener("", this.story, (isShown) => isShown && this.#tell());
    this.cancel = tool("Stop…", () => part.askToCancel(this.execution), "small");
    this.bar = new Bar("This step");
    this.facts = el("p", { class: "quiet" });
    this.trouble = el("p", { class: "trouble" });
    this.nextWords = el("span");
    this.next = el("p", { class: "next" }, el("strong", {}, "What to do: "), this.nextWords);
    this.stepRows = new Rows(this.steps, (step) => step.id, () => new Step());
    const line = el("p", { class: "line" }, this.badge, this.opener.button, el("span", { class: "orders" }, this.cancel), this.time);
    this.node = el("li", { class: "execution" }, line, this.bar.node, this.facts, this.trouble, this.next, this.story);
  }

  update(execution) {
    this.execution = execution;
    const name = nameOf(execution);
    setBadge(this.badge, ...stateOf(execution));
    setText(this.opener.words, name);
    setAttribute(this.opener.button, "aria-label", `${name}, ${stateOf(execution)[1]}: its steps`);
    setTimeAgo(this.time, execution.ended_at || execution.heard_at);
    const isMoving = isOpen(execution) && execution.total_bytes > 0;
    show(this.bar.node, isMoving);
    if (isMoving) this.bar.set(execution.done_bytes / execution.total_bytes, percent(execution.done_bytes / execution.total_bytes));
    setText(this.facts, factsOf(execution));
    setSentence(this.trouble, plain(execution.error, 400));
    show(this.trouble, Boolean(execution.error));
    setSentence(this.nextWords, plain(execution.next_step, 400));
    show(this.next, Boolean(execution.next_step));
    show(this.cancel, isOpen(execution) && !execution.cancel_reason && this.part.desk.mayOperate);
    setAttribute(this.cancel, "aria-label", `Stop deploying ${name}`);
    if (this.opener.isOpen()) this.#tell();
  }

  async #tell() {
    const { id } = this.execution;
    try {
      const { steps } = await get(`/v1/executions/${id}`);
      setText(this.fault, "");
      this.stepRows.show(steps);
    } catch (error) {
      setText(this.fault, plain(error.message));
    }
  }
}

function factsOf(execution) {
  const over = execution.step_states.filter((state) => OVER.has(state)).length;
  const isMoving = isOpen(execution) && execution.total_bytes > 0;
  const facts = [
    execution.point && `at ${plain(execution.point, 63)}`,
    `${plain(execution.sequence, 63)} version ${execution.version}`,
    `${over} of ${plural(execution.step_states.length, "step")}`,
    isOpen(execution) && execution.step_name && `now ${plain(execution.step_name, 80)}`,
    isMoving && `${size(execution.done_bytes)} of ${size(execution.total_bytes)}`,
    isMoving && execution.rate_bit_s > 0 && `${(execution.rate_bit_s / 1e6).toFixed(0)} Mbit/s`,
    execution.message !== execution.error && plain(execution.message, 200),
    execution.cancel_reason && `told to stop: ${plain(execution.cancel_reason, 200)}`,
    execution.ended_at > 0 && `after ${duration(execution.ended_at - execution.started_at)}`,
  ];
  return facts.filter(Boolean).join(" · ");
}

class Step {
  constructor() {
    this.state = el("span", { class: "since" });
    this.words = el("span", { class: "break" });
    this.node = el("li", {}, this.state, this.words);
  }

  update(step) {
    setText(this.state, STEPS[step.state] ?? plain(step.state, 20));
    const took = step.ended_at && step.started_at ? ` (${duration(step.ended_at - step.started_at)})` : "";
    const said = step.message ? `: ${plain(step.message, 300)}` : "";
    setText(this.words, `${step.id} ${plain(step.name, 80)}${took}${said}`);
    setAttribute(this.node, "class", step.state === "failed" ? "trouble" : null);
  }
}
