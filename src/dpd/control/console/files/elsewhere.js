// SPDX-License-Identifier: Apache-2.0
// At the site server: what its points have, asked of those that have some, and orders to one point or each of a group.

import { get, getHere, post, postHere } from "./api.js";
import { plain, plural } from "./words.js";

const ASKED = 20;
const GROUP = "group:";

export class Elsewhere {
  /** `count` names how many a point says that it has. */
  constructor(count) {
    this.count = count;
    this.called = new Set(); // points where there are some by now, whatever their last count was
  }

  call(point) {
    if (point) this.called.add(point);
  }

  /** What `pick(reply)` finds in each point's answer to `path`, each with its `point`. A point that does not answer has none. */
  async ask(path, pick) {
    const { points } = await getHere("/v1/points");
    const asked = points.filter((point) => (point[this.count] > 0 || this.called.has(point.name)) && point.state === "present").slice(0, ASKED);
    const answers = await Promise.allSettled(asked.map((point) => get(path, point.name)));
    const found = answers.map((answer, place) => (answer.value ? pick(answer.value) : []).map((each) => ({ ...each, point: asked[place].name })));
    for (const [place, each] of found.entries()) if (!each.length) this.called.delete(asked[place].name);
    return found.flat();
  }
}

/** Points and groups to choose from: a point's name, or "group:NAME". */
export async function places() {
  const { points } = await getHere("/v1/points");
  const groups = [...new Set(points.flatMap((point) => point.groups ?? []))].sort();
  return [
    { label: "Points", options: points.map((point) => [point.name, point.name]) },
    { label: "Groups", options: [...groups.map((group) => [`${GROUP}${group}`, `Each of ${plain(group, 63)}`]), [`${GROUP}all`, "Every point"]] },
  ];
}

/** POST at one point, or at each of a group; the names of the points where it was done. Throws what a point refused, with who has it. */
export async function postAt(place, path, body) {
  if (!place.startsWith(GROUP)) {
    await post(path, body, place);
    return [place];
  }
  const { points } = await postHere(`/v1/groups/${encodeURIComponent(place.slice(GROUP.length))}${path.slice(3)}`, body);
  const refused = points.filter((each) => each.error);
  const done = points.filter((each) => !each.error).map((each) => each.point);
  if (refused.length) {
    const told = refused.slice(0, 3).map((each) => `${each.point}: ${plain(each.error.message, 150)}`);
    throw new Error(`done at ${plural(done.length, "point")}, refused at ${refused.length}. ${told.join(". ")}`);
  }
  return done;
}
