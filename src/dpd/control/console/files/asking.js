// SPDX-License-Identifier: Apache-2.0
// A dialog that asks for what an order needs, and shows the server's refusal beside what was typed.

import { announce, el, setAttribute, setSentence, setText, show } from "./dom.js";

const CONTROLS = { number: "number", moment: "datetime-local", text: "text" };

/** Opens it. `fields` as Field has them; `words` say what will happen; `send(values)` is the order: it returns the sentence that is
 * announced, and what it throws is shown. `after` gets the focus where the button that opened the dialog is gone by then. */
export function askFor(desk, { title, words = "", fields = [], verb, send, after = null }) {
  new Asking(desk, { title, words, fields, verb, send, after }).open();
}

class Asking {
  constructor(desk, { title, words, fields, verb, send, after }) {
    this.desk = desk;
    this.send = send;
    this.after = after;
    this.fields = fields.map((field) => new Field(field, () => this.#update()));
    this.error = el("p", { class: "error", role: "alert" });
    this.submit = el("button", { type: "submit", class: "primary" }, verb);
    const cancel = el("button", { type: "button", class: "plain", on: { click: () => this.dialog.close() } }, "Cancel");
    const told = el("p", { class: "quiet", id: "asking-words" });
    setSentence(told, words);
    show(told, words !== "");
    const [usual, rare] = [false, true].map((isRare) => this.fields.filter((field) => field.isRare === isRare).map((field) => field.node));
    const more = rare.length ? el("details", {}, el("summary", {}, "More"), el("div", { class: "fields" }, ...rare)) : null;
    const form = el(
      "form",
      { method: "dialog", on: { submit: (event) => (event.preventDefault(), this.#order()) } },
      el("h2", { id: "asking-title" }, title),
      told,
      el("div", { class: "fields" }, ...usual),
      more,
      el("div", { class: "foot" }, this.error, el("p", { class: "actions" }, this.submit, cancel)),
    );
    this.dialog = el("dialog", { class: "asking", "aria-labelledby": "asking-title", "aria-describedby": "asking-words", on: { close: () => this.#closed() } }, form);
  }

  open() {
    document.body.append(this.dialog);
    this.#update();
    this.dialog.showModal();
    (this.fields.find((field) => field.isShown)?.input ?? this.submit).focus();
    for (const field of this.fields) field.suggest();
  }

  #values() {
    return Object.fromEntries(this.fields.filter((field) => field.isShown).map((field) => [field.name, field.value]));
  }

  #update() {
    const values = this.#values();
    for (const field of this.fields) field.update(values);
  }

  async #order() {
    if (this.isBusy) return;
    this.#setBusy(true);
    setText(this.error, "");
    try {
      const said = await this.send(this.#values());
      this.dialog.close();
      announce(said);
    } catch (error) {
      this.#tell(error);
    } finally {
      this.#setBusy(false);
    }
  }

  /** The refusal, at the field that it speaks of, if it does. */
  #tell(error) {
    for (const field of this.fields) field.reveal(error.code);
    setSentence(this.error, this.desk.explain(error));
    const meant = this.fields.find((field) => field.isShown && (error.message.startsWith(`${field.name}:`) || field.revealedBy === error.code));
    meant?.input.focus();
  }

  #setBusy(isBusy) {
    this.isBusy = isBusy;
    setAttribute(this.submit, "aria-disabled", isBusy ? "true" : null);
  }

  #closed() {
    this.dialog.remove();
    if (this.after && (document.activeElement === document.body || !document.activeElement?.checkVisibility())) this.after.focus();
  }
}

/** `kind`: text, number, moment (which is seconds since the epoch, 0 where nothing is given) or choice, of `options`: [value, words] or
 * {label, options}. `suggestions()` promises words that may be typed. `when(values)`: whether it is asked for; `revealedBy`: only after
 * a refusal with this code. `isRare`: behind "More". */
class Field {
  constructor({ name, label, kind = "text", options = [], suggestions = null, help = "", value = "", when = () => true, revealedBy = "", isRare = false, ...attributes }, onChange) {
    Object.assign(this, { name, kind, when, revealedBy, isRare, suggestions });
    this.isRevealed = revealedBy === "";
    const id = `asked-${name}`;
    const told = help ? { "aria-describedby": `${id}-help` } : {};
    const props = { id, name, ...told, ...attributes, on: { input: onChange } };
    this.input = kind === "choice" ? el("select", props, ...options.map(option)) : el("input", { ...props, type: CONTROLS[kind], autocomplete: "off", spellcheck: "false" });
    if (value !== "") this.input.value = value;
    this.words = el("datalist", { id: `${id}-words` });
    if (suggestions) setAttribute(this.input, "list", this.words.id);
    const helpNode = help ? el("span", { class: "quiet", id: `${id}-help` }, help) : null;
    this.node = el("div", { class: "field" }, el("label", { for: id }, label), this.input, helpNode, suggestions ? this.words : null);
  }

  get isShown() {
    return !this.node.hidden;
  }

  get value() {
    const text = this.input.value.trim();
    if (this.kind === "number") return text === "" ? null : Number(text);
    if (this.kind === "moment") return text === "" ? 0 : new Date(text).getTime() / 1000;
    return text;
  }

  /** What is not asked for must not keep the form from being sent. */
  update(values) {
    show(this.node, this.isRevealed && this.when(values));
    setAttribute(this.input, "disabled", !this.isShown);
  }

  reveal(code) {
    if (!code || code !== this.revealedBy) return;
    this.isRevealed = true;
    this.update({});
  }

  async suggest() {
    const words = await this.suggestions?.().catch(() => []);
    this.words.replaceChildren(...(words ?? []).map((word) => el("option", { value: word })));
  }
}

function option(each) {
  if (Array.isArray(each)) return el("option", { value: each[0] }, each[1]);
  return el("optgroup", { label: each.label }, ...each.options.map(option));
}
