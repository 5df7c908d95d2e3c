// SPDX-License-Identifier: Apache-2.0
// Multicast sessions: how far each is, how fast, and who holds it up.

import { get, post, remove } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, badge, el, setAttribute, setBadge, setSentence, setText, show } from "./dom.js";
import { Elsewhere, places, postAt } from "./elsewhere.js";
import { Bar, Panel, opener, tool } from "./panel.js";
import { VERSION } from "./packages.js";
import { percent, plain, plural, sentence, size } from "./words.js";

const STATES = { sending: ["info", "Sending"], waiting: ["warn", "Waiting"], idle: ["idle", "Idle"], stopped: ["idle", "Stopped"] };
const BEHIND = 0.15; // of the whole, behind the middle of the others
const LOSSES = 0.02;

export class Sessions {
  constructor(section, session) {
    this.session = session;
    this.start = tool("Start…", () => this.#ask());
    this.panel = new Panel(section, "Sessions", { tools: [this.start], empty: "No session. The first receiver that joins opens one, or `dpd session start PACKAGE`." });
    this.list = el("ul", { class: "list" });
    this.panel.body.append(this.list);
    this.rows = new Rows(this.list, (each) => `${each.point ?? ""} ${each.session_id}`, () => new Session(session, this));
    this.sessions = [];
    this.elsewhere = new Elsewhere("sessions");
  }

  paceMs() {
    const isSending = this.sessions.some((each) => each.state === "sending");
    if (this.session.isSite) return isSending ? 3000 : 10_000; // each look asks several points
    return isSending ? 1000 : this.sessions.length ? 3000 : 10_000;
  }

  wants(message) {
    if (message.event === "session_started") this.elsewhere.call(message.fields?.point);
    if (this.session.isSite) return message.event.startsWith("session");
    return /^(session|receiver)/.test(message.event);
  }

  async load(isCurrent) {
    const pick = (reply) => reply.sessions;
    const sessions = this.session.isSite ? await this.elsewhere.ask("/v1/sessions", pick) : pick(await get("/v1/sessions"));
    if (!isCurrent()) return;
    show(this.start, this.session.mayOperate);
    this.sessions = sessions;
    this.rows.show(sessions);
    const receivers = sessions.reduce((sum, each) => sum + each.members.length, 0);
    this.panel.tell(sessions.length ? plural(receivers, "receiver") : "", !sessions.length);
    const active = sessions.filter((each) => each.state === "sending" || each.state === "waiting").length;
    this.session.figure("sessions", receivers, receivers === 1 ? "receiver" : "receivers", active ? "info" : "");
  }

  async #ask() {
    const { isSite } = this.session;
    const packages = async () => (await get("/v1/packages?limit=1000")).packages.map((each) => each.package_id);
    askFor(this.session, {
      title: "Start a session",
      words: "It sends as soon as receivers join; where a number is given, as soon as so many have joined or the first has waited long enough.",
      fields: [
        { name: "package_id", label: "Package", required: true, maxlength: 64, placeholder: "LAB00001", ...(isSite ? {} : { suggestions: packages }) },
        ...(isSite ? [{ name: "place", label: "At", kind: "choice", options: await places() }] : []),
        { name: "minimum_clients", label: "Receivers to wait for", kind: "number", min: 0, max: 10_000 },
        { name: "wait_s", label: "No longer than, in seconds", kind: "number", min: 0, max: 86_400, when: (values) => values.minimum_clients > 0 },
        { ...VERSION, isRare: true },
        { name: "start_at", label: "Not before", kind: "moment", isRare: true },
        { name: "rate_mbit_s", label: "At most, in Mbit/s", kind: "number", min: 0, max: 400_000, step: "any", isRare: true },
        { name: "max_clients", label: "Receivers by multicast, at most", kind: "number", min: 1, max: 10_000, isRare: true },
      ],
      verb: "Start",
      send: (values) => this.#send(values),
    });
  }

