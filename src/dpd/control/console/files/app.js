// SPDX-License-Identifier: Apache-2.0
// The page as a whole: who looks, at what, and whether the server is there.

import { Account } from "./account.js";
import { Away, NO_ANSWER, get, lookAt, token } from "./api.js";
import { Approvals } from "./approvals.js";
import { Assignments } from "./assignments.js";
import { Deployments } from "./deployments.js";
import { announce, el, setAttribute, setSentence, setText, show } from "./dom.js";
import { Executions } from "./executions.js";
import { Jobs } from "./jobs.js";
import { Live } from "./live.js";
import { Machines } from "./machines.js";
import { Messages } from "./messages.js";
import { Packages } from "./packages.js";
import { Points } from "./points.js";
import { Policy } from "./policy.js";
import { Sessions } from "./sessions.js";
import { Standing } from "./standing.js";
import { Variables } from "./variables.js";
import { keepClocks, plain, sentence, timeOfDay } from "./words.js";

const byId = (id) => document.getElementById(id);
const FIGURES = ["approvals", "machines", "machines-failed", "executions-running", "executions-failed", "points", "points-away", "sessions", "jobs", "deployments", "packages", "packages-failed"];

/** What the parts share: who looks, the questions' timing, the figures at the top. */
class Desk {
  constructor() {
    this.point = new URLSearchParams(location.search).get("point") ?? "";
    this.isSite = false;
    lookAt(this.point);
    show(byId("back"), this.point !== "");
    if (this.point) setText(byId("name"), plain(this.point, 63));
    this.account = new Account(() => this.start());
    this.live = new Live({
      tellAway: (seconds, error) => this.#tellAway(seconds, error),
      tellBack: () => this.#tellBack(),
      tellRefused: () => this.#tellRefused(),
      tellFault: (part, error) => part.panel?.tellFault(this.explain(error)),
    });
    this.figures = new Map();
    this.parts = null;
    this.starts = 0;
    setInterval(keepClocks, 1000);
  }

  get mayOperate() {
    return this.account.mayOperate;
  }

  get mayAdminister() {
    return this.account.mayAdminister;
  }

  get isSignedIn() {
    return this.account.isSignedIn;
  }

  askToken() {
    if (!this.account.maySignIn) {
      this.notice("Signing in needs HTTPS, or this page on the server itself: over plain HTTP somebody on the way could read the token.");
    } else {
      this.account.ask();
    }
  }

  /** Who looks may have changed: everything is asked anew, and what is shown stays until the answers are there. */
  async start() {
    const turn = (this.starts += 1);
    this.live.stop();
    this.messages?.stop();
    try {
      await this.account.look();
      const status = await get("/v1/status");
      if (turn !== this.starts) return;
      this.#tellBack();
      if (this.isSignedIn) this.#banner("notice", "");
      this.#open(status);
    } catch (error) {
      if (turn !== this.starts) return;
      if (error instanceof Away) {
        this.#tellAway(2, error);
        setTimeout(() => turn === this.starts && this.start(), 2000);
      } else if (error.status === 401) {
        this.#tellRefused();
      } else {
        this.#setConnection("away", "Refused");
        this.#banner("away", this.explain(error));
        show(byId("loading"), false);
        setTimeout(() => turn === this.starts && this.start(), 5000);
      }
    }
  }

