// SPDX-License-Identifier: Apache-2.0
// Finding one among many: a field that narrows a list down, and a button for the rest of a long one.

import { el, setText, show } from "./dom.js";

export class Finder {
  /** `noun` with its article, and `hint`, by what it is found; `render()` draws the list anew. */
  constructor(noun, hint, render) {
    this.render = render;
    this.isWhole = false;
    this.search = el("input", { type: "search", placeholder: `Find ${noun}`, "aria-label": `Find ${noun} by ${hint}`, on: { input: render } });
    this.all = el("button", { type: "button", class: "plain", hidden: true, on: { click: () => this.#showAll() } });
  }

  /** What is looked for, in lower case; "" for everything. */
  get wanted() {
    return this.search.value.trim().toLowerCase();
  }

  /** Those of the items whose text has it. */
  matches(items, textOf) {
    const { wanted } = this;
    return items.filter((item) => textOf(item).toLowerCase().includes(wanted));
  }

  /** No more than the first so many, until somebody wants all. */
  cut(items, first) {
    return this.isWhole ? items : items.slice(0, first);
  }

  /** The button, where some are left out. */
  offer(shown, total) {
    show(this.all, shown < total);
    setText(this.all, `Show all ${total}`);
  }

  /** Show only what is like this; "" for all. */
  find(text) {
    this.search.value = text;
    this.render();
  }

  #showAll() {
    this.isWhole = true;
    const heading = this.all.closest("section").querySelector("h2");
    this.render();
    heading.focus(); // the button is gone
  }
}
