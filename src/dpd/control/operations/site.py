# SPDX-License-Identifier: Apache-2.0
"""What may be asked of boot policy: computers, deployments, who waits for approval, rules, maintenance, the audit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dpd.control.operations.declaration import DeclarationOperations
from dpd.control.operations.model import ModelOperations
from dpd.control.operations.variable import VariableOperations
from dpd.site.computer_csv import LineProblem, read_computers
from dpd.site.high_risk import check_confirmed, risks_between
from dpd.site.import_formats import ImportFormat
from dpd.site.policy import BootPolicy
from dpd.site.records import (
    ApprovalRule,
    AuditEntry,
    Computer,
    Deployment,
    MachineVerdict,
    RuleKind,
    Run,
    SiteNotFound,
)
from dpd.site.variables import check_sequence
from dpd.site.waiting_room import PendingMachine


class DeploymentState(StrEnum):
    """Where a deployment is in its schedule."""

    WAITING = "waiting"
    CURRENT = "current"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment; `runs` counts the machines that were given it, where it is required, `reaches` the known computers that it is
    for now."""

    deployment: Deployment
    state: DeploymentState
    runs: int
    reaches: int


@dataclass(frozen=True, slots=True)
class DeploymentRuns:
    """A deployment and who was given it, the first one first."""

    deployment: Deployment
    state: DeploymentState
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class ComputerDetails:
    """A computer, the collections that it belongs to, the deployments that are for it, them or all, and those that it has run."""

    computer: Computer
    collections: list[str]
    deployments: list[DeploymentStatus]
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class ComputerChange:
    """What an import makes of a known computer."""

    old: Computer
    new: Computer


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or would do: nothing where there are problems. `variables` counts those that it sets."""

    done: bool
    added: list[Computer]
    changed: list[ComputerChange]
    unchanged: int
    problems: list[LineProblem]
    variables: int = 0


@dataclass(frozen=True, slots=True)
class Unknown:
    """Who waits, the first to come first, and what was said about others."""

    pending: list[PendingMachine]
    verdicts: list[MachineVerdict]


class SiteOperations:
    """The verbs over one policy. `actor` is who asks, for the audit. Safe to use from any thread."""

    def __init__(self, policy: BootPolicy, *, clock: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._store = policy.store
        self._clock = clock
        self.model = ModelOperations(policy)
        self.declaration = DeclarationOperations(policy)
        self.variables = VariableOperations(policy)

    # ---- computers

    def computers(self) -> list[Computer]:
        """By name."""
        return list(self._store.computers.by_name.values())

    def computer(self, name: str) -> ComputerDetails:
        """Raises SiteNotFound."""
        computer = self._store.computers.find(name)
        key = computer.name.lower()
        ids = {each.id for each in self._store.aims.of_computer(key)}
        aimed = [each for each in self.deployments() if each.deployment.id in ids]
        runs = (self._store.runs.find(each.deployment.id, key) for each in aimed)
        collections = self._store.membership.collections_of(key)
        return ComputerDetails(computer, collections, aimed, [run for run in runs if run is not None])

    def add_computer(self, computer: Computer, actor: str) -> Computer:
        """Raises SiteError, SiteConflict."""
        self._check_image(computer.boot_image)
        return self._store.add_computer(computer, actor)

    def remove_computer(self, name: str, actor: str) -> Computer:
        """Raises SiteNotFound, SiteConflict."""
        return self._store.remove_computer(name, actor)

    def import_computers(
        self, text: str, actor: str, *, dry_run: bool, form: ImportFormat = ImportFormat.DPD
    ) -> ImportReport:
        """Add and change computers out of a CSV file, all or none."""
        reading = read_computers(text, self._store.computers, form)
        problems = list(reading.problems)
        if not problems:
            plan = self._store.plan(reading.computers)
            problems = [LineProblem(reading.lines[each.place], each.message) for each in plan.problems]
            problems += self._image_problems(reading.computers, reading.lines)
        if problems:
            return ImportReport(False, [], [], 0, problems)
        if not dry_run:
            plan = self._store.carry_out(reading.computers, actor, variables=reading.variables)
        changed = [ComputerChange(old, new) for old, new in plan.changed]
        added, count = list(plan.added), len(reading.variables)
        return ImportReport(not dry_run, added, changed, len(plan.unchanged), [], count)

    def _image_problems(self, computers: tuple[Computer, ...], lines: tuple[int, ...]) -> list[LineProblem]:
        unknown = {each.boot_image for each in computers if not self._policy.has_image(each.boot_image)}
        pairs = zip(computers, lines, strict=True)
        return [LineProblem(line, _no_image(each.boot_image)) for each, line in pairs if each.boot_image in unknown]

    # ---- deployments

    def deployments(self) -> list[DeploymentStatus]:
        """The oldest first."""
        counted: dict[int, int] = {}
        for run in self._store.runs.all():
            counted[run.deployment] = counted.get(run.deployment, 0) + 1
        reach = self._store.reach()
        return [
            DeploymentStatus(each, self._state(each), counted.get(each.id, 0), reach.count(each))
            for each in self._store.deployments.values()
        ]

    def deployment(self, id: int) -> DeploymentRuns:
        """Raises SiteNotFound."""
        deployment = self._store.deployment(id)
        return DeploymentRuns(deployment, self._state(deployment), self._store.runs.of_deployment(id))

    def add_deployment(self, deployment: Deployment, actor: str, confirm: int | None = None) -> DeploymentStatus:
        """`confirm` is how many known computers it reaches, as whoever asks believes. Raises SiteError, SiteNotFound, SiteConflict,
        NotConfirmed where it is required, reaches many, and they were not counted right."""
        self._check_image(deployment.boot_image)
        self._check_sequence(deployment.sequence)
        with self._store.changing():
            wanted = self._store.plan_deployment(deployment)
            reach, limit = self._store.reach(), self._policy.high_risk_computers
            check_confirmed(risks_between(reach, reach, [wanted], limit), confirm, limit)
            added = self._store.add_deployment(wanted, actor)
        return DeploymentStatus(added, self._state(added), 0, self._store.reach().count(added))

    def remove_deployment(self, id: int, actor: str) -> Deployment:
        """Raises SiteNotFound."""
        return self._store.remove_deployment(id, actor)

    def clear_runs(self, id: int, machine: str | None, actor: str) -> int:
        """Let a machine (a computer's name, or an unknown one's MAC) or every one have it once more. Raises SiteNotFound."""
        self._store.deployment(id)
        return self._store.runs.clear(id, machine.lower() if machine is not None else None, actor)

    def _state(self, deployment: Deployment) -> DeploymentState:
        now = self._clock()
        if deployment.has_ended(now):
            return DeploymentState.ENDED
        return DeploymentState.CURRENT if deployment.has_begun(now) else DeploymentState.WAITING

    def _check_image(self, image: str) -> None:
        if not self._policy.has_image(image):
            raise SiteNotFound(_no_image(image))

    def _check_sequence(self, sequence: str) -> None:
        """Raises SiteError, SiteNotFound."""
        if sequence and not self._policy.has_sequence(check_sequence(sequence)):
            raise SiteNotFound(f"no task sequence {sequence[:80]}; `dpd sequence list` shows those there are")

    # ---- unknown machines

    def unknown(self) -> Unknown:
        """Who waits and what was said."""
        now = self._clock()
        verdicts = [each for each in self._store.approvals.verdicts.values() if not 0 < each.expires_at <= now]
        return Unknown(self._policy.pending(), sorted(verdicts, key=lambda each: each.decided_at))

    def approve(self, code_or_mac: str, actor: str, computer: str = "", boot_image: str = "") -> PendingMachine:
        """Raises SiteNotFound, SiteError, SiteConflict."""
        self._check_image(boot_image)
        return self._policy.approve(code_or_mac, actor, computer=computer, boot_image=boot_image)

    def deny(self, code_or_mac: str, actor: str) -> MachineVerdict:
        """Raises SiteError."""
        mac = self._policy.deny(code_or_mac, actor)
        return self._store.approvals.verdicts[mac]

    def take_back(self, mac: str, actor: str) -> MachineVerdict:
        """As if nothing had been said about a machine. Raises SiteNotFound."""
        given = self._store.approvals.verdicts.get(mac)
        if given is None:
            raise SiteNotFound(f"nothing was said about {mac}; `dpd pxe pending` shows what was said about others")
        self._store.approvals.take_back(mac, actor)
        return given

    def rules(self) -> list[ApprovalRule]:
        """The oldest first."""
        return list(self._store.approvals.rules)

    def add_rule(self, kind: RuleKind, value: str, actor: str) -> ApprovalRule:
        """Raises SiteError, SiteConflict."""
        return self._store.approvals.add_rule(kind, value, actor)

    def remove_rule(self, id: int, actor: str) -> ApprovalRule:
        """Raises SiteNotFound."""
        return self._store.approvals.remove_rule(id, actor)

    # ---- the whole

    def maintenance(self) -> str:
        """Why no machine is answered; "" where they are."""
        return self._store.maintenance

    def set_maintenance(self, reason: str, actor: str) -> str:
        """Answer no machine, or with "" all again."""
        self._store.set_maintenance(reason, actor)
        return self._store.maintenance

    def audit(self, limit: int) -> list[AuditEntry]:
        """The last changes, oldest first."""
        return self._store.audit(limit)


def _no_image(image: str) -> str:
    return f"no boot image {image[:80]}; `dpd boot-image list` shows those there are"
