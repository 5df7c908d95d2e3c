# SPDX-License-Identifier: Apache-2.0
"""What was said about unknown machines: one by one, and by rules for those that need nobody's word."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from dpd.site.database import SiteDatabase
from dpd.site.decision import BootRequest
from dpd.site.records import (
    ApprovalRule,
    MachineVerdict,
    RuleKind,
    SiteConflict,
    SiteNotFound,
    Verdict,
    normal_rule_value,
)


class ApprovalBook:
    """`verdicts` by MAC and `rules`, the oldest first, are replaced as wholes; whoever holds them sees one moment."""

    def __init__(self, database: SiteDatabase) -> None:
        self._database = database
        self.verdicts: Mapping[str, MachineVerdict] = {}
        self.rules: tuple[ApprovalRule, ...] = ()
        now = database.clock()
        database.write(lambda c: c.execute("DELETE FROM verdicts WHERE expires_at BETWEEN 0.001 AND ?", (now,)))
        self._load_verdicts()
        self.load_rules()

    def verdict(self, mac: str, at: float) -> Verdict | None:
        """What holds for a machine now, None where nobody has said anything."""
        given = self.verdicts.get(mac)
        if given is None or 0 < given.expires_at <= at:
            return None
        return given.verdict

    def give(self, mac: str, verdict: Verdict, expires_at: float, actor: str) -> None:
        """What holds from now on, until a moment or, with 0, for good."""
        row = mac, verdict.value, expires_at, self._database.clock(), actor
        self._database.change(
            actor,
            f"machine {verdict}",
            mac,
            lambda c: c.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)", row),
            self._load_verdicts,
            own=False,
        )

    def take_back(self, mac: str, actor: str) -> None:
        """As if nothing had been said."""
        if mac in self.verdicts:
            self._database.change(
                actor,
                "verdict taken back",
                mac,
                lambda c: c.execute("DELETE FROM verdicts WHERE mac = ?", (mac,)),
                self._load_verdicts,
                own=False,
            )

    def rule_for(self, request: BootRequest) -> ApprovalRule | None:
        """The first rule that fits."""
        return next((rule for rule in self.rules if _fits(rule, request)), None)

    def add_rule(self, kind: RuleKind, value: str, actor: str) -> ApprovalRule:
        """Raises SiteError for a value that is none, SiteConflict where there is such a rule."""
        normal = normal_rule_value(kind, value)
        with self._database.lock:
            if any((each.kind, each.value) == (kind, normal) for each in self.rules):
                raise SiteConflict(f"{kind} {normal}: there is such a rule; `dpd pxe rules` shows it")
            row = kind.value, normal, self._database.clock()
            self._database.change(
                actor,
                "approval rule added",
                f"{kind} {normal}",
                lambda c: c.execute("INSERT INTO approval_rules VALUES (NULL, ?, ?, ?)", row),
                self.load_rules,
            )
            return self.rules[-1]

    def remove_rule(self, id: int, actor: str) -> ApprovalRule:
        """Raises SiteNotFound."""
        with self._database.lock:
            found = next((each for each in self.rules if each.id == id), None)
            if found is None:
                raise SiteNotFound(f"no approval rule {id}; `dpd pxe rules` shows those there are")
            self._database.change(
                actor,
                "approval rule removed",
                f"{found.kind} {found.value}",
                lambda c: c.execute("DELETE FROM approval_rules WHERE id = ?", (id,)),
                self.load_rules,
            )
            return found

    def _load_verdicts(self) -> None:
        rows = self._database.rows("SELECT mac, verdict, expires_at, decided_at, actor FROM verdicts")
        self.verdicts = {row[0]: MachineVerdict(row[0], Verdict(row[1]), *row[2:]) for row in rows}

    def load_rules(self) -> None:
        rows = self._database.rows("SELECT id, kind, value, added_at FROM approval_rules ORDER BY id")
        self.rules = tuple(ApprovalRule(row[0], RuleKind(row[1]), row[2], row[3]) for row in rows)


def _fits(rule: ApprovalRule, request: BootRequest) -> bool:
    if rule.kind is RuleKind.MAC_PREFIX:
        return request.mac == rule.value or request.mac.startswith(rule.value + ":")
    if rule.kind is RuleKind.CIRCUIT:
        return request.circuit.lower() == rule.value
    return is_inside(request.relay or request.server, rule.value)


def is_inside(address: str, network: str) -> bool:
    """Whether an address lies in a network; one that is none lies nowhere."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]) in ipaddress.ip_network(network)
    except ValueError:
        return False
