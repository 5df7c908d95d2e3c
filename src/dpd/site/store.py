# SPDX-License-Identifier: Apache-2.0
"""The site store: all that policy is made of, in one file, with a copy in memory so that a decision is a few look-ups."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dpd.site.approvals import ApprovalBook
from dpd.site.database import SiteDatabase
from dpd.site.known_computers import KnownComputers, Plan, plan_changes
from dpd.site.records import (
    ALL_COMPUTERS,
    UNKNOWN_COMPUTERS,
    AuditEntry,
    Computer,
    Deployment,
    Purpose,
    SiteConflict,
    SiteError,
    SiteNotFound,
    normal_computer,
)
from dpd.site.run_book import RunBook

NAMED_IN_AUDIT = 20


class SiteStore:
    """`computers` and `deployments` (by id, the oldest first) are replaced as wholes. Safe to use from any thread."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._database = SiteDatabase(path, clock)
        self._clock = clock
        self.code_key = bytes.fromhex(self._database.facts["code_key"])
        self.maintenance: str = self._database.facts["maintenance"]
        self.runs = RunBook(self._database)
        self.approvals = ApprovalBook(self._database)
        self.computers = KnownComputers()
        self.deployments: Mapping[int, Deployment] = {}
        self._aimed: Mapping[str, tuple[Deployment, ...]] = {}
        self._load_computers()
        self._load_deployments()
        self._database.trim_audit()

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    @property
    def policy_version(self) -> int:
        """Goes up with each change of policy."""
        return self._database.policy_version

    # ---- computers

    def plan(self, computers: Sequence[Computer]) -> Plan:
        """What adding or changing these would do. Raises SiteError for one that cannot be."""
        now = self._clock()
        normal = [normal_computer(c.name, c.macs, c.guid, c.boot_image, c.added_at or now) for c in computers]
        return plan_changes(self.computers, normal)

    def carry_out(self, computers: Sequence[Computer], actor: str, action: str = "computers imported") -> Plan:
        """Add or change all of these or none. Raises SiteConflict."""
        with self._database.lock:
            plan = self.plan(computers)
            if plan.problems:
                raise SiteConflict(plan.problems[0].message)
            written = [*plan.added, *(new for _, new in plan.changed)]
            if not written:
                return plan
            names = ", ".join(each.name for each in written[:NAMED_IN_AUDIT])
            detail = f"{len(plan.added)} added, {len(plan.changed)} changed: {names}"
            self._database.change(actor, action, detail, lambda c: _write_computers(c, written), self._load_computers)
            return plan

    def add_computer(self, computer: Computer, actor: str) -> Computer:
        """Raises SiteError, SiteConflict where its name, a MAC or its GUID is somebody's already."""
        with self._database.lock:
            if computer.name.lower() in self.computers.by_name:
                raise SiteConflict(
                    f"computer {computer.name}: is there already; `dpd computer show {computer.name}` shows it"
                )
            return self.carry_out([computer], actor, "computer added").added[0]

    def remove_computer(self, name: str, actor: str) -> Computer:
        """With its runs. Its own deployments must have gone before. Raises SiteNotFound, SiteConflict."""
        with self._database.lock:
            computer = self.computers.find(name)
            key = computer.name.lower()
            if own := self.aimed_at(key):
                shown = ", ".join(str(each.id) for each in own)
                raise SiteConflict(
                    f"computer {computer.name}: deployment {shown} is for it; `dpd deployment remove` takes that out first"
                )

            def remove(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM runs WHERE machine = ?", (key,))
                connection.execute("DELETE FROM computers WHERE name = ?", (computer.name,))

            self._database.change(actor, "computer removed", computer.name, remove, self._load_computers)
            return computer

    def _load_computers(self) -> None:
        macs: dict[str, list[str]] = {}
        for name, mac in self._database.rows("SELECT name, mac FROM computer_macs ORDER BY name, place"):
            macs.setdefault(name.lower(), []).append(mac)
        rows = self._database.rows("SELECT name, guid, boot_image, added_at FROM computers")
        self.computers = KnownComputers(
            Computer(name, tuple(macs.get(name.lower(), ())), guid, boot_image, added_at)
            for name, guid, boot_image, added_at in rows
        )
        self.runs.load()

    # ---- deployments

    def aimed_at(self, target: str) -> tuple[Deployment, ...]:
        """The deployments with exactly this target, which is given in lower case."""
        return self._aimed.get(target, ())

    def deployment(self, id: int) -> Deployment:
        """Raises SiteNotFound."""
        found = self.deployments.get(id)
        if found is None:
            raise SiteNotFound(f"no deployment {id}; `dpd deployment list` shows those there are")
        return found

    def add_deployment(self, deployment: Deployment, actor: str) -> Deployment:
        """It gets an id. Raises SiteNotFound where its target is no computer, SiteError where it ends before it begins."""
        with self._database.lock:
            target = deployment.target.lower()
            if target not in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
                target = self.computers.find(deployment.target).name
            if 0 < deployment.expires_at <= deployment.available_from:
                raise SiteError("expires_at: expected a moment after available_from")
            row = (
                target,
                deployment.boot_image,
                deployment.purpose.value,
                deployment.priority,
                deployment.available_from,
                deployment.expires_at,
                self._clock(),
            )
            self._database.change(
                actor,
                "deployment added",
                f"{deployment.purpose} {deployment.boot_image or 'the default image'} for {target}",
                lambda c: c.execute("INSERT INTO deployments VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row),
                self._load_deployments,
            )
            return self.deployments[max(self.deployments)]

    def remove_deployment(self, id: int, actor: str) -> Deployment:
        """With its runs. Raises SiteNotFound."""
        with self._database.lock:
            deployment = self.deployment(id)
            self._database.change(
                actor,
                "deployment removed",
                f"{id}: {deployment.purpose} for {deployment.target}",
                lambda c: c.execute("DELETE FROM deployments WHERE id = ?", (id,)),
                self._load_deployments,
            )
            return deployment

    def _load_deployments(self) -> None:
        rows = self._database.rows("SELECT * FROM deployments ORDER BY id")
        found = [Deployment(row[0], row[1], row[2], Purpose(row[3]), *row[4:]) for row in rows]
        aimed: dict[str, tuple[Deployment, ...]] = {}
        for each in found:
            aimed[each.target.lower()] = (*aimed.get(each.target.lower(), ()), each)
        self.deployments, self._aimed = {each.id: each for each in found}, aimed
        self.runs.load()

    # ---- the whole

    def set_maintenance(self, reason: str, actor: str) -> None:
        """With a reason no machine is answered; "" ends that."""

        def follow() -> None:
            self.maintenance = reason

        self._database.change(
            actor,
            "maintenance on" if reason else "maintenance off",
            reason,
            lambda c: c.execute("UPDATE facts SET value = ? WHERE name = 'maintenance'", (reason,)),
            follow,
        )

    def note_change(self, actor: str, action: str) -> None:
        """Policy has changed that is kept elsewhere, such as in the settings."""
        self._database.change(actor, action, "", lambda c: None, lambda: None)

    def audit(self, limit: int) -> list[AuditEntry]:
        """The last changes, oldest first."""
        return self._database.audit(limit)


def _write_computers(connection: sqlite3.Connection, computers: Sequence[Computer]) -> None:
    """MACs and GUIDs are let go of first, since they may move from one of these computers to another."""
    for each in computers:
        connection.execute("DELETE FROM computer_macs WHERE name = ?", (each.name,))
        connection.execute("UPDATE computers SET guid = '' WHERE name = ?", (each.name,))
    for each in computers:
        connection.execute(
            "INSERT INTO computers VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET guid = ?2, boot_image = ?3",
            (each.name, each.guid, each.boot_image, each.added_at),
        )
        connection.executemany(
            "INSERT INTO computer_macs VALUES (?, ?, ?)", ((mac, i, each.name) for i, mac in enumerate(each.macs))
        )
