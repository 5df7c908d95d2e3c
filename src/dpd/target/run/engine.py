# SPDX-License-Identifier: Apache-2.0
"""Walks a task sequence: each step in its turn, each end of one written down before the next begins.

Theory of operation. The walk always begins at the front. A step or group whose end is written down is passed by; so a run that was
killed does the step again in which it was, and one that was restarted by a step goes on behind it. A step that fails fails the group
around it, unless it continues on error; a group that fails, the one around that; at the top the run fails.

    (nothing) ──▶ done | skipped | failed           failed: and what is behind it goes on
        └───────▶ restarting ──▶ done               the state lies where the run goes on
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from enum import Enum

from dpd.errors import DpdError
from dpd.sequence.conditions import holds
from dpd.sequence.exchange import StepState
from dpd.sequence.records import Group, Step, StepKind, TaskSequence
from dpd.target.run.reporting import Reporter
from dpd.target.work.step_failure import RunEnded
from dpd.target.work.work import RestartAsked, Work

MAX_INTERRUPTIONS = 3  # of one step; whatever interrupts it once more will do so for ever

Run = Callable[[Work], str]


class End(Enum):
    """How a walk ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESTART = "restart"  # and it goes on afterwards


class Cancelled(RunEnded):
    """The site wants no more of this run."""


class OutOfTime(RunEnded):
    """The sequence has had its time."""


class StepOutOfTime(DpdError):
    """A step has had its time."""


class _NotJudged(DpdError):
    """A condition that neither holds nor does not."""


class _Failed(Exception):
    """A member failed, and nothing continues."""


