# SPDX-License-Identifier: Apache-2.0
"""Where a machine that booted shows who it is, takes a task sequence, and tells what becomes of it.

Theory of operation. With its boot ticket a machine got a proof on its kernel's command line. HELLO shows the proof once, from
where the machine is, while the ticket lasts, and opens a session; the same hello again, of the same boot, opens the same one. TAKE
begins an execution and gives the signed sequence with the machine's variables, what is secret of them over TLS alone; taken again
it is the same execution. Reports go to the book; what it makes of them goes on to the runs of policy: a machine that restarts is
sent to its disk, one that was interrupted may boot anew, one whose sequence is done has run its deployment. After a restart,
its own or dpd's, a machine opens a new session by the secret that it was given with the sequence.

What a proof is worth: it says that whoever shows it has read the boot script of that machine. That came over the network in the
clear, unless firmware and loader fetched it by HTTPS; so it keeps out who only knows a MAC, and not who listens on the wire.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dpd.deployment.captures import Captures
from dpd.deployment.deployment_logs import DeploymentLogs
from dpd.deployment.execution import Execution, ExecutionState, StepName
from dpd.deployment.execution_book import ExecutionBook
from dpd.deployment.execution_table import Wanted
from dpd.deployment.resume_book import Place, ResumeBook
from dpd.deployment.signed_sequences import SignedSequence, SignedSequences
from dpd.deployment.target_sessions import TargetSession, TargetSessions
from dpd.errors import TargetRefused
from dpd.sequence.exchange import (
    Captured,
    CapturePlace,
    CaptureWish,
    Hello,
    Offer,
    Receipt,
    Reports,
    Resume,
    Take,
    Taken,
    Welcome,
)
from dpd.sequence.records import SequenceError, SequenceNotFound, TaskSequence
from dpd.sequence.reference import parse_reference
from dpd.sequence.variables import Variable
from dpd.site.policy import BootPolicy, GrantedBoot
from dpd.site.records import Deployment, SiteError
from dpd.site.run_book import Stage, Work
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)

TO_TELL_S = 86400.0  # behind a run's time: that it was too long, its log, and whatever it could not tell while the point was away
UNBOUNDED_S = 720 * 60.0  # the original's for a sequence whose run time is 0
MAX_SHOWN = 5
_STAGES = {ExecutionState.RUNNING: Stage.RUNNING, ExecutionState.RESTARTING: Stage.RESTARTING}


# Those that count, each there from the beginning, so that its first rise is seen.
REFUSALS = (
    *("no_ticket", "ticket_expired", "proof_wrong", "proof_used", "address_wrong", "sequence_missing"),
    *("sequence_damaged", "wrong_machine", "resume_wrong", "resume_expired"),
)


@dataclass(slots=True)
class TargetStats:
    """What the desk counted."""

    welcomed: int = counter("Machines that booted and have shown their proof")
    refused: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(REFUSALS, 0),
        metadata=counts("Machines that booted and were refused", "reason").metadata,
    )
    taken: int = counter("Task sequences that machines have taken")
    resumed: int = counter("Sessions opened again after a restart")
    reports: int = counter("Messages with reports of machines")


@dataclass(frozen=True, slots=True)
class Books:
    """What a desk writes into."""

    executions: ExecutionBook
    resumes: ResumeBook
    logs: DeploymentLogs
    captures: Captures


class TargetDesk:
    """A `TargetDoor`. Any thread; blocks for the disk."""

    def __init__(
        self,
        policy: BootPolicy,
        sequences: SignedSequences,
        books: Books,
        *,
        journal: BootJournal | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stats = TargetStats()
        self._policy = policy
        self._runs = policy.store.runs
        self._sequences = sequences
        self._books = books
        self._journal = journal or BootJournal()
        self._clock = clock
        self._sessions = TargetSessions()
        self._catch_up()
        self._runs.still_restarts = self._still_restarts

    # ---- who is there

    def hello(self, hello: Hello, address: str) -> Welcome:
        """Raises TargetRefused: no_ticket, ticket_expired, proof_wrong, proof_used, address_wrong, sequence_missing,
        sequence_damaged, wrong_machine."""
        try:
            return self._welcome(hello, address)
        except TargetRefused as error:
            bump(self.stats.refused, error.code)
            macs = " ".join(hello.macs[:MAX_SHOWN])
            log.warning("a machine that booted is refused", extra={"peer": address, "macs": macs, "cause": error.code})
            for mac in [each for each in hello.macs if self._policy.boot_of(each) is not None][:1]:
                self._journal.note(mac, "target", step="refused", reason=error.code, detail=str(error))
            raise

    def _welcome(self, hello: Hello, address: str) -> Welcome:
        now = self._clock()
        boot = self._judge(hello, address, now)
        offers = self._offers(boot, hello)
        by = f"{hello.boot} {address}"
        if not self._policy.use_proof(boot.ticket, by):
            raise TargetRefused(
                "proof_used",
                "the proof of this boot was shown already, by another start or from another address; boot the machine from the network again",
            )
        session = TargetSession(
            boot.machine,
            boot.computer,
            boot.ticket.mac,
            boot.ticket.expires_at,
            frozenset(each.deployment for each in offers),
        )
        secret = self._sessions.open_once(boot.ticket.id, session)
        self.stats.welcomed += 1
        self._journal.note(boot.ticket.mac, "target", step="hello", offers=len(offers))
        log.info("a machine that booted has shown its proof", extra={"mac": boot.ticket.mac, "computer": boot.computer, "peer": address, "offers": len(offers)})  # fmt: skip
        return Welcome(secret, boot.computer, boot.machine, now, offers)

    def _judge(self, hello: Hello, address: str, now: float) -> GrantedBoot:
        """The boot that the proof is of. Raises TargetRefused."""
        boots = [boot for boot in map(self._policy.boot_of, hello.macs) if boot is not None]
        if not boots:
            macs = ", ".join(hello.macs[:MAX_SHOWN]) or "a machine without a network card"
            raise TargetRefused(
                "no_ticket",
                f"{macs}: has not asked for a network boot here and been granted it, since dpd started; boot the machine from the network",
            )
        proof = hello.proof.encode()
        boot = next((each for each in boots if hmac.compare_digest(each.ticket.proof.encode(), proof)), None)
        if boot is None:
            raise TargetRefused(
                "proof_wrong",
                f"{boots[0].ticket.mac}: the proof is not that of its last boot; boot the machine from the network again",
            )
        ticket = boot.ticket
        if not ticket.grants_now(now):
            raise TargetRefused(
                "ticket_expired",
                f"{ticket.mac}: its boot ticket has expired (pxe.ticket_lifetime_s); boot the machine from the network again",
            )
        if not self._is_at(boot, address):
            raise TargetRefused(
                "address_wrong",
                f"{address} is another machine's address, not that of {ticket.mac}; use the network card that the machine booted from",
            )
        return boot

    def _is_at(self, boot: GrantedBoot, address: str) -> bool:
        """Behind a router nobody tells whose an address is; then the proof has to do."""
        seen = self._policy.mac_at(address)
        if not seen or seen == boot.ticket.mac:
            return True
        computer = self._policy.store.computers.by_name.get(boot.computer.lower()) if boot.computer else None
        return computer is not None and seen in computer.macs

    def _offers(self, boot: GrantedBoot, hello: Hello) -> tuple[Offer, ...]:
        """Raises TargetRefused where there were some, and none of them can be."""
        offers: list[Offer] = []
        refusals: list[TargetRefused] = []
        for deployment in boot.deployments:
            try:
                offers.append(self._offer(deployment, hello))
            except TargetRefused as error:
                log.warning("task sequence not offered", extra={"mac": boot.ticket.mac, "deployment": deployment.id, "cause": str(error)})  # fmt: skip
                refusals.append(error)
        if refusals and not offers:
            raise refusals[0]
        return tuple(offers)

    def _offer(self, deployment: Deployment, hello: Hello) -> Offer:
        published = self._published(deployment)
        sequence = published.sequence
        for what, allowed, is_of in (
            ("architecture", sequence.architectures, hello.arch),
            ("firmware", sequence.firmware, hello.firmware),
        ):
            if allowed and is_of not in allowed:
                raise TargetRefused(
                    "wrong_machine",
                    f"task sequence {published.name} version {published.version} is for {what} {' or '.join(allowed)}, and this machine's is {is_of}; deploy another one to it",
                )
        return Offer(
            deployment.id,
            deployment.name,
            published.name,
            published.version,
            deployment.purpose.value,
            sequence.description,
        )

    def _published(self, deployment: Deployment) -> SignedSequence:
        """Raises TargetRefused."""
        try:
            return self._sequences.find(*parse_reference(deployment.sequence))
        except SequenceNotFound:
            site = self._policy.store.authority
            publishes = (
                "`dpd sequence publish`" if site is None else f"`dpd --site sequence publish` at site {site.site}"
            )
            raise TargetRefused(
                "sequence_missing",
                f"deployment {deployment.id} is of task sequence {deployment.sequence}, which is not here; {publishes} publishes it",
            ) from None
        except SequenceError as error:
            raise TargetRefused("sequence_damaged", str(error)) from None

    # ---- what it takes

    def take(self, session: str, take: Take, *, is_secure: bool) -> Taken:
        """Raises TargetRefused: session_unknown, not_offered, already_taken, sequence_missing, too_many_variables, tls_required."""
        holder = self._sessions.find(session, self._clock())
        with holder.lock:
            if holder.taken is None or take.deployment != holder.deployment:
                self._take(holder, take.deployment, is_secure)
            assert holder.taken is not None
            return holder.taken

    def _take(self, holder: TargetSession, id: int, is_secure: bool) -> None:
        if holder.execution:
            raise TargetRefused(
                "already_taken",
                f"this machine has taken deployment {holder.deployment} in this boot; boot it from the network again for another one",
            )
        deployment = self._policy.store.deployments.get(id)
        if id not in holder.offers or deployment is None or not deployment.sequence:
            raise TargetRefused(
                "not_offered",
                f"deployment {id} is not offered to this machine, or no more; boot it from the network again to see what is",
            )
        published = self._published(deployment)
        variables = self._variables(holder, is_secure)
        now, limit_s = self._clock(), published.sequence.time_limit_s or UNBOUNDED_S
        execution = self._books.executions.begin(
            holder.machine,
            holder.computer,
            holder.mac,
            id,
            published.name,
            published.version,
            _names_of(published.sequence),
            now,
            run_time_s=limit_s,
        )
        place = Place(execution, holder.machine, holder.computer, holder.mac, id, now + limit_s + TO_TELL_S)
        resume = self._books.resumes.keep(place, now)
        self._runs.note_work(holder.machine, Work(id, now + limit_s))
        holder.deployment, holder.execution, holder.ends_by = id, execution, place.ends_by
        holder.taken = Taken(execution, published.document, variables, resume)
        self.stats.taken += 1
        self._journal.note(holder.mac, "target", step="taken", sequence=published.name, version=published.version, execution=execution)  # fmt: skip

    def _variables(self, holder: TargetSession, is_secure: bool) -> tuple[Variable, ...]:
        """Raises TargetRefused."""
        try:
            found = self._policy.store.variables_for(holder.computer)
        except SiteError as error:
            raise TargetRefused("too_many_variables", str(error)) from None
        secret = [each.name for each in found if each.secret]
        if secret and not is_secure:
            shown = ", ".join(secret[:MAX_SHOWN])
            raise TargetRefused(
                "tls_required",
                f"secret variables ({shown}) are given over TLS alone; set http.certificate and http.private_key, or make them not secret",
            )
        return tuple(Variable(each.name, each.value, each.secret) for each in found)

    # ---- what becomes of it

    def report(self, session: str, reports: Reports) -> Receipt:
        """Raises TargetRefused: session_unknown, execution_unknown; DeploymentError."""
        self._own(session, reports.execution)
        self.stats.reports += 1
        receipt = self._books.executions.take_reports(reports.execution, reports.reports, self._clock())
        if any(each.number for each in reports.reports):
            self._follow(self._books.executions.find(reports.execution))
        return Receipt(receipt.next, receipt.cancel)

    def _follow(self, execution: Execution) -> None:
        """What the book says now, for policy."""
        machine, deployment = execution.machine, execution.deployment
        if execution.state is ExecutionState.LOST:
            return  # what it is at now, another execution says
        self._runs.note_work(machine, Work(deployment, execution.ends_by, _STAGES.get(execution.state, Stage.OVER)))
        if execution.state is ExecutionState.DONE:
            self._runs.finish(deployment, machine, execution.ended_at)

    def resume(self, resume: Resume, address: str) -> Welcome:
        """Raises TargetRefused: resume_wrong, resume_expired."""
        now, place = self._clock(), self._books.resumes.find(resume.execution, resume.resume)
        if place is None:
            bump(self.stats.refused, "resume_wrong")
            log.warning("a restarted machine is refused", extra={"peer": address, "cause": "resume_wrong"})
            raise TargetRefused(
                "resume_wrong",
                f"execution {resume.execution[:40]} is not known here, or not by that secret; boot the machine from the network again",
            )
        if now >= place.ends_by:
            bump(self.stats.refused, "resume_expired")
            raise TargetRefused(
                "resume_expired",
                f"the time of execution {place.execution} has long been over; boot the machine from the network again",
            )
        holder = TargetSession(
            place.machine,
            place.computer,
            place.mac,
            place.ends_by,
            deployment=place.deployment,
            execution=place.execution,
        )
        self.stats.resumed += 1
        return Welcome(self._sessions.open(holder), place.computer, place.machine, now)

    def keep_log(self, session: str, execution: str, text: bytes) -> None:
        """Raises TargetRefused, DeploymentError."""
        self._own(session, execution)
        self._books.executions.note_log(execution, self._books.logs.keep(execution, text))

    def begin_capture(self, session: str, wish: CaptureWish) -> CapturePlace:
        """Raises TargetRefused, DeploymentError."""
        self._own(session, wish.execution)
        spot = self._books.captures.begin(wish.execution, wish.package_id, wish.size_bytes)
        return CapturePlace(spot.offset, spot.id)

    def write_capture(self, session: str, capture: str, offset: int, piece: bytes) -> CapturePlace:
        """Raises TargetRefused, DeploymentError."""
        self._own(session, self._books.captures.execution_of(capture))
        return CapturePlace(self._books.captures.write(capture, offset, piece), capture)

    def settle_capture(self, session: str, capture: str) -> CapturePlace:
        """Raises TargetRefused, DeploymentError."""
        self._own(session, self._books.captures.execution_of(capture))
        return CapturePlace(self._books.captures.settle(capture), capture)

    def finish_capture(self, session: str, capture: str, sha256: str) -> Captured:
        """Raises TargetRefused, DeploymentError, ContentError."""
        self._own(session, self._books.captures.execution_of(capture))
        return self._books.captures.finish(capture, sha256)

    def _own(self, session: str, execution: str) -> None:
        """Raises TargetRefused where the session is not this execution's."""
        holder = self._sessions.find(session, self._clock())
        if not holder.execution or holder.execution != execution:
            raise TargetRefused("execution_unknown", f"execution {execution[:40]} is not this session's; take a task sequence first")  # fmt: skip

    # ---- after a start

    def _still_restarts(self, machine: str) -> bool:
        """Not where it was cancelled, or given up, since it said so."""
        return any(
            each.machine == machine and each.state is ExecutionState.RESTARTING and not each.cancel_reason
            for each in self._books.executions.open_executions()
        )

    def _catch_up(self) -> None:
        """Who is at a task sequence, and who was done with one when dpd was killed before it could note that."""
        for execution in self._books.executions.open_executions():
            self._follow(execution)
        for run in self._runs.all():
            deployment = self._policy.store.deployments.get(run.deployment)
            if run.finished_at or deployment is None or not deployment.sequence:
                continue
            wanted = Wanted(machine=run.machine, deployment=run.deployment)
            for execution in self._books.executions.list(wanted, 1):
                if execution.started_at >= run.started_at and not execution.is_open:
                    self._follow(execution)


def _names_of(sequence: TaskSequence) -> Sequence[StepName]:
    return [StepName(step.id, step.name, step.kind.value) for step in sequence.steps()]
