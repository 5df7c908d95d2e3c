// SPDX-License-Identifier: Apache-2.0
// Machines that boot or did, the newest boot first: the verdict in a sentence, and the whole story of each on demand.

import { get } from "./api.js";
import { Rows, announce, badge, el, setAttribute, setBadge, setSentence, setText, show } from "./dom.js";
import { Finder } from "./finder.js";
import { Panel, opener } from "./panel.js";
import { plain, plural, setTimeAgo, timeAgo, timeOfDay } from "./words.js";

const ASKED = 100;
const FIRST = 12; // and whatever boots or waits
const WORDS = {
  fine: ["ok", "Booted"],
  in_progress: ["info", "Booting"],
  unknown_pending: ["warn", "Waits"],
  pin_missing: ["warn", "Waits"],
};
// Policy said so: no fault of anything.
const LEFT_ALONE = new Set(["maintenance", "switched_off", "ignored_mac", "unknown_denied", "nothing_deployed", "already_run", "not_yet", "deployment_expired", "brake", "response_delay", "key_not_pressed"]);

export function verdictOf(cause) {
  return WORDS[cause] ?? (LEFT_ALONE.has(cause) ? ["idle", "Not served"] : ["bad", "Failed"]);
}

export class Machines {
  constructor(section, session) {
    this.session = session;
    this.finder = new Finder("a machine", "name, MAC or what became of it", () => this.#render());
    this.panel = new Panel(section, "Machines", { tools: [this.finder.search] });
    this.list = el("ul", { class: "list" });
    this.more = el("p", { class: "quiet more", hidden: true });
    this.panel.body.append(this.list, this.finder.all, this.more);
    this.rows = new Rows(this.list, (boot) => boot.mac, (boot) => new Machine(boot));
    this.boots = [];
    this.causes = null;
  }

  paceMs() {
    return this.boots.some((boot) => boot.cause === "in_progress") ? 2000 : 5000;
  }

  wants(message) {
    return /^(boot|pxe|approval)\b/.test(message.event) || "mac" in (message.fields ?? {});
  }

  async load(isCurrent) {
    const { boots, total } = await get(`/v1/pxe/boots?limit=${ASKED}`);
    if (!isCurrent()) return;
    this.boots = boots;
    this.total = total;
    this.#announceChanges();
    this.#render();
  }

  #render() {
    const { wanted } = this.finder;
    const found = this.finder.matches(this.boots, (boot) => `${boot.mac} ${boot.computer} ${verdictOf(boot.cause)[1]} ${boot.sentence}`);
    const current = found.filter(isCurrent);
    const settled = found.filter((boot) => !isCurrent(boot));
    const shown = this.finder.cut(settled, wanted ? ASKED : Math.max(FIRST - current.length, 4));
    this.rows.show([...current, ...shown]);
    const booting = this.boots.filter((boot) => boot.cause === "in_progress").length;
    const failed = this.boots.filter((boot) => verdictOf(boot.cause)[0] === "bad").length;
    const empty = wanted && this.boots.length ? "No machine like that has booted here." : "No machine has asked for a network boot since dpd started. Let one boot from the network; if it does not appear, `dpd pxe why MAC` on the server tells what is in its way.";
    this.panel.tell(booting ? `${booting} booting` : "", !found.length, empty);
    this.finder.offer(current.length + shown.length, found.length);
    show(this.more, this.total > this.boots.length && shown.length === settled.length);
    setText(this.more, `The latest ${this.boots.length} of ${this.total}. dpd pxe list on the server shows all.`);
    this.session.figure("machines", booting, "booting", booting ? "info" : "");
    this.session.figure("machines-failed", failed, failed === 1 ? "boot failed" : "boots failed", failed ? "bad" : "", () => this.finder.find("failed"));
  }

  #announceChanges() {
    const causes = new Map(this.boots.map((boot) => [boot.mac, boot.cause]));
    for (const boot of this.causes === null ? [] : this.boots) {
      if (this.causes.get(boot.mac) !== boot.cause) announce(`${nameOf(boot)}: ${verdictOf(boot.cause)[1]}`);
    }
    this.causes = causes;
  }
}

/** It boots, or waits for somebody: it stands above what is over. */
function isCurrent(boot) {
  return ["info", "warn"].includes(verdictOf(boot.cause)[0]);
}

function nameOf(boot) {
  return plain(boot.computer, 63) || boot.mac;
}