  #open(status) {
    this.isSite = status.role === "site" && !this.point;
    this.parts ??= this.#makeParts();
    show(byId("loading"), false);
    show(byId("signed-out"), false);
    show(byId("panels"), true);
    show(byId("figures"), true);
    document.body.dataset.state = "live";
    this.#setConnection("live", "Live");
    this.live.start(this.parts);
  }

  #makeParts() {
    this.messages = new Messages(byId("messages"), this);
    const approvals = new Approvals(byId("approvals"), this);
    const both = [approvals, new Sessions(byId("sessions"), this), new Deployments(byId("deployments"), this), new Executions(byId("executions"), this), new Variables(byId("variables"), this), new Policy(byId("policy"), this), this.messages];
    const ofSite = () => [new Points(byId("points"), this), new Assignments(byId("assignments"), this)];
    const ofPoint = () => [new Machines(byId("machines"), this), new Jobs(byId("jobs"), this), new Packages(byId("packages"), this)];
    const parts = [...both, ...(this.isSite ? ofSite() : ofPoint())];
    for (const section of document.querySelectorAll("#panels section")) {
      if (!parts.some((part) => part.panel.section === section)) show(section, false);
    }
    document.body.classList.toggle("site", this.isSite);
    if (this.isSite) byId("panels").append(byId("messages")); // of all points together: long
    return [new Standing(this), ...parts];
  }

  /** A number at the top that leads to its part; `act` is done on the way. */
  figure(name, count, label, tone, act = () => {}) {
    if (!this.figures.has(name)) {
      const number = el("strong");
      const words = el("span");
      const target = name.replace(/-.*/, "");
      const link = el("a", { href: `#${target}`, on: { click: (event) => (act(), this.#goTo(event, target)) } }, number, " ", words);
      this.figures.set(name, { link, number, words });
      const order = FIGURES.filter((each) => this.figures.has(each)).map((each) => this.figures.get(each).link);
      byId("figures").replaceChildren(...order);
    }
    const { link, number, words } = this.figures.get(name);
    setText(number, count);
    setText(words, label);
    setAttribute(link, "class", tone || null);
    show(link, count > 0 || !name.includes("-"));
    if (name === "approvals") this.#title(count);
  }

  #goTo(event, target) {
    event.preventDefault();
    const heading = byId(byId(target)?.hidden ? "points-title" : `${target}-title`);
    heading?.focus({ preventScroll: true });
    heading?.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  #title(waiting) {
    document.title = `${waiting ? `(${waiting}) ` : ""}${byId("name").textContent} · dpd`;
  }

  notice(words) {
    this.#banner("notice", words);
    announce(words);
  }

  #banner(which, words) {
    const banner = byId(`banner-${which}`);
    setSentence(banner, words);
    show(banner, Boolean(words));
  }

  banner(which, words) {
    this.#banner(which, words);
  }

  #setConnection(state, words) {
    setAttribute(byId("connection"), "data-state", state);
    setText(byId("connection-text"), words);
  }

  #tellAway(seconds, error) {
    if (!this.awaySince) {
      this.awaySince = Date.now() / 1000;
      announce("dpd does not answer");
    }
    document.body.dataset.state = "away";
    show(byId("loading"), false);
    this.#setConnection("away", "No answer");
    const known = this.parts === null ? "" : " What is shown is as it was then.";
    const why = this.point && error.message !== NO_ANSWER ? ` ${sentence(plain(error.message))}.` : "";
    const who = this.point ? plain(this.point, 63) : "dpd";
    this.#banner("away", `${who} has not answered since ${timeOfDay(this.awaySince)}.${why}${known} This page goes on trying, every ${Math.ceil(seconds)} s now.`);
  }

  #tellBack() {
    if (this.awaySince) announce("dpd answers again");
    this.awaySince = 0;
    this.#banner("away", "");
    document.body.dataset.state = "live";
    this.#setConnection("live", "Live");
  }

  /** 401: a token that dpd knows no more, or none where one is needed. */
  #tellRefused() {
    this.messages?.stop();
    this.live.stop();
    if (token()) {
      this.account.forget();
      this.notice("dpd does not know your token any more. Sign in again to give orders.");
      this.start();
      return;
    }
    if (this.parts !== null) {
      location.reload(); // nothing of what was shown stays in the page
      return;
    }
    this.account.forget();
    document.body.dataset.state = "signed-out";
    this.#setConnection("refused", "Signed out");
    for (const id of ["loading", "panels", "figures", "banner-away"]) show(byId(id), false);
    show(byId("signed-out"), true);
  }

  /** An error as a sentence that says what to do. */
  explain(error) {
    if (error instanceof Away) return `dpd did not answer (${error.message}). Look whether it was done before you try again.`;
    if (error.status === 403) return `Your role does not allow that. ${sentence(plain(error.message))}`;
    return sentence(plain(error.message, 500));
  }
}

new Desk().start();
