// SPDX-License-Identifier: Apache-2.0
// The page as a whole: who looks, at what, and whether the server is there.

import { Account } from "./account.js";
import { Away, get, lookAt } from "./api.js";
import { Approvals } from "./approvals.js";
import { announce, el, setAttribute, setBadge, setText, show } from "./dom.js";
import { Jobs } from "./jobs.js";
import { Live } from "./live.js";
import { Machines } from "./machines.js";
import { Messages } from "./messages.js";
import { Packages } from "./packages.js";
import { Points } from "./points.js";
import { Sessions } from "./sessions.js";
import { keepClocks, plain, timeOfDay } from "./words.js";

const byId = (id) => document.getElementById(id);
const STATES = { ready: ["ok", "Ready"], starting: ["info", "Starting"], draining: ["warn", "Shutting down"] };
const FIGURES = ["approvals", "machines", "machines-failed", "points", "points-away", "sessions", "jobs", "packages", "packages-failed"];

/** What the parts share: who looks, the questions' timing, the figures at the top. */
class Desk {
  constructor() {
    this.point = new URLSearchParams(location.search).get("point") ?? "";
    lookAt(this.point);
    this.account = new Account(() => this.start());
    this.live = new Live({
      tellAway: (seconds) => this.#tellAway(seconds),
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
      this.#open(status);
    } catch (error) {
      if (turn !== this.starts) return;
      if (error instanceof Away) {
        this.#tellAway(2);
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
    if (this.parts === null) this.parts = this.#makeParts(status.role === "site" && !this.point);
    show(byId("loading"), false);
    show(byId("signed-out"), false);
    show(byId("panels"), true);
    show(byId("figures"), true);
    document.body.dataset.state = "live";
    this.#setConnection("live", "Live");
    this.live.start(this.parts);
  }

  #makeParts(isSite) {
    this.messages = new Messages(byId("messages"), this);
    const standing = new Standing(this);
    const ofSite = () => [new Points(byId("points"), this)];
    const ofPoint = () => [
      new Approvals(byId("approvals"), this),
      new Machines(byId("machines"), this),
      new Sessions(byId("sessions"), this),
      new Jobs(byId("jobs"), this),
      new Packages(byId("packages"), this),
    ];
    const parts = isSite ? ofSite() : ofPoint();
    for (const id of ["points", "approvals", "machines", "sessions", "jobs", "packages"]) {
      show(byId(id), parts.some((part) => part.panel.section.id === id));
    }
    document.body.classList.toggle("site", isSite);
    return [standing, ...parts, this.messages];
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

  notice(sentence) {
    this.#banner("notice", sentence);
    announce(sentence);
  }

  #banner(which, sentence) {
    const banner = byId(`banner-${which}`);
    setText(banner, sentence);
    show(banner, Boolean(sentence));
  }

  banner(which, sentence) {
    this.#banner(which, sentence);
  }

  #setConnection(state, words) {
    setAttribute(byId("connection"), "data-state", state);
    setText(byId("connection-text"), words);
  }

  #tellAway(seconds) {
    if (!this.awaySince) {
      this.awaySince = Date.now() / 1000;
      announce("dpd does not answer");
    }
    document.body.dataset.state = "away";
    show(byId("loading"), false);
    this.#setConnection("away", "No answer");
    const known = this.parts === null ? "" : " What is shown is as it was then.";
    this.#banner("away", `dpd has not answered since ${timeOfDay(this.awaySince)}.${known} This page goes on trying, every ${Math.ceil(seconds)} s now.`);
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
    if (this.account.isSignedIn || sessionStorage.length) {
      this.account.forget();
      this.notice("dpd does not know your token any more. Sign in again to approve.");
      this.start();
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
    if (error.status === 403) return `Your role does not allow that. ${plain(error.message)}`;
    return plain(error.message, 500);
  }
}

/** The name, the state and the maintenance of what is looked at. */
class Standing {
  constructor(desk) {
    this.desk = desk;
  }

  paceMs() {
    return 5000;
  }

  wants(message) {
    return /^(maintenance|daemon|site|pxe)\b/.test(message.event);
  }

  async load(isCurrent) {
    const isSite = document.body.classList.contains("site");
    const questions = isSite ? ["/v1/status"] : ["/v1/status", "/v1/pxe/maintenance", "/v1/maintenance"];
    const [status, boots, content] = await Promise.all(questions.map((path) => get(path)));
    if (!isCurrent()) return;
    const name = this.desk.point || status.point || status.site || location.hostname;
    setText(byId("name"), plain(name, 63));
    this.#tellAbout(status, isSite);
    const [tone, word] = STATES[status.state] ?? ["idle", plain(status.state, 30)];
    setBadge(byId("state"), tone, word);
    show(byId("state"), true);
    this.desk.banner("maintenance", boots?.reason ? `In maintenance: ${plain(boots.reason)}. No machine is answered; \`dpd pxe maintenance --off\` ends it.` : "");
    this.desk.banner("content-maintenance", content?.reason ? `Content is in maintenance: ${plain(content.reason)}. None comes in and none is handed out.` : "");
  }

  #tellAbout(status, isSite) {
    const about = byId("about");
    const what = isSite ? "Site server" : "Distribution point";
    const words = `${what}, dpd ${plain(status.version, 30)}, since ${timeOfDay(status.started_at)}`;
    if (!this.desk.point) {
      setText(about, words);
    } else if (about.dataset.words !== words) {
      about.replaceChildren(el("a", { href: "/" }, "All points"), ` · ${words}`);
      about.dataset.words = words;
    }
  }
}

new Desk().start();
