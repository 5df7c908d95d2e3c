# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the site as a whole: what a declaration would change, carry it out, write down what there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dpd.site.declaration import Kind, label_of, read_declaration
from dpd.site.declaration_tables import DeclarationProblem
from dpd.site.declaration_text import write_declaration
from dpd.site.high_risk import HighRisk, Reach, check_confirmed, risks_between
from dpd.site.membership import Membership
from dpd.site.model import SiteModel
from dpd.site.model_changes import Action, Change
from dpd.site.model_plan import ModelPlan, plan_model
from dpd.site.policy import BootPolicy
from dpd.site.records import SiteConflict, SiteError

NAMED_IN_AUDIT = 20
TOLD_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Risk:
    """A required deployment that would newly reach many known computers."""

    deployment: str
    reaches: int


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a declaration would change, or has changed. `policy_version` is what it was compared with or, when it was applied,
    what came of it. With `problems` nothing can be done. `confirm` is how many computers the `risks` reach together: who applies
    says that number."""

    policy_version: int
    is_applied: bool
    added: int
    changed: int
    removed: int
    unchanged: int
    changes: list[Change]
    risks: list[Risk]
    confirm: int
    problems: list[DeclarationProblem]


@dataclass(frozen=True, slots=True)
class Export:
    """The site as a declaration, and the version of policy that it is of."""

    policy_version: int
    declaration: str


class DeclarationOperations:
    """The verbs over one policy. `actor` is who asks, for the audit. They take their time: call them in a thread."""

    def __init__(self, policy: BootPolicy) -> None:
        self._policy = policy
        self._store = policy.store

    def plan(self, text: str) -> PlanReport:
        """What applying this text would do; problems are told and not raised."""
        version = self._store.policy_version
        plan, risks = self._plan(text)
        return _report(plan, risks, version, is_applied=False)

    def apply(self, text: str, policy_version: int, confirm: int | None, actor: str) -> PlanReport:
        """Make the site what this text says, all of it or nothing, if policy is still of this version. Raises SiteError for a text
        with problems, SiteConflict where policy has changed since or is another site's, NotConfirmed."""
        if policy_version != self._store.policy_version:
            raise SiteConflict(
                f"policy has changed since: it is version {self._store.policy_version} now and was {policy_version}; look at the plan once more, then ask again"
            )
        plan, risks = self._plan(text)
        if plan.problems:
            raise SiteError(_refusal(plan.problems))
        check_confirmed(risks, confirm, self._policy.high_risk_computers)
        if plan.changes:
            self._store.replace_model(plan.model, actor, version=policy_version, detail=_detail(plan.changes))
        return _report(plan, risks, self._store.policy_version, is_applied=True)

    def export(self, kinds: Collection[Kind] = tuple(Kind)) -> Export:
        """Everything that the site says, or what it says of these kinds."""
        version = self._store.policy_version
        return Export(version, write_declaration(self._store.model(), kinds))

    def _plan(self, text: str) -> tuple[ModelPlan, list[HighRisk]]:
        old = self._store.model()
        plan = plan_model(old, read_declaration(text), self._policy.has_image)
        return plan, [] if plan.problems else self._risks(plan.model)

    def _risks(self, new: SiteModel) -> list[HighRisk]:
        """Who belongs where now spares working out most of who would."""
        computers = {each.name.lower(): each for each in new.computers}
        membership = Membership(new.collections, computers, self._store.membership)
        reach = Reach(new.deployments, membership, computers)
        return risks_between(self._store.reach(), reach, new.deployments, self._policy.high_risk_computers)


def _report(plan: ModelPlan, risks: Sequence[HighRisk], version: int, *, is_applied: bool) -> PlanReport:
    """With problems only these: what would come of half a file is nobody's wish."""
    if plan.problems:
        return PlanReport(version, False, 0, 0, 0, 0, [], [], 0, list(plan.problems))
    added, changed, removed = (_count(plan.changes, action) for action in Action)
    reached = frozenset[str]().union(*(each.reached for each in risks))
    told = [Risk(label_of(each.deployment), len(each.reached)) for each in risks]
    changes = list(plan.changes)
    return PlanReport(version, is_applied, added, changed, removed, plan.unchanged, changes, told, len(reached), [])


def _count(changes: Sequence[Change], action: Action) -> int:
    return sum(each.action is action for each in changes)


def _refusal(problems: Sequence[DeclarationProblem]) -> str:
    shown = "; ".join(f"line {each.line}: {each.key}: {each.message}" for each in problems[:TOLD_PROBLEMS])
    more = f"; and {len(problems) - TOLD_PROBLEMS} more" if len(problems) > TOLD_PROBLEMS else ""
    return f"nothing was applied: {shown}{more}"


def _detail(changes: Sequence[Change]) -> str:
    """For the audit."""
    counts = ", ".join(f"{_count(changes, action)} {action}" for action in Action)
    names = ", ".join(f"{each.action.value} {each.kind} {each.name}" for each in changes[:NAMED_IN_AUDIT])
    more = f" and {len(changes) - NAMED_IN_AUDIT} more" if len(changes) > NAMED_IN_AUDIT else ""
    return f"declaration: {counts}: {names}{more}"
