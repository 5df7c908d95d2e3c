// SPDX-License-Identifier: Apache-2.0
// Questions to the API of the server that this page came from, with the token that somebody typed in.

import { noteServerTime } from "./words.js";

const TOKEN = "dpd-token"; // in sessionStorage: it goes with the tab and reaches no other
const PATIENCE_MS = 15_000;
const BETWEEN = new Set([502, 503, 504]); // of the site server, when the point that is meant gives no answer

/** The server understood and refused; `message` is its sentence. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const NO_ANSWER = "no answer";

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
export function pathOf(path, at = point) {
  return at ? path.replace(/^\/v1\//, `/v1/points/${encodeURIComponent(at)}/`) : path;
}

// `at` names a point for who stands at the site server and means one of its points.
export const get = (path, at = point) => ask("GET", pathOf(path, at));
export const post = (path, body = null, at = point) => ask("POST", pathOf(path, at), body);
export const patch = (path, body, at = point) => ask("PATCH", pathOf(path, at), body);
export const remove = (path, at = point) => ask("DELETE", pathOf(path, at));
/** Asked of the server itself, whatever point is looked at. */
export const getHere = (path) => ask("GET", path);
export const postHere = (path, body) => ask("POST", path, body);

async function ask(method, path, body = null) {
  const given = body === null ? {} : { body: JSON.stringify(body) };
  const type = body === null ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    response = await fetch(path, { method, headers: { ...headers(), ...type }, cache: "no-store", signal, ...given });
  } catch {
    throw new Away(NO_ANSWER);
  }
  noteServerTime(response.headers.get("Date"));
  let reply;
  try {
    reply = await response.json();
  } catch {
    throw new Away(`an answer that is not dpd's (HTTP ${response.status})`);
  }
  if (response.ok) return reply;
  if (point && BETWEEN.has(response.status)) throw new Away(reply?.error?.message ?? "no answer from the point");
  throw new Refused(response.status, reply?.error?.code ?? "", reply?.error?.message ?? `HTTP ${response.status}`);
}
