// SPDX-License-Identifier: Apache-2.0
// What is deployed to whom; whoever may adds to it, takes away and lets machines have it once more.

import { get, post, remove } from "./api.js";
import { askFor } from "./asking.js";
import { Rows, badge, el, setAttribute, setBadge, setSentence, setText, show } from "./dom.js";
import { Finder } from "./finder.js";
import { Panel, tool } from "./panel.js";
import { moment, plain, plural, sentence } from "./words.js";

const FIRST = 24;
const STATES = { current: ["ok", "Current"], waiting: ["info", "Not yet"], ended: ["idle", "Ended"] };
const PURPOSES = [["available", "Available: asks at the machine"], ["required", "Required: boots without a key, once"]];
const AUDIENCES = [
  ["all", "Everybody"],
  ["media_and_pxe", "Media and network boots"],
  ["media_and_pxe_hidden", "Who names it"],
  ["clients", "Running systems alone, no network boot"],
];
const RERUNS = [["never", "Never, until it is cleared"], ["if_failed", "If it has not finished"], ["if_succeeded", "If it has finished"], ["always", "Always"]];
const COLUMNS = ["For", "State", "Boot image", "Purpose", "Priority", "From", "Until", "Reaches", "Given to", ""];

export class Deployments {
  constructor(section, desk) {
    this.desk = desk;
    this.finder = new Finder("a deployment", "name, target, boot image or state", () => this.#render());
    this.deploy = tool("Deploy…", () => this.#ask());
    this.panel = new Panel(section, "Deployments", { tools: [this.deploy, this.finder.search] });
    this.owner = el("p", { class: "quiet", hidden: true });
    section.insertBefore(this.owner, this.panel.body);
    this.body = el("tbody");
    const head = el("tr", {}, ...COLUMNS.map((name) => el("th", { scope: "col" }, name || el("span", { class: "unseen" }, "Orders"))));
    const table = el("table", { class: "deployments cards-when-narrow" }, el("thead", {}, head), this.body);
    this.panel.body.append(el("div", { class: "scroll-x" }, table), this.finder.all);
    this.rows = new Rows(this.body, (each) => each.deployment.id, () => new Deployment(this));
    this.deployments = [];
  }

  paceMs() {
    return 10_000;
  }

  wants(message) {
    return /^(policy|bus\.policy)/.test(message.event);
  }

  async load(isCurrent) {
    const [{ deployments }, policy] = await Promise.all([get("/v1/deployments"), get("/v1/policy")]);
    if (!isCurrent()) return;
    this.deployments = [...deployments].reverse();
    const site = policy.authority?.site ?? "";
    this.mayChange = this.desk.mayAdminister && site === "";
    show(this.deploy, this.mayChange);
    setText(this.owner, `They come from site ${plain(site, 63)}, where they are changed.`);
    show(this.owner, site !== "");
    this.#render();
  }

  #render() {
    const found = this.finder.matches(this.deployments, (each) => `${wordsOf(each.deployment)} ${each.deployment.purpose} ${each.state}`);
    const shown = this.finder.cut(found, FIRST);
    this.rows.show(shown);
    this.finder.offer(shown.length, found.length);
    const empty = this.deployments.length ? "No deployment like that." : "Nothing is deployed. `dpd deployment add --computer NAME --boot-image ID` deploys, and so does this page for who has the role admin.";
    this.panel.tell(this.deployments.length ? String(this.deployments.length) : "", !found.length, empty);
    const current = this.deployments.filter((each) => each.state === "current").length;
    this.desk.figure("deployments", current, current === 1 ? "deployment" : "deployments", "");
  }

  #ask() {
    const isFor = (kind) => (values) => values.kind === kind;
    const known = (path, pick) => ({ suggestions: async () => [...new Set(pick(await get(path)))] });
    const { isSite } = this.desk; // a site server has neither boot images nor task sequences
    const images = isSite ? {} : known("/v1/boot-images", (reply) => reply.boot_images.map((each) => each.image_id));
    const sequences = isSite ? {} : known("/v1/sequences", (reply) => reply.sequences.map((each) => each.name));
    const fields = [
      { name: "kind", label: "For", kind: "choice", options: [["computer", "One computer"], ["collection", "A collection"], ["all", "All known computers"], ["unknown", "Unknown machines"]] },
      { name: "computer", label: "Computer", required: true, maxlength: 63, when: isFor("computer"), ...known("/v1/computers", (reply) => reply.computers.map((each) => each.name)) },
      { name: "collection", label: "Collection", required: true, maxlength: 63, when: isFor("collection"), ...known("/v1/collections", (reply) => reply.collections.map((each) => each.collection.name)) },
      { name: "boot_image", label: "Boot image", maxlength: 64, placeholder: "The default one", ...images },
      { name: "sequence", label: "Task sequence", maxlength: 80, placeholder: "None", help: "What the booted machine does; NAME@3 for a version.", ...sequences },
      { name: "purpose", label: "Purpose", kind: "choice", options: PURPOSES },
      { name: "priority", label: "Priority", kind: "number", value: 0, min: -1000, max: 1000, required: true, isRare: true, help: "The higher one wins." },
      { name: "available_from", label: "From", kind: "moment", isRare: true },
      { name: "expires_at", label: "Until", kind: "moment", isRare: true },
      { name: "name", label: "Name", maxlength: 63, isRare: true },
      { name: "rerun", label: "Once more", kind: "choice", options: RERUNS, isRare: true },
      { name: "audience", label: "Offered to", kind: "choice", options: AUDIENCES, isRare: true },
      { name: "confirm", label: "So many computers are meant", kind: "number", min: 0, required: true, revealedBy: "not_confirmed" },
    ];
    askFor(this.desk, { title: "Deploy a boot image", fields, verb: "Deploy", after: this.panel.heading, send: (values) => this.#add(values) });
  }

  async #add({ kind, computer, collection, ...rest }) {
    const target = { computer, collection: `collection:${collection}` }[kind] ?? kind;
    const { deployment } = await post("/v1/deployments", { target, ...rest });
    this.desk.live.ask(this);
    return `Deployment ${deployment.id} for ${whom(deployment.target)} is there`;
  }

  askToRemove(deployment) {
    askFor(this.desk, {
      title: `Remove deployment ${deployment.id}?`,
      words: `${sentence(wordsOf(deployment))}. Boots that it began and that still fetch files end.`,
      verb: "Remove",
      after: this.panel.heading,
      send: async () => {
        await remove(`/v1/deployments/${deployment.id}`);
        await this.load(() => true);
        return `Deployment ${deployment.id} is removed`;
      },
    });
  }

  askToClear(deployment) {
    askFor(this.desk, {
      title: `Let machines have deployment ${deployment.id} once more`,
      fields: [{ name: "machine", label: "Machine", maxlength: 63, placeholder: "Every one that was given it", help: "A computer's name, or the MAC of an unknown machine." }],
      verb: "Clear",
      after: this.panel.heading,
      send: async ({ machine }) => {
        const { cleared } = await post(`/v1/deployments/${deployment.id}/clear`, machine ? { machine } : {});
        this.desk.live.ask(this);
        return `${plural(cleared, "machine")} may have it once more`;
      },
    });
  }
}

function whom(target) {
  const words = { all: "all known computers", unknown: "unknown machines" }[target];
  return words ?? plain(target, 75).replace(/^collection:/, "collection ");
}

function wordsOf(deployment) {
  const name = deployment.boot_image ? `boot image ${plain(deployment.boot_image, 64)}` : "the default boot image";
  const image = deployment.sequence ? `${name} with task sequence ${plain(deployment.sequence, 80)}` : name;
  return [plain(deployment.name, 63), `${image} for ${whom(deployment.target)}`].filter(Boolean).join(": ");
}

class Deployment {
  constructor(part) {
    this.part = part;
    this.target = el("span", { class: "break" });
    this.name = el("span", { class: "quiet" });
    this.badge = badge();
    const cell = (name, ...children) => el("td", { "data-name": name }, ...children);
    this.cells = Object.fromEntries(["Boot image", "Purpose", "Priority", "From", "Until", "Reaches", "Given to"].map((name) => [name, cell(name)]));
    this.image = el("span");
    this.sequence = el("span", { class: "quiet" });
    this.cells["Boot image"].append(this.image, this.sequence);
    this.cells["Boot image"].classList.add("break");
    this.clear = tool("Clear…", () => part.askToClear(this.deployment), "small");
    this.remove = tool("Remove…", () => part.askToRemove(this.deployment), "small");
    this.node = el("tr", {}, el("th", { scope: "row" }, this.target, this.name), cell("State", this.badge), ...Object.values(this.cells), el("td", { class: "orders" }, this.clear, this.remove));
  }

  update({ deployment, state, runs, reaches }) {
    this.deployment = deployment;
    setText(this.target, whom(deployment.target));
    setText(this.name, [plain(deployment.name, 63), `number ${deployment.id}`].filter(Boolean).join(", "));
    setBadge(this.badge, ...(STATES[state] ?? ["idle", plain(state, 20)]));
    const isRequired = deployment.purpose === "required";
    const texts = {
      Purpose: deployment.purpose,
      Priority: deployment.priority,
      From: moment(deployment.available_from),
      Until: moment(deployment.expires_at),
      Reaches: deployment.target === "unknown" ? "–" : reaches,
      "Given to": isRequired ? runs : "–",
    };
    setText(this.image, plain(deployment.boot_image, 64) || "default");
    setText(this.sequence, deployment.sequence ? ` then ${plain(deployment.sequence, 80)}` : "");
    for (const [name, text] of Object.entries(texts)) setText(this.cells[name], text);
    show(this.clear, isRequired && runs > 0 && this.part.desk.mayOperate);
    show(this.remove, this.part.mayChange);
    setAttribute(this.clear, "aria-label", `Clear runs of deployment ${deployment.id}`);
    setAttribute(this.remove, "aria-label", `Remove deployment ${deployment.id}`);
  }
}