class Engine:
    """One run of a sequence. `surroundings` makes each step's work, `keep` the state durable, `show` tells whoever stands before the
    machine."""

    def __init__(
        self,
        sequence: TaskSequence,
        steps: Mapping[StepKind, Run],
        surroundings: Callable[[Step], Work],
        reporter: Reporter,
        keep: Callable[[], None],
        show: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._sequence = sequence
        self._steps = steps
        self._surroundings = surroundings
        self._reporter = reporter
        self._keep = keep
        self._show = show
        self._deadline: float | None = None
        self.restart: RestartAsked | None = None
        first = sequence.steps()[0]
        self._any = surroundings(first)  # state, variables, facts and log are the same for all
        self._state, self._variables, self._log = self._any.state, self._any.variables, self._any.log
        self._began_at = time.monotonic() - self._state.spent_s
        self._places = {each.id: place for place, each in enumerate(sequence.steps(), 1)}

    def run(self) -> End:
        """Walk to the end, or to a restart. What became of it has been told to the reporter."""
        try:
            self._refuse_foreign_machine()
            self._walk(self._sequence.members)
        except _Failed as failure:
            return self._end(End.FAILED, StepState.SEQUENCE_FAILED, str(failure))
        except Cancelled as reason:
            return self._end(End.CANCELLED, StepState.CANCELLED, str(reason))
        except OutOfTime as reason:
            return self._end(End.FAILED, StepState.SEQUENCE_FAILED, str(reason))
        except RestartAsked as restart:
            self.restart = restart
            if restart.resume_volume:
                return End.RESTART
        return self._end(End.DONE, StepState.SEQUENCE_DONE, "")

    def fail_restart(self, message: str) -> End:
        """The run cannot go on after the restart that it was to make."""
        self.restart = None
        step = next(each for each in self._sequence.steps() if self._state.outcomes.get(each.id) == "restarting")
        try:
            self._fail(step, message)
        except _Failed as failure:
            return self._end(End.FAILED, StepState.SEQUENCE_FAILED, str(failure))
        return self.run()  # it continues on error

    def check(self) -> None:
        """Raises when the run or the step under way is to end."""
        if self._reporter.cancelled:
            raise Cancelled(self._reporter.cancelled)
        now = time.monotonic()
        limit_s = self._sequence.time_limit_s
        if limit_s and now - self._began_at > limit_s:
            raise OutOfTime(
                f"the sequence took longer than its {limit_s} s; where that is too short for this machine, raise its time_limit_s"
            )
        if self._deadline is not None and now > self._deadline:
            raise StepOutOfTime("")

    # ---- the walk

    def _refuse_foreign_machine(self) -> None:
        facts, sequence = self._any.facts, self._sequence
        if sequence.architectures and facts.architecture not in sequence.architectures:
            wanted = " or ".join(sequence.architectures)
            raise _Failed(
                f"this machine is {facts.architecture}, the sequence is for {wanted}; deploy one for its architecture"
            )
        if sequence.firmware and facts.firmware not in sequence.firmware:
            wanted = " or ".join(sequence.firmware)
            raise _Failed(
                f"this machine was started by {facts.firmware}, the sequence is for {wanted}; change its boot mode or the deployment"
            )

    def _walk(self, members: tuple[Group | Step, ...]) -> None:
        for member in members:
            if isinstance(member, Step):
                self._take_step(member)
            else:
                self._take_group(member)

    def _take_group(self, group: Group) -> None:
        outcome = self._state.outcomes.get(group.id)
        if outcome in ("done", "skipped", "failed"):
            return
        try:
            if outcome is None and not self._begin_group(group):
                return
            self._walk(group.members)
        except _Failed as failure:
            if not group.continue_on_error:
                raise
            self._log.write(f"{group.id} {group.name}: group failed, and the sequence continues: {failure}")
            self._write_down(group.id, "failed")
            return
        self._write_down(group.id, "done")

    def _begin_group(self, group: Group) -> bool:
        """Whether it runs. Raises _Failed."""
        try:
            reason = self._skip_reason(group)
        except _NotJudged as error:
            raise _Failed(f"group {group.id} {group.name}: {error}") from None
        if reason:
            self._skip_all(group, reason)
            return False
        self._write_down(group.id, "begun")  # its condition is not asked again after a restart
        self._log.write(f"{group.id} {group.name}: group begins")
        return True

    def _skip_all(self, group: Group, reason: str) -> None:
        told = f"group {group.name}: {reason}"
        for each in TaskSequence(group.name, group.members).steps():
            self._skip(each, told)
        self._write_down(group.id, "skipped")

    def _skip_reason(self, member: Group | Step) -> str:
        """Why it does not run, if so. Raises _NotJudged."""
        if not member.is_enabled:
            return "is disabled"
        try:
            is_wanted = holds(member.condition, self._any.facts, self._variables, self._exists)
        except DpdError as error:
            if isinstance(error, RunEnded):
                raise
            raise _NotJudged(f"its condition cannot be judged: {error}") from None
        return "" if is_wanted else "its condition does not hold"

    def _exists(self, path: str, is_folder: bool) -> bool:
        """A path on this machine, or on a volume of the sequence as `root:/etc/hostname`."""
        name, colon, inside = path.partition(":")
        if colon and "/" not in name:
            path = os.path.join(self._any.volumes.folder(name), inside.lstrip("/"))
        return os.path.isdir(path) if is_folder else os.path.isfile(path)

    def _skip(self, step: Step, reason: str) -> None:
        self._log.write(f"{step.id} {step.name}: skipped, {reason}")
        self._reporter.tell(step.id, StepState.SKIPPED, reason)
        self._write_down(step.id, "skipped")

    # ---- one step

    def _take_step(self, step: Step) -> None:
        outcome = self._state.outcomes.get(step.id)
        if outcome == "failed" and not step.continue_on_error:  # killed before the run could end
            raise _Failed(self._state.failure)
        if outcome in ("done", "skipped", "failed"):
            return
        if outcome == "restarting":
            self._finish(step, "the machine has restarted")
            return
        self.check()
        if outcome is None:
            try:
                reason = self._skip_reason(step)
            except _NotJudged as error:
                self._fail(step, str(error))
                return
            if reason:
                self._skip(step, reason)
                return
            self._write_down(step.id, "begun")
        self._variables.put_built_in("_DPDStep", step.name)
        self._show(f"step {self._places[step.id]} of {len(self._places)}: {step.name}")
        try:
            self._finish(step, self._try(step))
        except DpdError as error:
            if isinstance(error, RunEnded):
                raise
            self._fail(step, str(error))

    def _finish(self, step: Step, message: str) -> None:
        self._log.write(f"{step.id} {step.name}: done{f', {message}' if message else ''}")
        self._variables.put_built_in("_DPDLastActionSucceeded", "true")
        self._reporter.tell(step.id, StepState.DONE, message)
        self._write_down(step.id, "done")

    def _fail(self, step: Step, message: str) -> None:
        told = self._variables.mask(message)
        self._log.write(f"{step.id} {step.name}: failed: {told}")
        self._show(f"  failed: {told}")
        self._variables.put_built_in("_DPDLastActionSucceeded", "false")
        self._reporter.tell(step.id, StepState.FAILED, told)
        self._state.failure = f"step {step.id} {step.name}: {told}"
        self._write_down(step.id, "failed")
        if not step.continue_on_error:
            raise _Failed(self._state.failure)

    def _try(self, step: Step) -> str:
        """Its message, after as many tries as it has. Raises DpdError, RestartAsked."""
        before = "the one before was interrupted" if self._state.tries.get(step.id) else ""
        while True:
            count = self._state.tries[step.id] = self._state.tries.get(step.id, 0) + 1
            if count > step.retries + 1 + MAX_INTERRUPTIONS:
                raise DpdError(
                    f"was interrupted {count - 1} times, the machine with it; look at its power and its console"
                )
            self._reporter.tell(step.id, StepState.STARTED, f"try {count}: {before}" if before else "")
            self._save()
            self._log.write(f"{step.id} {step.name}: {step.kind} begins, try {count}")
            try:
                return self._do(step)
            except DpdError as error:
                if isinstance(error, RunEnded) or count > step.retries:
                    raise
                told = self._variables.mask(str(error))
                self._log.write(f"{step.id} {step.name}: try {count} failed: {told}; again in {step.retry_delay_s} s")
                self._reporter.progress(step.id, 0, 0, message=f"try {count} of {step.retries + 1} failed: {told}")
                self._wait(step.retry_delay_s)
                before = f"the one before failed: {told}"

    def _do(self, step: Step) -> str:
        self._deadline = time.monotonic() + step.time_limit_s if step.time_limit_s else None
        work = self._surroundings(step)
        try:
            return self._steps[step.kind](work)
        except RestartAsked as restart:
            self._prepare_restart(step, restart)
            raise
        except StepOutOfTime:
            raise DpdError(f"took longer than its time_limit_s of {step.time_limit_s} s") from None
        except OSError as error:
            self._log.write(traceback.format_exc())
            place = f"{error.filename}: " if error.filename else ""
            raise DpdError(f"{place}{error.strerror or error}") from None
        except DpdError:
            raise
        except Exception as error:  # a step's edge: the run ends in order, and its log tells where
            self._log.write(traceback.format_exc())
            raise DpdError(
                f"{type(error).__name__} in {step.kind}: this is a fault of dpd; its log tells where"
            ) from None
        finally:
            self._deadline = None

    def _prepare_restart(self, step: Step, restart: RestartAsked) -> None:
        """Raises DpdError where steps wait behind it that nobody would run."""
        is_last = step.id == self._sequence.enabled_steps()[-1].id
        if restart.to != "disk" and (restart.resume_volume or not is_last):
            raise DpdError(
                'a run goes on from its disk alone: set to = "disk" and resume_volume, or make this the last step'
            )
        if not restart.resume_volume and not is_last:
            raise DpdError(
                "steps wait behind this restart; set resume_volume to the partition whose system is to run them"
            )
        self._log.write(f"{step.id} {step.name}: restarts the machine to {restart.to}")
        if restart.resume_volume:
            self._reporter.tell(step.id, StepState.RESTARTING, f"to {restart.to}")
            self._write_down(step.id, "restarting")
        else:
            self._finish(step, f"restarts to {restart.to}")

    def _wait(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            self.check()
            time.sleep(min(0.2, max(0.0, until - time.monotonic())))

    # ----

    def _write_down(self, place: str, outcome: str) -> None:
        self._state.outcomes[place] = outcome
        self._save()

    def _save(self) -> None:
        self._state.spent_s = time.monotonic() - self._began_at
        self._keep()

    def _end(self, end: End, state: StepState, message: str) -> End:
        told = self._variables.mask(message)
        self._log.write(f"the sequence ends: {end.value}{f': {told}' if told else ''}")
        self._show(f"{self._sequence.name}: {end.value}{f': {told}' if told else ''}")
        self._reporter.tell("", state, told)
        self._save()
        return end