  async #send({ place = "", start_at, ...rest }) {
    const body = { ...rest, start_at: start_at || null };
    if (place) for (const point of await postAt(place, "/v1/sessions", body)) this.elsewhere.call(point);
    else await post("/v1/sessions", body);
    this.session.live.ask(this);
    return `A session of ${rest.package_id} is open`;
  }

  askToStop({ package_id, session_id, point }) {
    askFor(this.session, {
      title: `Stop the session of ${package_id}?`,
      words: "Joins are refused until it is started again.",
      verb: "Stop",
      after: this.panel.heading,
      send: async () => {
        await remove(`/v1/sessions/${session_id}`, point);
        this.session.live.ask(this);
        return `The session of ${package_id} is stopped`;
      },
    });
  }
}

class Session {
  constructor(session, part) {
    this.session = session;
    this.part = part;
    this.badge = badge();
    this.title = el("strong");
    this.facts = el("p", { class: "quiet facts-line" });
    this.bar = new Bar("Received");
    this.slow = el("ul", { class: "slow" });
    this.table = el("div", { class: "members scroll-x", tabindex: "0", role: "region" });
    this.opener = opener("", this.table, (isOpen) => isOpen && this.memberRows.show(this.members));
    this.members = [];
    this.now = tool("Send now", () => this.#sendNow(), "small");
    this.stop = tool("Stop…", () => part.askToStop(this.shown), "small");
    this.error = el("p", { class: "error", role: "alert" });
    this.body = el("tbody");
    this.table.append(membersTable(this.body));
    this.memberRows = new Rows(this.body, (member) => member.member, () => new Member());
    this.slowRows = new Rows(this.slow, (member) => member.member, () => new SlowMember());
    this.node = el("li", { class: "session" }, el("p", { class: "line" }, this.badge, this.title, el("span", { class: "orders" }, this.now, this.stop)), this.bar.node, this.facts, this.error, this.slow, this.opener.button, this.table);
    this.last = null;
    this.rate = 0;
  }

  update(session) {
    this.shown = session;
    const [tone, word] = STATES[session.state] ?? ["idle", plain(session.state, 20)];
    setBadge(this.badge, tone, word);
    setText(this.title, `${session.package_id} version ${session.source_version}${session.point ? ` at ${session.point}` : ""}`);
    const members = session.members.map((member) => judge(member, session));
    this.members = members;
    this.#tellProgress(session, members);
    this.#measure(session);
    setText(this.facts, this.#factsOf(session));
    const slow = members.filter((member) => member.trouble);
    this.slowRows.show(slow.slice(0, 5));
    show(this.slow, slow.length > 0);
    show(this.opener.button, members.length > 0);
    if (!members.length) this.opener.set(false);
    setText(this.opener.words, plural(members.length, "receiver") + (slow.length ? `, ${slow.length} slow` : ""));
    setAttribute(this.table, "aria-label", `Receivers of ${session.package_id}`);
    if (this.opener.isOpen()) this.memberRows.show(members);
    show(this.now, session.state === "waiting" && members.length > 0 && this.session.mayOperate);
    setAttribute(this.now, "aria-label", `Send ${session.package_id} now`);
    show(this.stop, session.state !== "stopped" && this.session.mayOperate);
    setAttribute(this.stop, "aria-label", `Stop the session of ${session.package_id}`);
  }

  #tellProgress(session, members) {
    show(this.bar.node, members.length > 0);
    if (!members.length) return;
    const mean = members.reduce((sum, member) => sum + member.part, 0) / members.length;
    this.bar.set(mean, percent(mean));
  }

  /** From what was sent between two looks. */
  #measure(session) {
    const at = performance.now();
    if (this.last !== null && at - this.last.at > 300) {
      const bits = Math.max(session.bytes_sent - this.last.bytes, 0) * 8;
      const rate = bits / ((at - this.last.at) / 1000) / 1e6;
      this.rate = this.rate ? 0.6 * this.rate + 0.4 * rate : rate;
    }
    if (this.last === null || at - this.last.at > 300) this.last = { at, bytes: session.bytes_sent };
  }

