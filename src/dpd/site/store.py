# SPDX-License-Identifier: Apache-2.0
"""The site store: all that policy is made of, in one file, with a copy in memory so that a decision is a few look-ups."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from dpd.site.aims import Aims
from dpd.site.approvals import ApprovalBook
from dpd.site.database import SiteDatabase, write_authority, write_fact
from dpd.site.high_risk import Reach
from dpd.site.known_computers import KnownComputers, Plan, plan_changes
from dpd.site.membership import Membership
from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_collection, normal_deployment, normal_model
from dpd.site.model_rows import (
    read_collections,
    read_computers,
    read_deployments,
    remove_computers,
    write_collection,
    write_computers,
    write_deployment,
    write_model,
    write_variable,
)
from dpd.site.place_store import PlaceStore
from dpd.site.records import (
    COLLECTION_TARGET,
    AffinityMode,
    AuditEntry,
    Authority,
    Collection,
    Computer,
    Deployment,
    SiteConflict,
    SiteNotFound,
    Variable,
    normal_computer,
)
from dpd.site.run_book import RunBook
from dpd.site.sequence_book import SequenceBook
from dpd.site.sequences import SequenceVersion, normal_sequence
from dpd.site.variable_book import VariableBook
from dpd.site.variables import find_target, targets_for, targets_of
from dpd.telemetry.events import EventLog

NAMED_IN_AUDIT = 20


class SiteStore(PlaceStore):
    """`computers`, `membership`, `deployments` (by id, the oldest first), `aims`, `points` and `boundaries` are replaced as wholes.
    What changes the model is refused by SiteConflict where it is a site's (`authority`). Safe to use from any thread."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(SiteDatabase(path, clock))
        self._clock = clock
        self.code_key = bytes.fromhex(self._database.facts["code_key"])
        self.runs = RunBook(self._database)
        self.approvals = ApprovalBook(self._database)
        self.computers = KnownComputers()
        self.membership = Membership()
        self.deployments: Mapping[int, Deployment] = {}
        self.aims = Aims()
        self.variables = VariableBook(self._database)
        self.sequences = SequenceBook(self._database, clock)
        self._load()
        self._database.trim_audit()

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    @property
    def policy_version(self) -> int:
        """Goes up with each change of policy."""
        return self._database.policy_version

    def watch(self, heard: Callable[[], None]) -> None:
        """`heard` is called behind each change of policy, in whatever thread made it; it neither raises nor takes long."""
        self._database.watch(heard)

    def changing(self) -> AbstractContextManager[None]:
        """For who looks first and changes after: nobody else changes policy meanwhile. Raises SiteConflict where it is a site's."""
        return self._database.own()

    def tell_changes(self, events: EventLog) -> None:
        """From now on each change of policy is a status message."""

        def tell(entry: AuditEntry) -> None:
            events.note(
                "policy.changed",
                actor=entry.actor,
                action=entry.action,
                detail=entry.detail,
                policy_version=entry.policy_version,
            )

        self._database.watch_audit(tell)

    def _load(self) -> None:
        self._load_facts()
        self._load_computers()
        self.variables.load()
        self.sequences.load()
        self._load_places()
        self.approvals.load_rules()

    def _load_facts(self) -> None:
        self._database.load_facts()
        facts = self._database.facts
        self.maintenance: str = facts["maintenance"] or facts["site_maintenance"]
        self.site_maintenance: str = facts["site_maintenance"]
        self.affinity_mode = AffinityMode(facts["affinity_mode"])

    # ---- computers

    def plan(self, computers: Sequence[Computer]) -> Plan:
        """What adding or changing these would do. Raises SiteError for one that cannot be."""
        now = self._clock()
        normal = [normal_computer(c.name, c.macs, c.guid, c.boot_image, c.added_at or now) for c in computers]
        return plan_changes(self.computers, normal)

    def carry_out(
        self,
        computers: Sequence[Computer],
        actor: str,
        action: str = "computers imported",
        variables: Sequence[Variable] = (),
    ) -> Plan:
        """Add or change all of these or none, and set these variables of theirs. Raises SiteConflict."""
        with self._database.own():
            plan = self.plan(computers)
            if plan.problems:
                raise SiteConflict(plan.problems[0].message)
            written = [*plan.added, *(new for _, new in plan.changed)]
            known = (*(each.name for each in self.computers.by_name.values()), *(each.name for each in plan.added))
            fresh = self.variables.fresh(variables, targets_of(known, ()))
            if not written and not fresh:
                return plan
            names = ", ".join(each.name for each in written[:NAMED_IN_AUDIT])
            detail = f"{len(plan.added)} added, {len(plan.changed)} changed: {names}"
            detail += f"; variables set: {len(fresh)}" if fresh else ""

            def work(connection: sqlite3.Connection) -> None:
                write_computers(connection, written)
                for variable in fresh:
                    write_variable(connection, variable)

            self._database.change(actor, action, detail, work, self._load_known)
            return plan

    def add_computer(self, computer: Computer, actor: str) -> Computer:
        """Raises SiteError, SiteConflict where its name, a MAC or its GUID is somebody's already."""
        with self._database.own():
            if computer.name.lower() in self.computers.by_name:
                raise SiteConflict(
                    f"computer {computer.name}: is there already; `dpd computer show {computer.name}` shows it"
                )
            return self.carry_out([computer], actor, "computer added").added[0]

    def remove_computer(self, name: str, actor: str) -> Computer:
        """With its runs, and out of the collections that name it. Its own deployments must have gone before. Raises SiteNotFound,
        SiteConflict."""
        with self._database.own():
            computer = self.computers.find(name)
            self._check_no_target(f"computer {computer.name}", computer.name.lower())
            self._database.change(
                actor, "computer removed", computer.name, lambda c: remove_computers(c, [computer.name]), self._load_known
            )  # fmt: skip
            return computer

    def _load_known(self) -> None:
        self._load_computers()
        self.variables.load()

    def _load_computers(self) -> None:
        self.computers = KnownComputers(read_computers(self._database))
        self._load_collections()

    # ---- collections

    def add_collection(self, collection: Collection, actor: str) -> Collection:
        """Raises SiteError, SiteNotFound for what it speaks of, SiteConflict where there is one of that name."""
        with self._database.own():
            if collection.name.lower() in self.membership.collections:
                raise SiteConflict(
                    f"collection {collection.name}: is there already; `dpd collection show {collection.name}` shows it"
                )
            return self._write_collection(collection, actor, "collection added")

    def change_collection(self, collection: Collection, actor: str) -> Collection:
        """The one of that name is from now on so. Raises SiteError, SiteNotFound, SiteConflict for a circle."""
        with self._database.own():
            known = self.membership.find(collection.name)
            wanted = replace(collection, name=known.name, added_at=known.added_at)
            return self._write_collection(wanted, actor, "collection changed")

    def plan_collection(self, collection: Collection) -> tuple[Collection, Membership]:
        """The collection in its normal form, and who would belong where with it. Raises as `add_collection`."""
        self._database.check_own()
        names = {key: each.name for key, each in self.membership.collections.items()}
        names.setdefault(collection.name.lower(), collection.name)
        known = {key: each.name for key, each in self.computers.by_name.items()}
        normal = normal_collection(collection, known, names, self._clock())
        wanted = {**self.membership.collections, normal.name.lower(): normal}
        return normal, Membership(wanted.values(), self.computers.by_name, self.membership)

    def _write_collection(self, collection: Collection, actor: str, action: str) -> Collection:
        normal, membership = self.plan_collection(collection)
        count = len(membership.keys_in(normal.name))
        detail = f"{normal.name}: {count} {'member' if count == 1 else 'members'}"
        self._database.change(actor, action, detail, lambda c: write_collection(c, normal), self._load_collections)
        return normal

    def remove_collection(self, name: str, actor: str) -> Collection:
        """With its variables. Its deployments, and what other collections say of it, must have gone before. Raises SiteNotFound, SiteConflict."""
        with self._database.own():
            found = self.membership.find(name)
            key = found.name.lower()
            self._check_no_target(f"collection {found.name}", COLLECTION_TARGET + key)
            for other in self.membership.collections.values():
                if key in (each.lower() for each in (*other.include, *other.exclude)):
                    raise SiteConflict(
                        f"collection {found.name}: collection {other.name} includes or excludes it; `dpd collection change {other.name}` takes that out first"
                    )

            def work(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM collections WHERE name = ?", (found.name,))
                connection.execute("DELETE FROM variables WHERE target = ?", (COLLECTION_TARGET + found.name,))

            self._database.change(actor, "collection removed", found.name, work, self._load_known)
            return found

    def _load_collections(self) -> None:
        self.membership = Membership(read_collections(self._database), self.computers.by_name, self.membership)
        self._load_deployments()

    # ---- variables

    def set_variable(self, variable: Variable, actor: str) -> Variable:
        """A new one, or in the place of the one of that name. Raises SiteError, SiteNotFound for a target that is not there."""
        with self._database.own():
            return self.variables.set(variable, self._variable_targets(), actor)

    def variables_at(self, target: str) -> tuple[Variable, ...]:
        """Those of one target itself, by name. Raises SiteNotFound for a target that is not there."""
        return self.variables.map.at(find_target(target, self._variable_targets()))

    def _variable_targets(self) -> dict[str, str]:
        computers = (each.name for each in self.computers.by_name.values())
        collections = (each.name for each in self.membership.collections.values())
        return targets_of(computers, collections)

    def variables_for(self, computer: str) -> tuple[Variable, ...]:
        """What a known computer gets, or with "" an unknown one. Raises SiteConflict where it is too much."""
        collections = self.membership.collections_of(computer) if computer else []
        return self.variables.merged(targets_for(computer, collections))

    # ---- task sequences

    def remove_sequence(self, name: str, version: int, actor: str) -> list[SequenceVersion]:
        """This version, or with 0 all of them; what there was. Raises SequenceNotFound, SequenceConflict where one is deployed,
        SiteConflict."""
        return self.sequences.remove(name, version, actor, lambda: self.deployments.values())

    # ---- deployments

    def aimed_at(self, target: str) -> tuple[Deployment, ...]:
        """The deployments with exactly this target, which is given in lower case."""
        return self.aims.of_target(target)

    def deployment(self, id: int) -> Deployment:
        """Raises SiteNotFound."""
        found = self.deployments.get(id)
        if found is None:
            raise SiteNotFound(f"no deployment {id}; `dpd deployment list` shows those there are")
        return found

    def plan_deployment(self, deployment: Deployment) -> Deployment:
        """In its normal form. Raises as `add_deployment`."""
        self._database.check_own()
        known = {key: each.name for key, each in self.computers.by_name.items()}
        collections = {key: each.name for key, each in self.membership.collections.items()}
        normal = normal_deployment(deployment, known, collections, self._clock())
        if normal.name and normal.name.lower() in (each.name.lower() for each in self.deployments.values()):
            raise SiteConflict(f"deployment {normal.name}: is there already; `dpd deployment list` shows it")
        return normal

    def add_deployment(self, deployment: Deployment, actor: str) -> Deployment:
        """It gets an id. Raises SiteNotFound where its target is not there, SiteError where it ends before it begins."""
        with self._database.own():
            normal = self.plan_deployment(replace(deployment, id=0, added_at=0.0))
            id = self._database.change(
                actor,
                "deployment added",
                f"{normal.purpose} {normal.boot_image or 'the default image'} for {normal.target}",
                lambda c: write_deployment(c, normal),
                self._load_deployments,
            )
            return self.deployments[id]

    def remove_deployment(self, id: int, actor: str) -> Deployment:
        """With its runs. Raises SiteNotFound."""
        with self._database.own():
            deployment = self.deployment(id)
            self._database.change(
                actor,
                "deployment removed",
                f"{id}: {deployment.purpose} for {deployment.target}",
                lambda c: c.execute("DELETE FROM deployments WHERE id = ?", (id,)),
                self._load_deployments,
            )
            return deployment

    def _check_no_target(self, words: str, target: str) -> None:
        if own := self.aimed_at(target):
            shown = ", ".join(str(each.id) for each in own)
            raise SiteConflict(f"{words}: deployment {shown} is for it; `dpd deployment remove` takes that out first")

    def _load_deployments(self) -> None:
        found = read_deployments(self._database)
        self.aims = Aims(found, self.computers, self.membership)
        self.deployments = {each.id: each for each in found}
        self.runs.load()

    # ---- the whole

    def model(self) -> SiteModel:
        """All that the site says: one moment of it."""
        with self._database.lock:
            facts = self._database.facts
            return SiteModel(
                tuple(self.computers.by_name.values()),
                tuple(self.membership.collections.values()),
                tuple(self.deployments.values()),
                tuple(self.boundaries.values()),
                tuple(self.points.values()),
                self.approvals.rules,
                facts["maintenance" if self.authority is None else "site_maintenance"],
                self.affinity_mode,
                self.variables.all(),
                self.sequences.all(),
                self.sequences.numbers(),
            )

    def replace_model(self, model: SiteModel, actor: str, *, version: int | None = None, detail: str = "") -> None:
        """This is from now on all that the site says; what keeps its id keeps its runs, id 0 gets one. With `version`, only as
        long as policy is of that version. Raises SiteError for what cannot be, SiteConflict where policy has changed since."""
        with self._database.own():
            if version is not None and version != self.policy_version:
                raise SiteConflict(
                    f"policy has changed since: it is version {self.policy_version} now and was {version}; look at the plan once more, then ask again"
                )
            now = self._clock()
            signed = tuple(normal_sequence(each, now, actor) for each in model.sequences)
            old, new = self.model(), normal_model(replace(model, sequences=signed), now=now)

            def work(connection: sqlite3.Connection) -> None:
                write_model(connection, old, new)
                write_fact(connection, "maintenance", new.maintenance)

            self._database.change(actor, "model replaced", detail or _counts(new), work, self._load)

    @property
    def authority(self) -> Authority | None:
        """The site whose policy this is; None where it is the store's own."""
        return self._database.authority

    def mirror(self, site: str, version: int, model: SiteModel, at: float) -> bool:
        """From now on policy is what that site says; False where a later word of the same site is here already. What was run of
        other policies' deployments is forgotten with them. Raises SiteError for a model that cannot be."""
        new = normal_model(model, now=at)
        with self._database.lock:
            held = self.authority
            is_same = held is not None and held.site == site
            if held is not None and is_same and version < held.version:
                return False
            old = self.model()
            if held is not None and is_same and version == held.version and old == new:
                return True

            def work(connection: sqlite3.Connection) -> None:
                if not is_same:  # numbers of another policy mean other deployments
                    connection.execute("DELETE FROM deployments")
                write_model(connection, old, new)
                write_fact(connection, "site_maintenance", new.maintenance)
                write_authority(connection, Authority(site, version, at))

            detail = f"version {version}: {_counts(new)}"
            self._database.change(f"site {site}", "policy mirrored", detail, work, self._load, own=False)
            return True

    @property
    def last_deployment(self) -> int:
        """The highest number that a deployment has or had; it is given to no other one."""
        rows = self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'deployments'")
        return int(rows[0][0]) if rows else 0

    def skip_deployments(self, last: int) -> None:
        """Numbers up to there were given elsewhere."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO sqlite_sequence SELECT 'deployments', 0 WHERE 'deployments' NOT IN (SELECT name FROM sqlite_sequence)"
            )
            connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'deployments'", (last,))

        self._database.write(work)

    def release(self, actor: str) -> Authority:
        """Policy stays as the site last said it, and is this store's own from now on. Raises SiteConflict where it is already."""
        with self._database.lock:
            held = self.authority
            if held is None:
                raise SiteConflict("policy is this point's own already")

            def work(connection: sqlite3.Connection) -> None:
                write_authority(connection, None)
                write_fact(connection, "site_maintenance", "")
                write_fact(connection, "maintenance", self.maintenance)

            detail = f"of site {held.site}, version {held.version}"
            self._database.change(actor, "policy released", detail, work, self._load_facts, own=False)
            return held

    def reach(self) -> Reach:
        """Whom the deployments reach, for the high-risk guard."""
        return Reach(self.deployments.values(), self.membership, self.computers.by_name)

    def set_maintenance(self, reason: str, actor: str) -> None:
        """With a reason no machine is answered; "" ends that. It is a matter of this store, whosever policy it has; but what the
        site says of it only the site ends. Raises SiteConflict."""
        with self._database.lock:
            if not reason and self.site_maintenance and not self._database.facts["maintenance"]:
                site = self.authority.site if self.authority is not None else ""
                raise SiteConflict(f"site {site} is in maintenance ({self.site_maintenance}); it ends there")
            self._database.change(
                actor,
                "maintenance on" if reason else "maintenance off",
                reason,
                lambda c: write_fact(c, "maintenance", reason),
                self._load_facts,
                own=False,
            )

    def set_affinity_mode(self, mode: AffinityMode, actor: str) -> None:
        """What booted machines are told of the users they name; no change where it is so."""
        with self._database.own():
            if mode is not self.affinity_mode:
                self._database.change(
                    actor, "affinity mode", mode.value, lambda c: write_fact(c, "affinity_mode", mode.value), self._load_facts
                )  # fmt: skip

    def note_change(self, actor: str, action: str) -> None:
        """Policy has changed that is kept elsewhere, such as in the settings."""
        self._database.change(actor, action, "", lambda c: None, lambda: None, own=False)

    def audit(self, limit: int) -> list[AuditEntry]:
        """The last changes, oldest first."""
        return self._database.audit(limit)


def _counts(model: SiteModel) -> str:
    parts = (
        ("computers", model.computers),
        ("collections", model.collections),
        ("deployments", model.deployments),
        ("boundaries", model.boundaries),
        ("points", model.points),
        ("rules", model.rules),
        ("variables", model.variables),
        ("sequences", model.sequences),
    )
    return ", ".join(f"{len(items)} {kind}" for kind, items in parts)
