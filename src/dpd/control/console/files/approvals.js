// SPDX-License-Identifier: Apache-2.0
// Unknown machines that wait for somebody's word: the code on their screen, large, and what can be said.

import { get, post, remove } from "./api.js";
import { Rows, announce, el, setAttribute, setSentence, setText, show } from "./dom.js";
import { Elsewhere } from "./elsewhere.js";
import { Panel, opener } from "./panel.js";
import { setTimeAgo, plain, plural, timeAgo } from "./words.js";

const SETTLED_MS = 3000; // what was done stays readable for a moment

export class Approvals {
  constructor(section, session) {
    this.session = session;
    this.panel = new Panel(section, "Waiting for approval");
    this.cards = el("ul", { class: "cards" });
    this.denied = el("ul", { class: "denied" });
    this.deniedOpener = opener("", this.denied);
    this.deniedOpener.button.classList.add("quiet");
    this.panel.body.append(this.cards);
    section.append(this.deniedOpener.button, this.denied);
    this.cardRows = new Rows(this.cards, keyOf, (machine) => new Card(machine, this));
    this.deniedRows = new Rows(this.denied, (verdict) => verdict.mac, (verdict) => new Denied(verdict, this));
    this.known = null; // MACs that were there before, so that new ones are announced and the first look is not
    this.settled = new Map();
    this.elsewhere = new Elsewhere("pending");
  }

  paceMs() {
    return this.cardRows.rows.size ? 3000 : 5000;
  }

  wants(message) {
    if (this.session.isSite && message.event === "boot.waiting") this.elsewhere.call(message.fields.point);
    return /^(boot|pxe|approval|site)\b/.test(message.event) || "mac" in (message.fields ?? {});
  }

  async load(isCurrent) {
    const { pending, verdicts } = this.session.isSite ? await this.#pendingOfPoints() : await get("/v1/pxe/pending");
    if (isCurrent()) this.render(pending, verdicts);
  }

  async #pendingOfPoints() {
    return { pending: await this.elsewhere.ask("/v1/pxe/pending", (reply) => reply.pending), verdicts: [] };
  }

  render(pending, verdicts) {
    this.#announceNew(pending);
    const waiting = new Set(pending.map(keyOf));
    const settled = [...this.settled.values()].filter((machine) => !waiting.has(keyOf(machine)));
    const shown = [...pending, ...settled].sort((a, b) => a.first_seen - b.first_seen || (a.mac < b.mac ? -1 : 1));
    this.cardRows.show(shown);
    this.panel.tell(pending.length ? String(pending.length) : "", !shown.length, this.session.mayOperate
      ? "No machine waits. One that nobody knows shows a code on its screen and appears here, if pxe.unknown_computers is pending."
      : "No machine waits for approval.");
    this.panel.section.classList.toggle("calls", pending.length > 0);
    const denied = verdicts.filter((verdict) => verdict.verdict === "denied");
    show(this.deniedOpener.button, denied.length > 0);
    if (!denied.length) this.deniedOpener.set(false);
    setText(this.deniedOpener.words, `${plural(denied.length, "machine")} denied`);
    this.deniedRows.show(denied);
    this.session.figure("approvals", pending.length, pending.length === 1 ? "waits for approval" : "wait for approval", pending.length ? "warn" : "");
  }

  #announceNew(pending) {
    const fresh = pending.filter((machine) => this.known !== null && !this.known.has(keyOf(machine)));
    for (const machine of fresh) announce(`Machine ${machine.mac} waits for approval, code ${[...machine.code].join(" ")}`);
    this.known = new Set(pending.map(keyOf));
  }

  /** It waits no longer: it stays for a moment with what became of it, then the focus goes on to what comes next. */
  settle(machine, sentence) {
    announce(sentence);
    const key = keyOf(machine);
    this.settled.set(key, machine);
    this.session.live.ask(this);
    setTimeout(() => {
      const row = this.cardRows.rows.get(key);
      const hadFocus = row?.node.contains(document.activeElement);
      this.settled.delete(key);
      const isBack = this.known?.has(key);
      if (row && isBack) row.reset();
      if (row && !isBack) {
        row.node.remove();
        this.cardRows.rows.delete(key);
        if (hadFocus) (this.cards.querySelector("input") ?? this.panel.heading).focus();
      }
      this.session.live.ask(this);
    }, SETTLED_MS);
  }
}

function keyOf(machine) {
  return `${machine.point ?? ""} ${machine.mac}`;
}