  #factsOf(session) {
    if (session.state === "waiting") return sentence(plain(session.waiting));
    const facts = [
      session.state === "sending" && `${this.rate.toFixed(this.rate < 10 ? 1 : 0)} Mbit/s`,
      session.rate_mbit_s > 0 && `at most ${session.rate_mbit_s} Mbit/s`,
      session.bytes_sent > 0 && `${size(session.bytes_sent)} sent`,
      session.pass_number > 0 && `pass ${session.pass_number}`,
      session.datagrams_sent > 0 && `${((100 * session.repairs_sent) / session.datagrams_sent).toFixed(1)} % repair`,
      session.finished > 0 && `${session.finished} gone before`,
    ];
    return facts.filter(Boolean).join(" · ");
  }

  async #sendNow() {
    setText(this.error, "");
    try {
      await post(`/v1/sessions/${this.shown.session_id}/start`, null, this.shown.point);
      this.session.live.ask(this.part);
    } catch (error) {
      setSentence(this.error, this.session.explain(error));
    }
  }
}

/** What holds a receiver back, in words; "" where nothing does. */
export function judge(member, session) {
  const part = session.slabs ? member.verified_slabs / session.slabs : 0;
  const others = session.members.map((each) => each.verified_slabs / session.slabs).sort((a, b) => a - b);
  const middle = others[Math.floor(others.length / 2)] ?? 0;
  const lost = member.received + member.lost ? member.lost / (member.received + member.lost) : 0;
  const trouble = [
    member.state === "silent" && "is not heard any more",
    member.mode === "unicast" && "gets it by HTTP",
    member.speed_class > 0 && `is in the slower stream ${member.speed_class}`,
    others.length > 2 && middle - part > BEHIND && `has ${percent(part)} where the middle has ${percent(middle)}`,
    lost > LOSSES && `lost ${(100 * lost).toFixed(1)} % on the way`,
    member.socket_drops > 0 && `dropped ${member.socket_drops} datagrams itself`,
  ].filter(Boolean);
  return { ...member, part, lostPart: lost, trouble: trouble.join(", ") };
}

function hostOf(member) {
  return plain(member.name, 60) || plain(member.address, 60);
}

class SlowMember {
  constructor() {
    this.who = el("strong");
    this.words = el("span");
    this.node = el("li", {}, this.who, " ", this.words);
  }

  update(member) {
    setText(this.who, hostOf(member));
    setText(this.words, member.trouble);
  }
}

const COLUMNS = [["Receiver"], ["Received"], ["State"], ["Lost", "right"], ["Drops", "right"], ["Disk", "right"]];

function membersTable(body) {
  const head = el("tr", {}, ...COLUMNS.map(([name, side]) => el("th", { scope: "col", class: side }, name)));
  return el("table", {}, el("thead", {}, head), body);
}

class Member {
  constructor() {
    this.who = el("th", { scope: "row" });
    this.bar = new Bar("Received");
    this.state = el("td");
    this.lost = el("td", { class: "right" });
    this.drops = el("td", { class: "right" });
    this.drain = el("td", { class: "right" });
    this.node = el("tr", {}, this.who, el("td", {}, this.bar.node), this.state, this.lost, this.drops, this.drain);
  }

  update(member) {
    setText(this.who, hostOf(member));
    setAttribute(this.who, "title", member.address);
    this.bar.set(member.part, percent(member.part));
    setText(this.state, member.mode === "unicast" ? `${member.state} (HTTP)` : member.state);
    setText(this.lost, `${(100 * member.lostPart).toFixed(1)} %`);
    setText(this.drops, member.socket_drops);
    setText(this.drain, member.drain_kib_s ? `${size(member.drain_kib_s * 1024)}/s` : "–");
    setAttribute(this.node, "class", member.trouble ? "slow-row" : null);
  }
}
