// SPDX-License-Identifier: Apache-2.0
// Who looks: the token that is typed in, what it allows, and how to be rid of it.

import { Away, getHere, setToken, token } from "./api.js";
import { announce, setSentence, setText, show } from "./dom.js";
import { plain, sentence } from "./words.js";

const RANKS = { viewer: 0, operator: 1, admin: 2 };
const byId = (id) => document.getElementById(id);

export class Account {
  /** `changed()`: somebody else looks from now on. */
  constructor(changed) {
    this.changed = changed;
    this.caller = null;
    this.dialog = byId("sign-in");
    this.field = byId("token");
    this.error = byId("sign-in-error");
    byId("account").addEventListener("click", () => (this.isSignedIn ? this.signOut() : this.ask()));
    byId("sign-in-first").addEventListener("click", () => this.ask());
    byId("sign-in-cancel").addEventListener("click", () => this.dialog.close());
    byId("sign-in-form").addEventListener("submit", (event) => (event.preventDefault(), this.#signIn()));
    this.dialog.addEventListener("close", () => (this.field.value = ""));
  }

  get isSignedIn() {
    return token() !== "" && this.caller !== null;
  }

  get mayOperate() {
    return this.caller !== null && RANKS[this.caller.role] >= RANKS.operator;
  }

  get mayAdminister() {
    return this.caller !== null && RANKS[this.caller.role] >= RANKS.admin;
  }

  /** Signing in is refused over plain HTTP from elsewhere, since the token could be read on the way. */
  get maySignIn() {
    return window.isSecureContext;
  }

  /** Ask the server who this is. Raises Refused with 401 where it lets nobody look that it does not know. */
  async look() {
    this.caller = await getHere("/v1/caller");
    this.render();
  }

  ask() {
    setText(this.error, "");
    if (!this.dialog.open) this.dialog.showModal();
    this.field.focus();
  }

  async #signIn() {
    const before = token();
    setText(this.error, "");
    setToken(this.field.value.trim());
    try {
      this.caller = await getHere("/v1/caller");
    } catch (error) {
      setToken(before);
      const isUnknown = error.status === 401;
      setSentence(this.error, error instanceof Away ? "dpd does not answer. Try again when it does." : isUnknown ? `dpd does not know this token. ${sentence(plain(error.message))}` : sentence(plain(error.message)));
      this.field.select();
      return;
    }
    this.dialog.close();
    announce(`Signed in, role ${this.caller.role}`);
    this.changed();
  }

  signOut() {
    this.forget();
    announce("Signed out");
    this.changed();
  }

  forget() {
    setToken("");
    this.caller = null;
    this.render();
  }

  render() {
    const button = byId("account");
    show(button, this.maySignIn);
    setText(button, this.isSignedIn ? "Sign out" : "Sign in");
    const role = this.isSignedIn ? `${plain(this.caller.name, 40)} (${this.caller.role})` : "Read only";
    setText(byId("role"), role);
    byId("role").title = this.maySignIn ? "" : "Signing in needs HTTPS, or this page on the server itself";
  }
}