class Card {
  constructor(machine, approvals) {
    this.approvals = approvals;
    this.session = approvals.session;
    this.machine = machine;
    this.code = el("strong", { class: "code" });
    this.mac = el("span", { class: "mac" });
    this.facts = el("span", { class: "facts" });
    this.since = timeAgo(0);
    this.name = el("input", { type: "text", maxlength: "63", autocomplete: "off", spellcheck: "false", placeholder: "Computer name" });
    this.approve = el("button", { type: "submit", class: "primary" }, "Approve");
    this.deny = el("button", { type: "button", class: "plain", on: { click: () => this.#say("deny") } }, "Deny");
    this.error = el("p", { class: "error", role: "alert" });
    this.done = el("p", { class: "done", tabindex: "-1", hidden: true });
    this.form = el("form", { on: { submit: (event) => (event.preventDefault(), this.#say("approve")) } }, this.name, this.approve, this.deny);
    this.signIn = el("button", { type: "button", class: "plain", on: { click: () => this.session.askToken() } }, "Sign in to approve");
    this.node = el(
      "li",
      { class: "card" },
      el("p", { class: "code-line" }, this.code, this.mac),
      el("p", { class: "quiet" }, this.facts, " · first asked ", this.since),
      this.form,
      this.signIn,
      this.error,
      this.done,
    );
  }

  update(machine) {
    this.machine = machine;
    setText(this.code, plain(machine.code, 12));
    setText(this.mac, machine.mac);
    setText(this.facts, factsOf(machine));
    setTimeAgo(this.since, machine.first_seen);
    setAttribute(this.name, "aria-label", `Computer name for ${machine.mac}, optional`);
    setAttribute(this.approve, "aria-label", `Approve ${machine.mac}, code ${machine.code}`);
    setAttribute(this.deny, "aria-label", `Deny ${machine.mac}`);
    show(this.form, this.session.mayOperate && this.done.hidden);
    show(this.signIn, !this.session.mayOperate && this.done.hidden);
    setText(this.signIn, this.session.isSignedIn ? "Approving needs the role operator" : "Sign in to approve");
  }

  async #say(verb) {
    if (this.isBusy) return;
    const computer = this.name.value.trim();
    const { mac, point } = this.machine;
    this.#setBusy(true);
    setText(this.error, "");
    try {
      await post(`/v1/pxe/pending/${encodeURIComponent(mac)}/${verb}`, verb === "approve" ? { computer } : null, point);
      const as = computer ? ` as ${computer}` : "";
      this.#tellDone(verb === "deny" ? "Denied. dpd answers it no more." : await whatComes(computer, point));
      this.approvals.settle(this.machine, `${mac} ${verb === "approve" ? `approved${as}` : "denied"}`);
    } catch (error) {
      setSentence(this.error, this.session.explain(error));
      if (this.form.hidden) return;
      (verb === "approve" ? this.name : this.deny).focus();
    } finally {
      this.#setBusy(false);
    }
  }

  #tellDone(sentence) {
    setSentence(this.done, sentence);
    show(this.done, true);
    show(this.form, false);
    this.done.focus();
  }

  /** It waits once more, after something was done: as if it had just come. */
  reset() {
    show(this.done, false);
    this.name.value = "";
    this.update(this.machine);
  }

  #setBusy(isBusy) {
    this.isBusy = isBusy;
    for (const button of [this.approve, this.deny]) setAttribute(button, "aria-disabled", isBusy ? "true" : null);
  }
}

class Denied {
  constructor(verdict, approvals) {
    this.approvals = approvals;
    this.words = el("span");
    this.button = el("button", { type: "button", class: "plain small", on: { click: () => this.#takeBack() } }, "Take back");
    this.error = el("span", { class: "error", role: "alert" });
    this.node = el("li", {}, el("span", { class: "mac" }, verdict.mac), this.words, this.button, this.error);
    this.verdict = verdict;
  }

  update(verdict) {
    this.verdict = verdict;
    setText(this.words, verdict.actor ? ` by ${plain(verdict.actor, 60)}` : "");
    setAttribute(this.button, "aria-label", `Take back the denial of ${verdict.mac}`);
    show(this.button, this.approvals.session.mayOperate);
  }

  async #takeBack() {
    try {
      await remove(`/v1/pxe/verdicts/${encodeURIComponent(this.verdict.mac)}`);
      announce(`${this.verdict.mac} is denied no longer`);
      this.approvals.panel.heading.focus();
      this.approvals.session.live.ask(this.approvals);
    } catch (error) {
      setSentence(this.error, this.approvals.session.explain(error));
    }
  }
}

/** What an approval leads to: once, or as a computer that may have nothing to boot yet. */
async function whatComes(computer, point) {
  if (!computer) return "Approved once. It boots at its next question.";
  const { deployments } = await get(`/v1/computers/${encodeURIComponent(computer)}`, point).catch(() => ({ deployments: null }));
  const isBare = deployments !== null && !deployments.some((each) => each.state === "current");
  return isBare ? `Approved as ${computer}, and nothing is deployed to it yet: \`dpd deployment add --computer ${computer}\`` : `Approved as ${computer}. It boots at its next question.`;
}

function factsOf(machine) {
  const facts = [machine.point && `at ${machine.point}`, machine.arch, machine.relay && `by relay ${machine.relay}`, machine.circuit && `port ${machine.circuit}`];
  return facts.filter(Boolean).map((fact) => plain(fact, 60)).join(" · ") || "unknown machine";
}
