// SPDX-License-Identifier: Apache-2.0
// Boot policy at a glance: whose it is, whether machines are answered, and who changed what last.

import { get, patch } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, announce, el, setSentence, setText, show } from "./dom.js";
import { Panel, tool } from "./panel.js";
import { moment, plain, plural, setTimeAgo, timeAgo } from "./words.js";

const SHOWN = 8;
const SWITCHES = [
  {
    name: "machines",
    path: "/v1/pxe/maintenance",
    begin: "Stop boots…",
    end: "Answer machines again",
    title: "Answer no machine",
    words: "No machine that asks for a network boot is answered until somebody ends this; boots under way go on.",
    begun: "No machine is answered from now on",
    ended: "Machines are answered again",
  },
  {
    name: "content",
    path: "/v1/maintenance",
    begin: "Stop content…",
    end: "Hand out content again",
    title: "Keep content as it is",
    words: "No new content comes in and none is handed out until somebody ends this; validation goes on.",
    begun: "Content stays as it is from now on",
    ended: "Content is handed out again",
  },
];

export class Policy {
  constructor(section, desk) {
    this.desk = desk;
    const own = desk.isSite ? SWITCHES.slice(0, 1) : SWITCHES; // a site server has no content
    this.switches = own.map((each) => new Switch(each, this));
    this.panel = new Panel(section, "Policy", { tools: this.switches.map((each) => each.button) });
    this.facts = el("p", { class: "quiet" });
    this.title = el("h3", { class: "minor" }, "Last changes");
    this.list = el("ol", { class: "changes" });
    this.fault = el("p", { class: "error", role: "alert" });
    this.panel.body.append(this.fault, this.facts, this.title, this.list);
    this.rows = new Rows(this.list, (entry) => entry.id, (entry) => new Change(entry));
  }

  paceMs() {
    return 10_000;
  }

  wants(message) {
    return /^(policy|bus\.policy|maintenance|point)/.test(message.event);
  }

  async load(isCurrent) {
    const [policy, { entries }, ...reasons] = await Promise.all([get("/v1/policy"), get(`/v1/audit?limit=${SHOWN}`), ...this.switches.map((each) => get(each.path))]);
    if (!isCurrent()) return;
    const site = policy.authority?.site ?? "";
    for (const [place, each] of this.switches.entries()) {
      each.update(reasons[place].reason, this.desk.mayAdminister && (each.name === "content" || site === ""));
    }
    this.panel.tell(`version ${policy.policy_version}`, false);
    setText(this.facts, factsOf(policy, this.desk.isSite));
    show(this.title, entries.length > 0);
    this.rows.show([...entries].reverse());
  }

  async set(each, reason) {
    await patch(each.path, { reason });
    this.desk.live.askAll();
  }

  tellFault(error) {
    setSentence(this.fault, error === null ? "" : this.desk.explain(error));
  }
}

function factsOf(policy, isSite) {
  const { authority } = policy;
  const whose = authority === null ? (isSite ? "The site's" : "This point's own") : `Of site ${plain(authority.site, 63)}, its version ${authority.version} of ${moment(authority.at)}; it is changed there`;
  const counted = [["computer"], ["collection"], ["deployment"], ["boundary", "boundaries"], ["point"]].map(([one, many]) => plural(policy[many ?? `${one}s`], one, many));
  return `${whose} · affinity ${policy.affinity_mode} · ${counted.join(" · ")}`;
}

/** A button that asks for a reason, or ends what has one. */
class Switch {
  constructor(texts, part) {
    Object.assign(this, texts);
    this.part = part;
    this.reason = "";
    this.button = tool("", () => (this.reason ? this.#end() : this.#ask()));
  }

  update(reason, mayChange) {
    this.reason = reason;
    setText(this.button, reason ? this.end : this.begin);
    show(this.button, mayChange);
  }

  #ask() {
    askFor(this.part.desk, {
      title: this.title,
      words: this.words,
      fields: [{ name: "reason", label: "Reason", required: true, maxlength: 200, help: "Who looks is told it." }],
      verb: "Stop",
      send: async ({ reason }) => {
        await this.part.set(this, reason);
        return this.begun;
      },
    });
  }

  async #end() {
    this.part.tellFault(null);
    try {
      await this.part.set(this, "");
      announce(this.ended);
    } catch (error) {
      this.part.tellFault(error);
    }
  }
}

class Change {
  constructor(entry) {
    const time = timeAgo(0);
    setTimeAgo(time, entry.at);
    const what = el("span", { class: "text" }, [plain(entry.action, 40), plain(entry.detail, 300)].filter(Boolean).join(": "));
    this.node = el("li", {}, what, el("span", { class: "quiet" }, `${plain(entry.actor, 60)}, `, time));
  }

  update() {}
}
