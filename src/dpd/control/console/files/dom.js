// SPDX-License-Identifier: Apache-2.0
// Building and keeping up elements. Data only ever becomes text: there is no way from here to markup.

/** An element. `props`: attributes by name; `class`; `on`: listeners by event. Children are nodes or text; null is left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else {
      setAttribute(node, name, value);
    }
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Nothing is touched where nothing changes, so that nothing flickers, is announced again or loses a selection. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** `false`, null and undefined take the attribute away; `true` is the bare attribute. */
export function setAttribute(node, name, value) {
  if (value === false || value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/** A sentence in which `commands` stand between backquotes. */
export function setSentence(node, sentence) {
  const plain = sentence.replaceAll("`", "");
  if (node.textContent === plain) return;
  node.replaceChildren(...sentence.split("`").map((part, place) => (place % 2 ? el("code", {}, part) : part)));
}

export function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

/** A word with a colour: `tone` is ok, info, warn, bad or idle. */
export function badge(tone = "idle", text = "") {
  return el("span", { class: `badge ${tone}` }, text);
}

export function setBadge(node, tone, text) {
  setAttribute(node, "class", `badge ${tone}`);
  setText(node, text);
}

/** The children of one container, one for each item, kept by key: a row that stays is the same element, with its focus, what
 * was typed into it and what was opened in it. `make(item)` gives {node, update(item)}. */
export class Rows {
  constructor(container, keyOf, make) {
    this.container = container;
    this.keyOf = keyOf;
    this.make = make;
    this.rows = new Map();
  }

  show(items) {
    const kept = new Map();
    for (const item of items) {
      const key = String(this.keyOf(item));
      const row = this.rows.get(key) ?? this.make(item);
      kept.set(key, row);
      row.update(item);
    }
    for (const [key, row] of this.rows) if (!kept.has(key)) row.node.remove();
    this.rows = kept;
    this.#order([...kept.values()].map((row) => row.node));
  }

  /** Moves what is not in its place, and gives the focus back to what had it. */
  #order(nodes) {
    const focused = document.activeElement;
    let place = this.container.firstElementChild;
    for (const node of nodes) {
      if (node === place) {
        place = place.nextElementSibling;
      } else {
        this.container.insertBefore(node, place);
      }
    }
    if (focused !== document.activeElement && this.container.contains(focused)) focused.focus({ preventScroll: true });
  }
}

const region = () => document.getElementById("announcements");

/** Say it to who cannot see it; the page shows it elsewhere. */
export function announce(text) {
  const said = el("p", {}, text);
  region().append(said);
  setTimeout(() => said.remove(), 10_000);
}
