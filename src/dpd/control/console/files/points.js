// SPDX-License-Identifier: Apache-2.0
// The site's distribution points, on the page of the site server: how each stands, and the way to look at it.

import { getHere } from "./api.js";
import { Rows, announce, badge, el, setAttribute, setBadge, setText } from "./dom.js";
import { Finder } from "./finder.js";
import { Panel } from "./panel.js";
import { plain, plural, setTimeAgo, timeAgo } from "./words.js";

const STATES = { present: ["ok", "Present"], away: ["bad", "Away"], never: ["idle", "Never heard"] };
const COLUMNS = ["Point", "State", "Last heard", "Policy", "Waiting", "Machines", "Sessions", "Jobs", "Groups"];

export class Points {
  constructor(section, session) {
    this.session = session;
    this.finder = new Finder("a point", "name, group or state", () => this.#render());
    this.panel = new Panel(section, "Distribution points", { tools: [this.finder.search] });
    this.body = el("tbody");
    const head = el("tr", {}, ...COLUMNS.map((name) => el("th", { scope: "col" }, name)));
    const table = el("table", { class: "points cards-when-narrow" }, el("thead", {}, head), this.body);
    this.panel.body.append(el("div", { class: "scroll-x" }, table));
    this.rows = new Rows(this.body, (point) => point.name, () => new Point());
    this.points = [];
    this.states = null;
  }

  paceMs() {
    return 5000;
  }

  wants(message) {
    return /^(point|site|bus)\b/.test(message.event);
  }

  async load(isCurrent) {
    const { points } = await getHere("/v1/points");
    if (!isCurrent()) return;
    this.points = [...points].sort((a, b) => rankOf(a) - rankOf(b) || (a.name < b.name ? -1 : 1));
    this.#announceChanges();
    this.#render();
  }

  #render() {
    const found = this.finder.matches(this.points, (point) => `${point.name} ${(point.groups ?? []).join(" ")} ${point.state}`);
    this.rows.show(found);
    const away = this.points.filter((point) => point.state === "away").length;
    const empty = this.points.length ? "No point like that." : "No point yet. Give a distribution point the [bus] settings of this site, or declare it with `dpd point add NAME`.";
    this.panel.tell(this.points.length ? plural(this.points.length, "point") : "", !found.length, empty);
    this.session.figure("points", this.points.length, this.points.length === 1 ? "point" : "points", "");
    this.session.figure("points-away", away, away === 1 ? "point is away" : "points are away", away ? "bad" : "");
  }

  #announceChanges() {
    const states = new Map(this.points.map((point) => [point.name, point.state]));
    for (const [name, state] of this.states === null ? [] : states) {
      if (this.states.get(name) !== state) announce(`${name}: ${(STATES[state] ?? ["", state])[1]}`);
    }
    this.states = states;
  }
}

/** What needs somebody stands first. */
function rankOf(point) {
  if (point.state === "away") return 0;
  return point.pending ? 1 : 2;
}

class Point {
  constructor() {
    this.link = el("a", { class: "break" });
    this.description = el("span", { class: "quiet" });
    this.badge = badge();
    this.heard = timeAgo(0, "never");
    const cell = (name, ...children) => el("td", { "data-name": name }, ...children);
    this.policy = cell("Policy");
    this.pending = cell("Waiting");
    this.machines = cell("Machines");
    this.sessions = cell("Sessions");
    this.jobs = cell("Jobs");
    this.groups = cell("Groups");
    this.node = el(
      "tr",
      {},
      el("th", { scope: "row" }, this.link, this.description),
      cell("State", this.badge),
      cell("Last heard", this.heard),
      this.policy,
      this.pending,
      this.machines,
      this.sessions,
      this.jobs,
      this.groups,
    );
  }

  update(point) {
    setText(this.link, point.name);
    setAttribute(this.link, "href", `/?point=${encodeURIComponent(point.name)}`);
    setText(this.description, plain(point.description, 80));
    setBadge(this.badge, ...(STATES[point.state] ?? ["idle", plain(point.state, 20)]));
    setTimeAgo(this.heard, point.last_seen_at, "never");
    setText(this.policy, policyOf(point));
    setAttribute(this.policy, "class", point.policy_lag ? "behind" : null);
    for (const name of ["pending", "machines", "sessions", "jobs"]) setText(this[name], point[name] ?? "–");
    setAttribute(this.pending, "class", point.pending ? "behind" : null);
    setText(this.groups, (point.groups ?? []).map((group) => plain(group, 63)).join(", ") || "–");
  }
}

function policyOf(point) {
  if (!point.policy_version) return "none yet";
  return point.policy_lag ? `${point.policy_version}, ${point.policy_lag} behind` : `${point.policy_version}`;
}
