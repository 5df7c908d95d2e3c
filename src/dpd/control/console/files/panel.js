// SPDX-License-Identifier: Apache-2.0
// What every part of the page has: a heading with a count, a place for what is missing, and a body.

import { el, setSentence, setText, show } from "./dom.js";

/** Fills a <section>. `tools` stand beside the heading. */
export class Panel {
  constructor(section, title, { tools = [], empty = "" } = {}) {
    this.section = section;
    this.count = el("span", { class: "count" });
    this.empty = el("p", { class: "empty", hidden: true });
    setSentence(this.empty, empty);
    this.fault = el("p", { class: "error", hidden: true });
    this.body = el("div", { class: "body" });
    const heading = el("h2", { id: `${section.id}-title`, tabindex: "-1" }, title);
    section.replaceChildren(
      el("header", { class: "heading" }, heading, this.count, el("div", { class: "tools" }, ...tools)),
      this.fault,
      this.empty,
      this.body,
    );
    this.heading = heading;
  }

  /** How many there are, in words, and whether there is anything to show. */
  tell(count, isEmpty, emptyWords = null) {
    setText(this.count, count);
    show(this.fault, false);
    if (emptyWords !== null) setSentence(this.empty, emptyWords);
    show(this.empty, isEmpty);
    show(this.body, !isEmpty);
  }

  tellFault(sentence) {
    setSentence(this.fault, sentence);
    show(this.fault, true);
  }
}

/** A button that gives an order, or asks for what it needs. Who may not give it does not see it. */
export function tool(label, act, size = "") {
  return el("button", { type: "button", class: `plain ${size}`.trim(), hidden: true, on: { click: act } }, label);
}

let numbers = 0;

/** A button that opens what it stands before. It stays the same button, so that the keyboard does not lose it. */
export function opener(label, target, onToggle = () => {}) {
  target.id ||= `opened-${(numbers += 1)}`;
  const button = el("button", { type: "button", class: "opener", "aria-expanded": "false", "aria-controls": target.id });
  const words = el("span", { class: "words" }, label);
  button.append(el("span", { class: "arrow", "aria-hidden": "true" }), words);
  target.hidden = true;
  const set = (isOpen) => {
    button.setAttribute("aria-expanded", String(isOpen));
    target.hidden = !isOpen;
    onToggle(isOpen);
  };
  button.addEventListener("click", () => set(target.hidden));
  return { button, words, set, isOpen: () => !target.hidden };
}

/** A bar with the number beside it, for the eye and for a screen reader. */
export class Bar {
  constructor(label) {
    this.progress = el("progress", { max: "1", value: "0", "aria-label": label });
    this.text = el("span", { class: "number" });
    this.node = el("div", { class: "bar" }, this.progress, this.text);
  }

  /** `part` null: it is under way, nobody knows how far. */
  set(part, text) {
    if (part === null) this.progress.removeAttribute("value");
    else this.progress.value = part;
    this.progress.setAttribute("aria-valuetext", text);
    setText(this.text, text);
  }
}
