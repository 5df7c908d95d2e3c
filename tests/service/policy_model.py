# SPDX-License-Identifier: Apache-2.0
"""Boot policy once more, as plainly as can be: everything is looked at anew each time, nothing is kept ready, nothing has a
version. What `dpd.site` says is to be what this says."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from dpd.site.decision import BootRequest
from dpd.site.records import Audience, Deployment, Purpose, Rerun

SAME_BOOT_S, LIFETIME_S, HOUR_S = 180.0, 600.0, 3600.0
ARCHS = {"X": {"uefi-x64"}, "Y": {"uefi-x64", "bios"}, "D": {"uefi-x64", "bios"}}
SUBNET, SUBNET_MODE = "10.9.0.0/16", "pending"


@dataclass
class Rules:
    """What the settings say."""

    mode: str = "allow"
    ignored: set[str] = field(default_factory=set)
    pin: str = ""
    most: int = 0
    default: str = ""
    shared: set[str] = field(default_factory=set)


@dataclass
class Group:
    """A collection: who is named, a pattern of names or a beginning of MACs, and other collections."""

    named: set[str] = field(default_factory=set)
    pattern: str = ""
    prefix: str = ""
    include: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class Word:
    """What policy says: outcome, cause, computer, deployment, image."""

    outcome: str
    cause: str
    computer: str = ""
    deployment: int = 0
    image: str = ""


@dataclass
class Ticket:
    request: BootRequest
    word: Word
    granted_at: float
    since: float
    until: float

    def holds(self, now: float) -> bool:
        return self.since <= now < self.until


class Model:
    def __init__(self) -> None:
        self.rules = Rules()
        self.maintenance = False
        self.computers: dict[str, tuple[set[str], str, str]] = {}  # name: MACs, GUID, image
        self.collections: dict[str, Group] = {}
        self.deployments: list[Deployment] = []
        self.approved: list[tuple[str, str]] = []  # rules: kind and value
        self.verdicts: dict[str, tuple[str, float]] = {}
        self.runs: dict[tuple[int, str], tuple[float, bool]] = {}  # when begun, whether all was fetched
        self.begun: list[float] = []
        self.tickets: dict[str, Ticket] = {}
        self.addresses: dict[str, str] = {}
        self.waiting: set[str] = set()

    def who(self, request: BootRequest) -> str:
        for name, (macs, _, _) in self.computers.items():
            if request.mac in macs - self.rules.shared:
                return name
        for name, (_, guid, _) in self.computers.items():
            if guid and guid == request.guid and guid not in self.rules.shared:
                return name
        return ""

    def belongs(self, name: str, collection: str) -> bool:
        group = self.collections[collection]
        if group.exclude and self.belongs(name, group.exclude):
            return False
        if name in group.named or (group.include and self.belongs(name, group.include)):
            return True
        if group.pattern and re.fullmatch(group.pattern.replace("*", ".*"), name, re.IGNORECASE):
            return True
        return bool(group.prefix) and any(mac.startswith(group.prefix) for mac in self.computers[name][0])

    def say(self, request: BootRequest, at: float, own: int | None = None) -> Word:
        """`own`: the deployment of a boot under way, 0 for one without; None for one that begins."""
        if request.mac in self.rules.ignored:
            return Word("silent", "ignored_mac")
        if self.maintenance and own is None:
            return Word("silent", "maintenance")
        name = self.who(request)
        cause = "default"
        if not name:
            kind, until = self.verdicts.get(request.mac, ("", 0.0))
            said = kind if kind and (until == 0.0 or at < until) else ""
            if said == "denied":
                return Word("silent", "unknown_denied")
            approved = said == "allowed" or any(self._fits(rule, request) for rule in self.approved)
            inside = ipaddress.ip_address(request.relay or request.server) in ipaddress.ip_network(SUBNET)
            mode = SUBNET_MODE if inside else self.rules.mode
            if not approved and mode == "deny":
                return Word("silent", "unknown_denied")
            if not approved and mode == "pending":
                return Word("wait", "unknown_pending")
            if not approved and self.rules.pin:
                return Word("wait", "pin_missing")
            cause = "unknown_allowed" if approved or self.deployments else "default"
        targets = {name.lower(), "all"} if name else {"unknown"}
        targets |= {f"collection:{each}" for each in self.collections if name and self.belongs(name, each)}
        mine = [each for each in self.deployments if each.target.lower() in targets]
        if not self.deployments or (not name and not mine):
            return self._give(request, "boot", cause, name, None)
        return self._choose(request, at, own, name, mine)

    def _choose(self, request: BootRequest, at: float, own: int | None, name: str, mine: list[Deployment]) -> Word:
        if not mine:
            return Word("abort", "nothing_deployed", name)
        here = [each for each in mine if each.audience is not Audience.CLIENTS]
        if not here:
            return Word("abort", "not_for_pxe", name)
        now = [each for each in here if each.available_from <= at and not 0 < each.expires_at <= at]
        if not now:
            later = any(at < each.available_from and not 0 < each.expires_at <= at for each in here)
            return Word("abort", "not_yet" if later else "expired", name)
        fit = [each for each in now if self._has_arch(request, self._image(name, each))]
        if not fit:
            return Word("abort", "no_image_for_arch", name)
        left = [each for each in fit if not self._has_run(request, each, at, own, name)]
        if not left:
            return Word("abort", "already_run", name)
        best = max(left, key=lambda each: (each.priority, _nearness(each), each.purpose is Purpose.REQUIRED, each.id))
        if best.purpose is Purpose.AVAILABLE:
            return Word("prompt", "available", name, best.id, self._image(name, best))
        lately = sum(each > at - HOUR_S for each in self.begun)
        begun, done = self.runs.get((best.id, name.lower() or request.mac), (None, False))
        is_new = begun is None or done or not 0 <= at - begun < SAME_BOOT_S
        if own is None and is_new and self.rules.most and lately >= self.rules.most:
            return Word("abort", "brake", name, best.id)
        return Word("boot", "required", name, best.id, self._image(name, best))

    def _has_run(self, request: BootRequest, deployment: Deployment, at: float, own: int | None, name: str) -> bool:
        if deployment.purpose is Purpose.AVAILABLE or own == deployment.id:
            return False
        begun, done = self.runs.get((deployment.id, name.lower() or request.mac), (None, False))
        if begun is None or (not done and 0 <= at - begun < SAME_BOOT_S):
            return False
        return deployment.rerun not in (Rerun.ALWAYS, Rerun.IF_SUCCEEDED if done else Rerun.IF_FAILED)

    def _give(self, request: BootRequest, outcome: str, cause: str, name: str, deployment: Deployment | None) -> Word:
        image = self._image(name, deployment)
        if not self._has_arch(request, image):
            return Word("abort", "no_image_for_arch", name)
        return Word(outcome, cause, name, 0, image)

    def _image(self, name: str, deployment: Deployment | None) -> str:
        own = self.computers[name][2] if name else ""
        return own or (deployment.boot_image if deployment else "") or self.rules.default

    def _has_arch(self, request: BootRequest, image: str) -> bool:
        return image == "" or request.arch in ARCHS[image]

    def _fits(self, rule: tuple[str, str], request: BootRequest) -> bool:
        kind, value = rule
        if kind == "mac_prefix":
            return (request.mac + ":").startswith(value + ":")
        return ipaddress.ip_address(request.relay or request.server) in ipaddress.ip_network(value)

    # ---- tickets

    def answer(self, request: BootRequest, word: Word, at: float) -> None:
        """An answer has left."""
        if word.outcome != "wait":
            self.waiting.discard(request.mac)
        if word.cause == "required":
            key = word.deployment, word.computer.lower() or request.mac
            begun, done = self.runs.get(key, (None, False))
            if begun is None or done or not 0 <= at - begun < SAME_BOOT_S:
                self.runs[key] = at, False
                self.begun.append(at)
        old = self.tickets.get(request.mac)
        same = old is not None and (old.word.outcome, old.word.image) == (word.outcome, word.image) and old.holds(at)
        since = old.since if old is not None and same else at
        self.tickets[request.mac] = Ticket(request, word, at, since, at + LIFETIME_S)

    def ticket_at(self, address: str, now: float) -> Ticket | None:
        """The ticket there, judged now."""
        ticket = self.tickets.get(self.addresses.get(address, ""))
        if ticket is None:
            return None
        mac = ticket.request.mac
        if ticket.word.outcome == "wait":
            if ticket.holds(now):
                word = self.say(ticket.request, now)
                if word.outcome == "wait":
                    self.waiting.add(mac)
                if word.outcome == "silent":
                    word = Word("abort", word.cause)
                self.answer(ticket.request, word, now)
            return self.tickets[mac]
        word = self.say(ticket.request, ticket.granted_at, ticket.word.deployment)
        was = ticket.word
        if (word.outcome, word.image, word.deployment) != (was.outcome, was.image, was.deployment):
            del self.tickets[mac]
            return None
        return ticket

    def image_at(self, address: str, now: float) -> str:
        """The image that the machine there may fetch from."""
        ticket = self.ticket_at(address, now)
        return ticket.word.image if ticket is not None and ticket.holds(now) else ""

    def fetched_all(self, address: str) -> None:
        ticket = self.tickets.get(self.addresses.get(address, ""))
        if ticket is not None and ticket.word.cause == "required":
            key = ticket.word.deployment, ticket.word.computer.lower() or ticket.request.mac
            if key in self.runs:
                self.runs[key] = self.runs[key][0], True

    def restart(self, now: float) -> None:
        """Tickets, addresses and who waits are in memory; the rest is on the disk."""
        self.tickets, self.addresses, self.waiting = {}, {}, set()
        self.begun = [at for at in self.begun if at >= now - HOUR_S]
        self.verdicts = {mac: each for mac, each in self.verdicts.items() if not 0 < each[1] <= now}


def _nearness(deployment: Deployment) -> int:
    return 0 if deployment.target == "all" else 1 if deployment.target.startswith("collection:") else 2
