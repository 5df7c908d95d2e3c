# SPDX-License-Identifier: Apache-2.0
"""The judgement itself: from what is known and wanted of a machine to what it is to do. Reads alone, dictionary look-ups alone.

ignored? -> maintenance? -> known, by MAC or GUID?
  unknown: a verdict or a rule -> deny | pending | allow, PIN? -> deployments to "unknown"
  known:   deployments to the computer and to "all"
-> schedule, architecture, run once (schedule.choose) -> brake -> boot | prompt
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from dpd.site.aims import Standing
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.records import Deployment, Rerun, Run, Verdict
from dpd.site.run_book import HOUR_S, Stage, Work
from dpd.site.schedule import choose
from dpd.site.stance import Stance, unknown_computers_at
from dpd.site.store import SiteStore
from dpd.site.subnets import Subnets

# A run that has begun is still the same boot for so long, or until the last of the boot image was fetched: firmware asks several
# times, its iPXE asks again. The slowest chain seen takes a minute; the fastest image takes longer than this to be installed.
SAME_BOOT_S = 180.0

# Under names of their own, see `protocol.pxe.rules`.
_CAUSE_REQUIRED, _CAUSE_DEFAULT = Cause.REQUIRED, Cause.DEFAULT
_ALWAYS, _IF_FAILED, _IF_SUCCEEDED = Rerun.ALWAYS, Rerun.IF_FAILED, Rerun.IF_SUCCEEDED
_OUTCOMES = {Cause.REQUIRED: Outcome.BOOT, Cause.AVAILABLE: Outcome.PROMPT}
_MESSAGES = {
    Cause.NOTHING_DEPLOYED: "Nothing is deployed to this computer.",
    Cause.NOT_FOR_PXE: "Nothing is deployed to this computer for a network boot.",
    Cause.ALREADY_RUN: "This computer has run its required deployment already.",
    Cause.NOT_YET: "The deployment to this computer has not begun yet.",
    Cause.EXPIRED: "The deployment to this computer has ended.",
    Cause.NO_IMAGE_FOR_ARCH: "There is no boot image for this computer's architecture.",
    Cause.BRAKE: "Too many required deployments have begun in the last hour.",
    Cause.UNKNOWN_DENIED: "This computer is not known here, and unknown ones may not boot.",
    Cause.UNKNOWN_PENDING: "This computer is not known here. Ask for its approval by this code.",
    Cause.PIN_MISSING: "This computer is not known here. Its PIN is needed.",
}

RESTARTING = "This computer's task sequence goes on from its disk."

ArchsOf = Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A boot that was granted and is judged once more: its own run and the brake do not stand against it, nor does maintenance."""

    deployment: int = 0


class Judge:
    """Judges by one store and one stance."""

    def __init__(self, store: SiteStore, stance: Stance, archs_of: ArchsOf | None = None) -> None:
        self.store = store
        self.stance = stance
        self.subnets = Subnets(stance.tables)
        self.archs_of = archs_of

    def judge(self, request: BootRequest, at: float, under_way: UnderWay | None = None) -> Decision:
        """What the machine is to do at a moment. A machine that is to wait has no code yet."""
        version = (
            self.store.policy_version
        )  # read first: what changes while we look makes a judgement of an old version
        return _Case(self, request, at, under_way, version).decide()


