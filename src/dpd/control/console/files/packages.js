// SPDX-License-Identifier: Apache-2.0
// What is in the library, and what is wrong with it: what needs somebody first.

import { get, post } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, badge, el, setBadge, setSentence, setText, show } from "./dom.js";
import { Finder } from "./finder.js";
import { Panel, tool } from "./panel.js";
import { plain, plural } from "./words.js";

const PAGE = 1000;
const FIRST = 24;
export const PRIORITIES = [["2", "Normal"], ["1", "High"], ["3", "Low"]];
export const PRIORITY = { name: "priority", label: "Priority", kind: "choice", options: PRIORITIES };
export const VERSION = { name: "source_version", label: "Version", kind: "number", min: 1, placeholder: "The newest" };
const ORDERS = [
  ["distribute", "Distribute: fetch it, unless it is here"],
  ["update", "Update: fetch what has changed since"],
  ["redistribute", "Redistribute: compare every byte, and fetch what is damaged"],
  ["validate", "Validate: compare what is stored, at idle priority"],
];
const STATES = {
  installed: ["ok", "Installed", 9],
  pending: ["info", "On its way", 3],
  updating: ["info", "Updating", 3],
  monitoring: ["info", "Validating", 4],
  retrying: ["warn", "Retrying", 1],
  failed: ["bad", "Failed", 0],
  "removal-pending": ["info", "Being removed", 4],
  "removal-retrying": ["warn", "Removal retried", 2],
  "removal-failed": ["bad", "Removal failed", 0],
};

export class Packages {
  constructor(section, session) {
    this.session = session;
    this.finder = new Finder("a package", "its ID or state", () => this.#render());
    this.distribute = tool("Distribute…", () => this.#ask());
    this.panel = new Panel(section, "Content", { tools: [this.distribute, this.finder.search] });
    this.list = el("ul", { class: "tiles" });
    this.panel.body.append(this.list, this.finder.all);
    this.rows = new Rows(this.list, (each) => each.package_id, () => new Package());
    this.packages = [];
  }

  paceMs() {
    return this.packages.some((each) => each.state !== "installed") ? 5000 : 20_000;
  }

  wants(message) {
    return /^(content|job|root|library|bundle)\b/.test(message.event);
  }

  async load(isCurrent) {
    const found = [];
    for (;;) {
      const after = found.length ? `&after=${encodeURIComponent(found.at(-1).package_id)}` : "";
      const { packages } = await get(`/v1/packages?limit=${PAGE}${after}`);
      found.push(...packages);
      if (!isCurrent()) return;
      if (packages.length < PAGE) break;
    }
    show(this.distribute, this.session.mayOperate);
    this.packages = found.sort((a, b) => rankOf(a) - rankOf(b) || (a.package_id < b.package_id ? -1 : 1));
    this.#render();
  }

  #ask() {
    askFor(this.session, {
      title: "Distribute content",
      words: "A job does it, and goes on by itself after a restart.",
      fields: [
        { name: "package_id", label: "Package", required: true, maxlength: 64, placeholder: "LAB00001", suggestions: async () => this.packages.map((each) => each.package_id) },
        { name: "kind", label: "Order", kind: "choice", options: ORDERS },
        VERSION,
        PRIORITY,
      ],
      verb: "Order",
      send: async ({ priority, ...rest }) => {
        const job = await post("/v1/jobs", { priority: Number(priority), ...rest });
        this.session.live.askAll();
        return `Job ${job.id}: ${rest.kind} ${job.package_id}`;
      },
    });
  }

  #render() {
    const { wanted } = this.finder;
    const found = this.finder.matches(this.packages, (each) => `${each.package_id} ${each.state} ${each.why}`);
    const shown = this.finder.cut(found, FIRST);
    this.rows.show(shown);
    const bad = this.packages.filter((each) => toneOf(each) === "bad").length;
    const empty = wanted && this.packages.length ? "No package like that is here." : "No content yet. `dpd content publish image.wim --package LAB00001` puts the first one in.";
    this.panel.tell(this.packages.length ? plural(this.packages.length, "package") : "", !found.length, empty);
    this.finder.offer(shown.length, found.length);
    this.session.figure("packages", this.packages.length, this.packages.length === 1 ? "package" : "packages", "");
    this.session.figure("packages-failed", bad, "in trouble", bad ? "bad" : "", () => this.finder.find("failed"));
  }
}

function rankOf(each) {
  return (STATES[each.state] ?? ["", "", 5])[2] - (each.damaged.length ? 1 : 0);
}

function toneOf(each) {
  return (STATES[each.state] ?? ["idle"])[0];
}

class Package {
  constructor() {
    this.badge = badge();
    this.id = el("strong", { class: "break" });
    this.versions = el("span", { class: "quiet" });
    this.why = el("p", { class: "quiet why" });
    this.node = el("li", {}, el("p", { class: "line" }, this.id, this.versions, this.badge), this.why);
  }

  update(each) {
    const [tone, word] = STATES[each.state] ?? ["idle", plain(each.state, 30)];
    setBadge(this.badge, tone, word);
    setText(this.id, each.package_id);
    setText(this.versions, each.versions.length ? `version ${each.versions.join(", ")}` : "");
    setSentence(this.why, plain(each.why, 400));
    show(this.why, Boolean(each.why));
  }
}
