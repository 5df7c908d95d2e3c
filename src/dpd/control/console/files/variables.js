// SPDX-License-Identifier: Apache-2.0
// What task sequences read: variables of computers and collections. What is secret never comes here.

import { get } from "./api.js";
import { Rows, el, setAttribute, setText, show } from "./dom.js";
import { Finder } from "./finder.js";
import { Panel } from "./panel.js";
import { plain, plural } from "./words.js";

const FIRST = 24;
const COLUMNS = ["For", "Variable", "Value"];
const HIDDEN = "••••";
const MANY = { all: "all known computers", unknown: "unknown computers" };

export class Variables {
  constructor(section, desk) {
    this.finder = new Finder("a variable", "computer, collection or name", () => this.#render());
    this.panel = new Panel(section, "Variables", { tools: [this.finder.search], empty: "" });
    this.body = el("tbody");
    const head = el("tr", {}, ...COLUMNS.map((name) => el("th", { scope: "col" }, name)));
    const table = el("table", { class: "variables cards-when-narrow" }, el("thead", {}, head), this.body);
    this.panel.body.append(el("div", { class: "scroll-x" }, table), this.finder.all);
    this.rows = new Rows(this.body, keyOf, () => new Variable());
    this.variables = [];
    show(section, false);
  }

  paceMs() {
    return 15_000;
  }

  wants(message) {
    return /^(policy|bus\.policy)/.test(message.event);
  }

  async load(isCurrent) {
    const { variables } = await get("/v1/variables");
    if (!isCurrent()) return;
    this.variables = variables;
    show(this.panel.section, variables.length > 0);
    this.#render();
  }

  #render() {
    const found = this.finder.matches(this.variables, (each) => `${wordsOf(each.target)} ${each.name}`);
    const shown = this.finder.cut(found, FIRST);
    this.rows.show(shown);
    this.finder.offer(shown.length, found.length);
    this.panel.tell(plural(this.variables.length, "variable"), !found.length, "No variable like that.");
  }
}

function keyOf(variable) {
  return `${variable.target} ${variable.name}`.toLowerCase();
}

function wordsOf(target) {
  return plain(MANY[target] ?? target.replace(/^collection:/, "collection "), 80);
}

class Variable {
  constructor() {
    this.cells = COLUMNS.map((name) => el("td", { class: "break", "data-name": name }));
    this.node = el("tr", {}, ...this.cells);
  }

  update(variable) {
    const value = variable.secret ? HIDDEN : plain(variable.value, 200);
    [wordsOf(variable.target), plain(variable.name, 256), value].forEach((text, place) => setText(this.cells[place], text));
    setAttribute(this.cells[2], "aria-label", variable.secret ? "secret" : null);
  }
}