@dataclass(slots=True)
class _Case:
    """One question."""

    judge: Judge
    request: BootRequest
    at: float
    under_way: UnderWay | None
    version: int

    def decide(self) -> Decision:
        lists = self.judge.stance.identities
        if self.request.mac in lists.ignored:
            return self._say(Outcome.SILENT, Cause.IGNORED_MAC)
        if self.judge.store.maintenance and self.under_way is None:
            return self._say(Outcome.SILENT, Cause.MAINTENANCE)
        computer = self.judge.store.aims.identify(self.request.mac, self.request.guid, lists.shared)
        if computer is None:
            return self._decide_unknown()
        if not self.judge.store.deployments:
            return self._boot_default(_CAUSE_DEFAULT, computer)
        return self._decide_deployed(computer.deployments, computer)

    def _decide_unknown(self) -> Decision:
        store, request = self.judge.store, self.request
        if self._restarts(None):  # however long ago it was approved
            return self._say(Outcome.ABORT, Cause.ALREADY_RUN, message=RESTARTING)
        verdict = store.approvals.verdict(request.mac, self.at)
        if verdict is Verdict.DENIED:
            return self._say(Outcome.SILENT, Cause.UNKNOWN_DENIED)
        approved = verdict is Verdict.ALLOWED or store.approvals.rule_for(request) is not None
        if not approved and (refused := self._refuse_unknown()) is not None:
            return refused
        if deployments := store.aims.of_unknown:
            return self._decide_deployed(deployments, None)
        return self._boot_default(Cause.UNKNOWN_ALLOWED if approved or store.deployments else Cause.DEFAULT, None)

    def _refuse_unknown(self) -> Decision | None:
        """What keeps a machine from booting of which nobody has said anything; None: nothing does."""
        pin = bool(self.judge.stance.pin)
        mode = unknown_computers_at(self.judge.stance, self.judge.subnets, self.request.relay or self.request.server)
        if mode == "deny":
            return self._say(Outcome.SILENT, Cause.UNKNOWN_DENIED)
        if mode == "pending":
            return self._say(Outcome.WAIT, Cause.UNKNOWN_PENDING, asks_pin=pin)
        return self._say(Outcome.WAIT, Cause.PIN_MISSING, asks_pin=True) if pin else None

    def _decide_deployed(self, deployments: tuple[Deployment, ...], computer: Standing | None) -> Decision:
        choice = choose(
            deployments,
            self.at,
            has_run=lambda each: self._has_run(each, computer),
            fits=lambda each: self._fits(self._image(computer, each)),
        )
        name = computer.name if computer is not None else ""
        if self._restarts(computer):
            return self._say(Outcome.ABORT, Cause.ALREADY_RUN, computer=name, message=RESTARTING)
        deployment = choice.deployment
        if deployment is None:
            return self._say(Outcome.ABORT, choice.cause, computer=name)
        if choice.cause is _CAUSE_REQUIRED and self._is_braked(deployment, computer):
            return self._say(Outcome.ABORT, Cause.BRAKE, computer=name, deployment=str(deployment.id))
        image = self._image(computer, deployment)
        return self._say(_OUTCOMES[choice.cause], choice.cause, name, str(deployment.id), image)

    def _boot_default(self, cause: Cause, computer: Standing | None) -> Decision:
        name, image = (computer.name if computer is not None else ""), self._image(computer, None)
        if not self._fits(image):
            return self._say(Outcome.ABORT, Cause.NO_IMAGE_FOR_ARCH, computer=name)
        return self._say(Outcome.BOOT, cause, name, "", image)

    def _image(self, computer: Standing | None, deployment: Deployment | None) -> str:
        own = computer.boot_image if computer is not None else ""
        return own or (deployment.boot_image if deployment is not None else "") or self.judge.stance.default_image

    def _fits(self, image: str) -> bool:
        archs_of = self.judge.archs_of
        return not image or archs_of is None or self.request.arch in archs_of(image)

    def _restarts(self, computer: Standing | None) -> bool:
        """A boot under way was granted before the machine said so."""
        key = machine_key(self.request, computer)
        return self.under_way is None and self.judge.store.runs.is_restarting(key, self.at)

    def _has_run(self, deployment: Deployment, computer: Standing | None) -> bool:
        if self.under_way is not None and self.under_way.deployment == deployment.id:
            return False
        runs, key = self.judge.store.runs, machine_key(self.request, computer)
        run = runs.find(deployment.id, key)
        if run is None:
            return False
        work = runs.work_of(key, self.at)
        return not (is_under_way(run, work, self.at) or is_given_again(deployment, run, work))

    def _is_braked(self, deployment: Deployment, computer: Standing | None) -> bool:
        """Whether one more would be too many; a boot that has begun goes on."""
        runs, most = self.judge.store.runs, self.judge.stance.max_required_boots_per_hour
        if self.under_way is not None:
            return False
        if not runs.is_full and (most <= 0 or runs.started_since(self.at - HOUR_S) < most):
            return False
        run = runs.find(deployment.id, machine_key(self.request, computer))
        return run is None or not is_same_boot(run, self.at)

    def _say(
        self,
        outcome: Outcome,
        cause: Cause,
        computer: str = "",
        deployment: str = "",
        boot_image: str = "",
        *,
        asks_pin: bool = False,
        message: str = "",
    ) -> Decision:
        message = message or _MESSAGES.get(cause, "")
        return Decision(outcome, cause, computer, deployment, boot_image, "", message, self.version, asks_pin)


def is_same_boot(run: Run, at: float) -> bool:
    """Whether a machine that asks at a moment is still in the boot in which it was given a deployment."""
    return not run.finished_at and 0 <= at - run.started_at < SAME_BOOT_S


def runs_again(deployment: Deployment, run: Run) -> bool:
    """Whether a machine that was given a deployment in an earlier boot is to have it once more."""
    rerun = deployment.rerun
    if rerun is _IF_FAILED:
        return not run.finished_at
    return rerun is _ALWAYS or (rerun is _IF_SUCCEEDED and bool(run.finished_at))


def is_under_way(run: Run, work: Work | None, at: float) -> bool:
    """As `is_same_boot`, which is no more where a task sequence that the machine took in it has ended."""
    is_over = work is not None and work.deployment == run.deployment and work.stage is Stage.OVER
    return is_same_boot(run, at) and not is_over


def is_given_again(deployment: Deployment, run: Run, work: Work | None) -> bool:
    """As `runs_again`, and where the machine was in the middle of the task sequence: it lost its power, and what it has on its disk
    is half of something."""
    is_half = work is not None and work.deployment == deployment.id and work.stage is Stage.RUNNING
    return is_half or runs_again(deployment, run)


def machine_key(request: BootRequest, computer: Standing | None) -> str:
    """Under which a run is written down."""
    return request.mac if computer is None else computer.key
