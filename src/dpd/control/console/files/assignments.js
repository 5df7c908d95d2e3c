// SPDX-License-Identifier: Apache-2.0
// At the site server: which content points and groups are to hold.

import { getHere, postHere, remove } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, el, setAttribute, setText, show } from "./dom.js";
import { places } from "./elsewhere.js";
import { Finder } from "./finder.js";
import { PRIORITIES, PRIORITY, VERSION } from "./packages.js";
import { Panel, tool } from "./panel.js";
import { plain, plural, setTimeAgo, timeAgo } from "./words.js";

const FIRST = 24;
const COLUMNS = ["Package", "For", "Version", "Priority", "Assigned", ""];

export class Assignments {
  constructor(section, desk) {
    this.desk = desk;
    this.finder = new Finder("an assignment", "package, point or group", () => this.#render());
    this.assign = tool("Distribute…", () => this.#ask());
    this.panel = new Panel(section, "Content of the points", { tools: [this.assign, this.finder.search], empty: "" });
    this.body = el("tbody");
    const head = el("tr", {}, ...COLUMNS.map((name) => el("th", { scope: "col" }, name || el("span", { class: "unseen" }, "Orders"))));
    const table = el("table", { class: "assignments cards-when-narrow" }, el("thead", {}, head), this.body);
    this.panel.body.append(el("div", { class: "scroll-x" }, table), this.finder.all);
    this.rows = new Rows(this.body, keyOf, () => new Assignment(this));
    this.assignments = [];
  }

  paceMs() {
    return 15_000;
  }

  async load(isCurrent) {
    const { assignments } = await getHere("/v1/assignments");
    if (!isCurrent()) return;
    this.assignments = assignments;
    show(this.assign, this.desk.mayOperate);
    this.#render();
  }

  #render() {
    const found = this.finder.matches(this.assignments, keyOf);
    const shown = this.finder.cut(found, FIRST);
    this.rows.show(shown);
    this.finder.offer(shown.length, found.length);
    const empty = this.assignments.length ? "No assignment like that." : "No point is told to hold anything. `dpd site content add PACKAGE --group all` has every point fetch a package and keep it.";
    this.panel.tell(this.assignments.length ? plural(this.assignments.length, "assignment") : "", !found.length, empty);
  }

  async #ask() {
    askFor(this.desk, {
      title: "Distribute content",
      words: "The points fetch the package from their sources, and hold it until somebody says otherwise.",
      fields: [
        { name: "package_id", label: "Package", required: true, maxlength: 64, placeholder: "LAB00001" },
        { name: "place", label: "To", kind: "choice", options: await places() },
        VERSION,
        PRIORITY,
      ],
      verb: "Distribute",
      send: async ({ place, priority, ...rest }) => {
        const target = place.startsWith("group:") ? place : `dp:${place}`;
        await postHere("/v1/assignments", { target, priority: Number(priority), ...rest });
        this.desk.live.ask(this);
        return `${rest.package_id} is distributed to ${wordsOf(target)}`;
      },
    });
  }

  askToLetGo(assignment) {
    const { package_id, target } = assignment;
    askFor(this.desk, {
      title: `Let go of ${package_id}?`,
      words: `${wordsOf(target)} will hold it no longer, unless something else says that it is to.`,
      verb: "Let go",
      after: this.panel.heading,
      send: async () => {
        await remove(`/v1/assignments/${encodeURIComponent(target)}/${encodeURIComponent(package_id)}`);
        await this.load(() => true);
        return `${wordsOf(target)} lets go of ${package_id}`;
      },
    });
  }
}

function keyOf({ target, package_id }) {
  return `${target} ${package_id}`;
}

function wordsOf(target) {
  if (target === "group:all") return "Every point";
  return plain(target, 75).replace(/^dp:/, "").replace(/^group:/, "Each point of ");
}

class Assignment {
  constructor(part) {
    const cell = (name, ...children) => el("td", { "data-name": name }, ...children);
    this.id = el("th", { scope: "row", class: "break" });
    this.target = cell("For");
    this.version = cell("Version");
    this.priority = cell("Priority");
    this.since = timeAgo(0);
    this.actor = el("span", { class: "quiet" });
    this.letGo = tool("Let go…", () => part.askToLetGo(this.assignment), "small");
    this.part = part;
    this.node = el("tr", {}, this.id, this.target, this.version, this.priority, cell("Assigned", this.since, this.actor), el("td", { class: "orders" }, this.letGo));
  }

  update(assignment) {
    this.assignment = assignment;
    setText(this.id, assignment.package_id);
    setText(this.target, wordsOf(assignment.target));
    setText(this.version, assignment.source_version ?? "newest");
    setText(this.priority, (PRIORITIES.find(([value]) => Number(value) === assignment.priority) ?? ["", assignment.priority])[1]);
    setTimeAgo(this.since, assignment.added_at);
    setText(this.actor, ` by ${plain(assignment.actor, 60)}`);
    setAttribute(this.letGo, "aria-label", `Let go of ${assignment.package_id} for ${wordsOf(assignment.target)}`);
    show(this.letGo, this.part.desk.mayOperate);
  }
}
