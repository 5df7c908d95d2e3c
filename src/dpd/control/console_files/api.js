// SPDX-License-Identifier: Apache-2.0
// Questions to the API of the server that this page came from, with the token that somebody typed in.

import { noteServerTime } from "./words.js";

const TOKEN = "dpd-token"; // in sessionStorage: it goes with the tab and reaches no other
const PATIENCE_MS = 15_000;

/** The server understood and refused; `message` is its sentence. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** No answer, or none that dpd gives: it is not there, or something between is broken. */
export class Away extends Error {}

let point = "";

/** From now on the questions go to this distribution point, by way of the site server; "" is the server itself. */
export function lookAt(name) {
  point = name;
}

export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
}

export function headers() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

/** The path as the server that is looked at has it. */
export function pathOf(path) {
  return point ? path.replace(/^\/v1\//, `/v1/points/${encodeURIComponent(point)}/`) : path;
}

export const get = (path) => ask("GET", pathOf(path));
export const post = (path, body = null) => ask("POST", pathOf(path), body);
export const remove = (path) => ask("DELETE", pathOf(path));
/** Asked of the server itself, whatever point is looked at. */
export const getHere = (path) => ask("GET", path);

async function ask(method, path, body = null) {
  const given = body === null ? {} : { body: JSON.stringify(body) };
  const type = body === null ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    response = await fetch(path, { method, headers: { ...headers(), ...type }, cache: "no-store", signal, ...given });
  } catch {
    throw new Away("no answer");
  }
  noteServerTime(response.headers.get("Date"));
  let reply;
  try {
    reply = await response.json();
  } catch {
    throw new Away(`an answer that is not dpd's (HTTP ${response.status})`);
  }
  if (response.ok) return reply;
  throw new Refused(response.status, reply?.error?.code ?? "", reply?.error?.message ?? `HTTP ${response.status}`);
}
