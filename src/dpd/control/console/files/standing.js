// SPDX-License-Identifier: Apache-2.0
// What is looked at: its name and state, whether it is in maintenance, and its way to the site.

import { get } from "./api.js";
import { setBadge, setText, show } from "./dom.js";
import { duration, plain, plural, timeOfDay } from "./words.js";

const byId = (id) => document.getElementById(id);
const STATES = { ready: ["ok", "Ready"], starting: ["info", "Starting"], draining: ["warn", "Shutting down"] };

export class Standing {
  constructor(desk) {
    this.desk = desk;
    this.host = byId("name").dataset.host || location.hostname;
  }

  paceMs() {
    return 5000;
  }

  wants(message) {
    return /^(maintenance|policy|daemon|site|pxe|bus)\b/.test(message.event);
  }

  async load(isCurrent) {
    const { isSite } = this.desk;
    const questions = ["/v1/status", "/v1/pxe/maintenance", ...(isSite ? [] : ["/v1/maintenance", "/v1/bus"])];
    const [status, boots, content, bus] = await Promise.all(questions.map((path) => get(path)));
    if (!isCurrent()) return;
    const name = this.desk.point || (isSite ? status.site : bus.point) || this.host;
    setText(byId("name"), plain(name, 63));
    setText(byId("about"), isSite ? aboutSite(status) : aboutPoint(status, bus));
    const [tone, word] = STATES[status.state] ?? ["idle", plain(status.state, 30)];
    setBadge(byId("state"), tone, word);
    show(byId("state"), true);
    this.desk.banner("maintenance", boots.reason ? `In maintenance: ${plain(boots.reason)}. No machine is answered; \`dpd pxe maintenance --off\` ends it.` : "");
    this.desk.banner("content-maintenance", content?.reason ? `Content is in maintenance: ${plain(content.reason)}. None comes in and none is handed out.` : "");
    this.desk.banner("bus", isSite ? siteTrouble(status) : pointTrouble(bus));
  }
}

function aboutSite(status) {
  const counted = [plural(status.computers, "computer"), plural(status.collections, "collection"), plural(status.deployments, "deployment")];
  return `Site server, dpd ${plain(status.version, 30)} · policy ${status.policy_version} · ${counted.join(" · ")}`;
}

function aboutPoint(status, bus) {
  const site = bus.state === "off" ? "" : ` · site ${plain(bus.site, 63)}, policy ${bus.policy_version || "none yet"}`;
  return `Distribution point, dpd ${plain(status.version, 30)} · since ${timeOfDay(status.started_at)}${site}`;
}

function siteTrouble(status) {
  return status.bus.connected ? "" : `No way to the points: ${plain(status.bus.trouble)}. What is changed here reaches them when there is one.`;
}

function pointTrouble(bus) {
  if (bus.state !== "away") return "";
  const held = bus.policy_version ? `Machines boot by policy ${bus.policy_version}, last heard to hold ${duration(bus.policy_age_s)} ago.` : "";
  return `The site cannot be reached: ${plain(bus.trouble)}. ${held}`.trim();
}
