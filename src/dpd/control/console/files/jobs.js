// SPDX-License-Identifier: Apache-2.0
// Jobs that run or will, with how far they are, and the last that ended.

import { get, post } from "./api.js";
import { Rows, badge, el, setAttribute, setBadge, setSentence, setText, show } from "./dom.js";
import { Bar, Panel, tool } from "./panel.js";
import { duration, now, percent, plain, setTimeAgo, size, timeAgo } from "./words.js";

const SHOWN = 30;
const ENDED = 5;
const STATES = {
  running: ["info", "Running"],
  queued: ["idle", "Queued"],
  waiting: ["warn", "Waiting"],
  done: ["ok", "Done"],
  failed: ["bad", "Failed"],
  cancelled: ["idle", "Cancelled"],
};

export class Jobs {
  constructor(section, session) {
    this.session = session;
    this.panel = new Panel(section, "Jobs", { empty: "No job has run yet. `dpd content update PACKAGE` fetches one from the sources of the settings." });
    this.open = el("ul", { class: "list" });
    this.endedTitle = el("h3", { class: "minor" }, "Ended last");
    this.ended = el("ul", { class: "list ended" });
    this.panel.body.append(this.open, this.endedTitle, this.ended);
    const make = () => new Job(session, this);
    this.openRows = new Rows(this.open, (job) => job.id, make);
    this.endedRows = new Rows(this.ended, (job) => job.id, make);
    this.running = 0;
  }

  paceMs() {
    return this.running ? 1000 : 10_000;
  }

  wants(message) {
    return /^job\b/.test(message.event);
  }

  async load(isCurrent) {
    const [open, ended] = await Promise.all([get(`/v1/jobs?limit=${SHOWN}`), get(`/v1/jobs/ended?limit=${ENDED}`)]);
    if (!isCurrent()) return;
    this.running = open.jobs.filter((job) => job.state === "running").length;
    this.openRows.show(open.jobs);
    this.endedRows.show(ended.jobs);
    show(this.endedTitle, ended.jobs.length > 0);
    const left = open.total > open.jobs.length ? ` (${open.jobs.length} shown)` : "";
    this.panel.tell(open.total ? `${open.total} open${left}` : "", !open.jobs.length && !ended.jobs.length);
    this.session.figure("jobs", open.total, open.total === 1 ? "job" : "jobs", open.total ? "info" : "");
  }
}

class Job {
  constructor(session, part) {
    this.session = session;
    this.part = part;
    this.badge = badge();
    this.title = el("strong", { class: "break" });
    this.time = timeAgo(0);
    this.bar = new Bar("Done");
    this.facts = el("p", { class: "quiet" });
    this.trouble = el("p", { class: "trouble" });
    this.retry = tool("Try now", () => this.#order("retry"), "small");
    this.cancel = tool("Cancel", () => this.#order("cancel"), "small");
    this.error = el("p", { class: "error", role: "alert" });
    this.node = el("li", { class: "job" }, el("p", { class: "line" }, this.badge, this.title, el("span", { class: "orders" }, this.retry, this.cancel), this.time), this.bar.node, this.facts, this.trouble, this.error);
  }

  update(job) {
    this.job = job;
    const [tone, word] = STATES[job.state] ?? ["idle", plain(job.state, 20)];
    setBadge(this.badge, tone, word);
    setText(this.title, titleOf(job));
    setTimeAgo(this.time, job.ended_at);
    const isRunning = job.state === "running";
    show(this.bar.node, isRunning);
    const part = job.total_bytes ? job.done_bytes / job.total_bytes : null;
    if (isRunning) this.bar.set(part, part === null ? "" : percent(part));
    setAttribute(this.bar.progress, "aria-label", titleOf(job));
    const facts = factsOf(job);
    setText(this.facts, facts);
    show(this.facts, Boolean(facts));
    setSentence(this.trouble, plain(job.error, 400));
    show(this.trouble, Boolean(job.error) && job.state !== "done");
    show(this.retry, (job.state === "waiting" || job.state === "failed") && this.session.mayOperate);
    setAttribute(this.retry, "aria-label", `Try ${titleOf(job)} now`);
    show(this.cancel, ["running", "queued", "waiting"].includes(job.state) && !job.stopping && this.session.mayOperate);
    setAttribute(this.cancel, "aria-label", `Cancel ${titleOf(job)}`);
  }

  async #order(verb) {
    setText(this.error, "");
    try {
      await post(`/v1/jobs/${this.job.id}/${verb}`);
      this.session.live.ask(this.part);
    } catch (error) {
      setSentence(this.error, this.session.explain(error));
    }
  }
}

function titleOf(job) {
  const kind = job.kind[0].toUpperCase() + job.kind.slice(1);
  const version = job.source_version === null ? "" : ` version ${job.source_version}`;
  return `${plain(kind, 30)} ${job.package_id}${version}`.trimEnd();
}

function factsOf(job) {
  const facts = [plain(job.stopping || job.message, 200)];
  if (job.state === "running") {
    facts.push(job.total_bytes > 0 && `${size(job.done_bytes)} of ${size(job.total_bytes)}`);
    facts.push(job.rate_mbit_s > 0 && `${job.rate_mbit_s.toFixed(0)} Mbit/s`);
    facts.push(job.eta_s !== null && `${duration(job.eta_s)} left`);
  }
  if (job.state === "waiting" && job.next_try_at) facts.push(`next try in ${duration(job.next_try_at - now())}`);
  if (job.attempts > 1) facts.push(`try ${job.attempts}`);
  return facts.filter(Boolean).join(" · ");
}
