# SPDX-License-Identifier: Apache-2.0
"""The high-risk guard: a required deployment that would reach many computers at once is carried out only for who says how many.

It wakes for computers that were known before and are reached newly: by a new deployment, one that becomes required or runs once
more, or a collection that has grown. Computers that come are not counted against a deployment that was there before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dpd.site.membership import Membership
from dpd.site.model import SiteModel
from dpd.site.records import ALL_COMPUTERS, Computer, Deployment, NotConfirmed, Purpose, Rerun, SiteConflict


@dataclass(frozen=True, slots=True)
class HighRisk:
    """A required deployment that has to be confirmed, and the names in lower case of all whom it reaches."""

    deployment: Deployment
    reached: frozenset[str]


class Reach:
    """Whom deployments reach, by one state of the model. `computers` by name in lower case."""

    def __init__(
        self, deployments: Iterable[Deployment], membership: Membership, computers: Mapping[str, Computer]
    ) -> None:
        self.required = {each.id: each for each in deployments if each.purpose is Purpose.REQUIRED and each.id}
        self._membership = membership
        self.computers = computers

    def of(self, deployment: Deployment) -> frozenset[str]:
        """The names in lower case of the known computers that it reaches."""
        if deployment.collection:
            return self._membership.keys_in(deployment.collection)
        if deployment.target == ALL_COMPUTERS:
            return frozenset(self.computers)
        return frozenset({deployment.target.lower()} & self.computers.keys())

    def count(self, deployment: Deployment) -> int:
        """How many those are."""
        return len(self.computers) if deployment.target == ALL_COMPUTERS else len(self.of(deployment))


def high_risks(old: SiteModel, new: SiteModel, limit: int) -> list[HighRisk]:
    """What has to be confirmed before `old` becomes `new`, both in their normal form; nothing where `limit` is 0."""
    return [] if limit == 0 else risks_between(_reach_of(old), _reach_of(new), new.deployments, limit)


def _reach_of(model: SiteModel) -> Reach:
    computers = {each.name.lower(): each for each in model.computers}
    try:
        return Reach(model.deployments, Membership(model.collections, computers), computers)
    except SiteConflict:  # a circle, which is refused for itself
        return Reach(model.deployments, Membership(), computers)


def risks_between(old: Reach, new: Reach, deployments: Iterable[Deployment], limit: int) -> list[HighRisk]:
    """Those of the deployments that have to be confirmed; nothing where `limit` is 0."""
    found = []
    for each in deployments:
        if limit == 0 or each.purpose is not Purpose.REQUIRED:
            continue
        reached = new.of(each)
        if len(reached) <= limit and each.target != ALL_COMPUTERS:
            continue
        before = old.required.get(each.id)
        if before is None or _may_run_again(before, each) or (reached - old.of(before)) & old.computers.keys():
            found.append(HighRisk(each, reached))
    return found


def _may_run_again(before: Deployment, now: Deployment) -> bool:
    """Whether machines that were done with it may be given it once more."""
    return now.rerun is not before.rerun and now.rerun is not Rerun.NEVER


def check_confirmed(risks: Iterable[HighRisk], confirm: int | None, limit: int) -> None:
    """`confirm` is how many computers whoever asks believes to reach. Raises NotConfirmed where it is another number."""
    risks = list(risks)
    count = len(frozenset[str]().union(*(each.reached for each in risks)))
    if not risks or confirm == count:
        return
    first = risks[0].deployment
    what = f"{first.name or first.boot_image or 'the default boot image'} for {first.target}"
    others = f" and {len(risks) - 1} more" if len(risks) > 1 else ""
    said = "" if confirm is None else f", not {confirm}"
    raise NotConfirmed(
        f"high risk: the required deployment of {what}{others} reaches {count} known computers{said} (site.high_risk_computers = {limit}); if that is meant, confirm that number: --confirm {count}",
        count,
    )