class Machine {
  constructor(boot) {
    this.boot = boot;
    this.toldAt = 0;
    this.badge = badge();
    this.mac = el("span", { class: "mac" });
    this.time = timeAgo(0);
    this.sentence = el("p", { class: "sentence" });
    this.step = el("p", { class: "step quiet" });
    this.story = el("div", { class: "story" });
    this.opener = opener("", this.story, (isOpen) => (isOpen ? this.#tell() : this.update(this.boot)));
    this.nextWords = el("span");
    this.next = el("p", { class: "next" }, el("strong", {}, "What to do: "), this.nextWords);
    this.remarks = el("ul", { class: "remarks" });
    this.attempts = el("div");
    this.fault = el("p", { class: "error", hidden: true });
    this.story.append(this.fault, this.next, this.remarks, this.attempts);
    this.remarkRows = new Rows(this.remarks, (remark) => remark, (remark) => ({ node: el("li", {}, plain(remark, 600)), update() {} }));
    this.attemptRows = new Rows(this.attempts, (attempt) => attempt.began_at, () => new Attempt());
    this.node = el(
      "li",
      { class: "machine" },
      el("p", { class: "line" }, this.badge, this.opener.button, this.mac, this.time),
      this.sentence,
      this.step,
      this.story,
    );
  }

  update(boot) {
    this.boot = boot;
    const [tone, word] = verdictOf(boot.cause);
    setBadge(this.badge, tone, word);
    setText(this.opener.words, nameOf(boot));
    setAttribute(this.opener.button, "aria-label", `${nameOf(boot)}, ${word}: its story`);
    setText(this.mac, boot.computer ? boot.mac : "");
    setTimeAgo(this.time, boot.last_at);
    setText(this.sentence, plain(boot.sentence, 600));
    show(this.sentence, boot.cause !== "fine" || this.opener.isOpen()); // the word says it
    const isUnderWay = boot.cause === "in_progress";
    show(this.step, isUnderWay && Boolean(boot.last_step) && !this.opener.isOpen());
    setText(this.step, isUnderWay ? `It ${plain(boot.last_step)}.` : "");
    if (this.opener.isOpen() && this.toldAt !== `${boot.last_at} ${boot.cause}`) this.#tell();
  }

  async #tell() {
    const { mac, last_at, cause } = this.boot;
    show(this.step, false);
    show(this.sentence, true);
    try {
      const why = await get(`/v1/pxe/machines/${encodeURIComponent(mac)}/why`);
      this.toldAt = `${last_at} ${cause}`;
      this.#render(why);
    } catch (error) {
      setText(this.fault, plain(error.message));
      show(this.fault, true);
    }
  }

  #render(why) {
    show(this.fault, false);
    show(this.next, Boolean(why.next_step));
    setSentence(this.nextWords, plain(why.next_step, 900));
    show(this.remarks, why.remarks.length > 0);
    this.remarkRows.show(why.remarks);
    this.attemptRows.show([...why.attempts].reverse().map((attempt, place) => ({ ...attempt, place })));
  }
}

/** The steps of one attempt; the newest is open, those before it on demand. */
class Attempt {
  constructor() {
    this.steps = el("ol", { class: "steps" });
    this.opener = opener("", this.steps);
    this.node = el("section", { class: "attempt" }, this.opener.button, this.steps);
    this.rows = new Rows(this.steps, (step) => step.key, () => new Step());
    this.isNew = true;
  }

  update(attempt) {
    if (this.isNew) this.opener.set(attempt.place === 0);
    this.isNew = false;
    const which = attempt.place === 0 ? "This boot" : "A boot before";
    setText(this.opener.words, `${which}, ${timeOfDay(attempt.began_at)}: ${plural(attempt.steps.length, "step")}`);
    this.rows.show(attempt.steps.map((step, place) => ({ ...step, key: `${place} ${step.at}`, since: step.at - attempt.began_at })));
  }
}

/** That dpd keeps out of a machine's lease is noted as well, and is no trouble. */
function isTrouble(step) {
  return ["refused_file", "loader_fault", "send_failed", "conflict"].includes(step.event) || (step.event === "ignored" && step.text.startsWith("not answered"));
}

class Step {
  constructor() {
    this.since = el("span", { class: "since" });
    this.text = el("span");
    this.node = el("li", {}, this.since, this.text);
  }

  update(step) {
    setText(this.since, `${step.since < 100 ? step.since.toFixed(2) : Math.round(step.since)} s`);
    setText(this.text, plain(step.text, 600));
    setAttribute(this.node, "class", isTrouble(step) ? "trouble" : null);
  }
}
