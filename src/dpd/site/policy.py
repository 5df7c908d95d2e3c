# SPDX-License-Identifier: Apache-2.0
"""Boot policy: what a machine that asks for a network boot is to do, and what it may fetch after that.

`decide` says, `issue` writes it down as a ticket, `ticket_at` shows the ticket to whoever serves files. A ticket is worth what
policy says of it now: when policy has changed since, the boot is judged once more as of the moment it was granted, and a ticket
for something else than what comes out is none any more. Safe to use from any thread: DHCP asks on the control loop, HTTP on its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from dpd.errors import SettingsError
from dpd.settings import Settings
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.judgement import ArchsOf, Judge, UnderWay, is_given_again, is_under_way
from dpd.site.pin import PinAnswer, PinDesk
from dpd.site.records import (
    AffinityMode,
    Audience,
    Computer,
    Deployment,
    Purpose,
    Run,
    SiteError,
    SiteNotFound,
    Verdict,
    normal_mac_prefix,
)
from dpd.site.stance import FileWatch, read_stance
from dpd.site.store import SiteStore
from dpd.site.tickets import CAPACITY, BootTicket, Tickets
from dpd.site.waiting_room import PendingMachine, WaitingRoom
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

_WAIT, _REQUIRED = Outcome.WAIT, Cause.REQUIRED  # under names of their own, see `protocol.pxe.rules`


@dataclass(slots=True)
class PolicyStats:
    """What policy counted."""

    decisions: dict[str, int] = counts("Answers of policy, one for each packet that asked", "cause")
    tickets: int = counter("Boot tickets made")
    tickets_revoked: int = counter("Boot tickets that a change of policy ended")
    required_boots: int = counter("Machines given a required deployment")
    pin_tries: dict[str, int] = counts("PINs typed at machines", "answer")
    pending: int = gauge("Unknown machines that wait for approval")


@dataclass(slots=True)
class _Grant:
    """Why a machine has its ticket."""

    request: BootRequest
    decision: Decision
    at: float  # when it was granted


@dataclass(frozen=True, slots=True)
class GrantedBoot:
    """A machine's boot. `computer` is "" for an unknown machine, `machine` what its runs are written down under; `deployments`
    are those whose task sequence it may take."""

    ticket: BootTicket
    computer: str
    machine: str
    deployments: tuple[Deployment, ...]


class BootPolicy:
    """The policy of one distribution point. Without a store it keeps what it learns in memory alone.

    `archs_of` tells the architectures that a boot image has, `mac_at` the machine that the kernel knows at an address ("" none).
    """

    name = "policy"

    def __init__(
        self,
        settings: Settings,
        *,
        store: SiteStore | None = None,
        journal: BootJournal | None = None,
        archs_of: ArchsOf | None = None,
        mac_at: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stats = PolicyStats()
        self.store = store or SiteStore(clock=clock)
        self._lock = threading.RLock()
        self._journal = journal or BootJournal()
        self._archs_of = archs_of
        self._mac_at = mac_at
        self._clock = clock
        self._settings = settings
        self._files = FileWatch((settings.pxe.ignore_macs_file, settings.pxe.pin_file))
        self._stance = read_stance(settings)
        self._judge = Judge(self.store, self._stance, archs_of)
        self._pins = PinDesk(self._stance.pin)
        self._tickets = Tickets()
        self._grants: OrderedDict[str, _Grant] = OrderedDict()  # by MAC
        self._room = WaitingRoom(self.store.code_key)
        self._take_affinity_mode(settings)

    def apply(self, settings: Settings) -> None:
        """From now on these settings hold; where a file that they name cannot be read, what held before."""
        try:
            stance = read_stance(settings)
        except SettingsError as error:
            log.error("policy kept as it was", extra={"error": str(error)})
            return
        with self._lock:
            if settings is not self._settings:
                self._settings = settings
                self._take_affinity_mode(settings)
                self._files = FileWatch((settings.pxe.ignore_macs_file, settings.pxe.pin_file))
            if stance == self._stance:
                return
            self._stance, self._pins.pin = stance, stance.pin
            self._judge = Judge(self.store, stance, self._archs_of)
        self.store.note_change("settings", "settings applied")

    def _take_affinity_mode(self, settings: Settings) -> None:
        """A site tells it its points; who has a policy of its own says it by its settings."""
        try:
            if self.store.authority is None:
                self.store.set_affinity_mode(AffinityMode(settings.site.affinity_mode), "settings")
        except SiteError as error:
            log.error("affinity mode kept as it was", extra={"error": str(error)})

    @property
    def high_risk_computers(self) -> int:
        """How many computers a required deployment may reach without being confirmed; 0 means no limit."""
        return self._settings.site.high_risk_computers

    # ---- what DHCP asks

    def decide(self, request: BootRequest) -> Decision:
        """What this machine is to do. It may be asked for each packet of a boot."""
        with self._lock:
            if self._files.have_changed():
                self.apply(self._settings)
            at = request.at or self._clock()
            decision = self._with_code(request, self._judge.judge(request, at), at)
            bump(self.stats.decisions, decision.cause)
            return decision

    def issue(self, request: BootRequest, decision: Decision) -> BootTicket:
        """The ticket for an answer, which leaves at once."""
        ticket = self.grant(request, decision)
        self.begin(request, decision)
        return ticket

    def grant(self, request: BootRequest, decision: Decision) -> BootTicket:
        """The ticket, before its answer leaves: on a short way a machine asks for its first file before we have said more."""
        with self._lock:
            at = request.at or self._clock()
            if not request.at:
                request = replace(request, at=at)
            ticket = self._tickets.issue(request, decision, self._stance.ticket_lifetime_s)
            self._grants[request.mac] = _Grant(request, decision, at)
            self._grants.move_to_end(request.mac)
            while len(self._grants) > CAPACITY:
                self._grants.popitem(last=False)
            return ticket

    def begin(self, request: BootRequest, decision: Decision) -> None:
        """The answer has left: a required deployment counts as given from here on."""
        with self._lock:
            if decision.outcome is not _WAIT and len(self._room):
                self._stop_waiting(request.mac)
            if decision.cause is _REQUIRED:
                self._note_run(request, decision, request.at or self._clock())
            ticket = self._tickets.of_mac(request.mac)
            if ticket is not None and not ticket.is_told:  # None: a change of policy has taken it back meanwhile
                ticket.is_told = True
                self._tell_ticket(ticket)

    def bind(self, address: str, mac: str) -> None:
        """From now on this address is that machine's."""
        with self._lock:
            self._tickets.bind(address, mac)

    def _note_run(self, request: BootRequest, decision: Decision, at: float) -> None:
        deployment, machine = int(decision.deployment), decision.computer.lower() or request.mac
        run, known = self.store.runs.find(deployment, machine), self.store.deployments.get(deployment)
        again = False
        if run is not None and known is not None:
            work = self.store.runs.work_of(machine, at)
            again = not is_under_way(run, work, at) and is_given_again(known, run, work)
        if run is None or again:
            self.store.runs.forget_work(machine)
            self.stats.required_boots += 1
            self.store.runs.start(Run(deployment, machine, request.mac, at), again=again)

    def _tell_ticket(self, ticket: BootTicket) -> None:
        self.stats.tickets += 1
        expires_in_s = int(ticket.expires_at - ticket.issued_at)
        self._journal.note(ticket.mac, "ticket", id=ticket.id, boot_image=ticket.boot_image, expires_in_s=expires_in_s)

    def _with_code(self, request: BootRequest, decision: Decision, at: float) -> Decision:
        if decision.outcome is not _WAIT:
            return decision
        if self._room.find(request.mac) is None:
            self._journal.note(request.mac, "approval", state="pending", by="")
        code = self._room.note(request, at).code
        self.stats.pending = len(self._room)
        return replace(decision, code=code)

    def _stop_waiting(self, mac: str) -> None:
        self._room.forget(mac)
        self.stats.pending = len(self._room)

    # ---- what file servers ask

    def ticket_at(self, address: str) -> BootTicket | None:
        """The ticket of the machine that was seen at this address, also one that has run out."""
        with self._lock:
            return self._ticket_of(self._mac_of(address))

    def _ticket_of(self, mac: str) -> BootTicket | None:
        ticket = self._tickets.of_mac(mac) if mac else None
        grant = self._grants.get(mac)
        if ticket is None or grant is None:
            return None
        if ticket.outcome is Outcome.WAIT:
            return self._ask_again(ticket, grant)
        if grant.decision.policy_version == self.store.policy_version:
            return ticket
        return self._judge_again(ticket, grant)

    def run_started(self, address: str) -> None:
        """The machine at this address has fetched the last of its boot image: the next time it asks, it has run. Where there is
        a task sequence in it, that says when it has."""
        with self._lock:
            grant = self._grants.get(self._mac_of(address))
            if grant is None or grant.decision.cause is not Cause.REQUIRED:
                return
            deployment = self.store.deployments.get(int(grant.decision.deployment))
            if deployment is None or not deployment.sequence:
                self.store.runs.finish(int(grant.decision.deployment), _machine_of(grant), self._clock())

    def enter_pin(self, address: str, pin: str) -> bool:
        """Whoever sits at the machine has typed a PIN; the right one lets it boot once."""
        with self._lock:
            ticket, now = self.ticket_at(address), self._clock()
            if ticket is None or not ticket.asks_pin or not ticket.grants_now(now):
                return False
            answer = self._pins.judge(ticket.mac, pin, now)
            bump(self.stats.pin_tries, answer.value)
            if answer is not PinAnswer.RIGHT:
                log.warning("PIN not taken", extra={"mac": ticket.mac, "address": address, "answer": answer.value})
                return False
        self._allow_once(ticket.mac, "pin")
        return True

    def _mac_of(self, address: str) -> str:
        """DHCP's own word goes before the kernel's."""
        mac = self._tickets.mac_of(address)
        return mac if mac or self._mac_at is None else self._mac_at(address)

    def _ask_again(self, ticket: BootTicket, grant: _Grant) -> BootTicket:
        """A machine that waits is judged each time, and its time begins anew."""
        now = self._clock()
        if not ticket.grants_now(now):
            return ticket
        request = replace(grant.request, at=now)
        decision = self._with_code(request, self._judge.judge(request, now), now)
        if decision.outcome is Outcome.SILENT:  # too late to say nothing: it is to go on to its next boot device
            decision = replace(decision, outcome=Outcome.ABORT)
        if decision.outcome is not Outcome.WAIT:
            self._tell_decision(request.mac, decision)
        return self.issue(request, decision)

    def _tell_decision(self, mac: str, decision: Decision) -> None:
        """As the listeners do for what DHCP asks."""
        self._journal.note(
            mac,
            "decision",
            outcome=decision.outcome.value,
            cause=decision.cause.value,
            computer=decision.computer,
            deployment=decision.deployment,
            boot_image=decision.boot_image,
        )

    def _judge_again(self, ticket: BootTicket, grant: _Grant) -> BootTicket | None:
        """A boot under way, judged by the policy of now as of the moment when it was granted."""
        under_way = UnderWay(int(grant.decision.deployment or 0))
        decision = self._judge.judge(grant.request, grant.at, under_way)
        if _same_grant(decision, grant.decision):
            self._grants[ticket.mac] = replace(grant, decision=decision)
            return ticket
        self._tickets.revoke(ticket.mac)
        del self._grants[ticket.mac]
        self.stats.tickets_revoked += 1
        log.info("boot ticket ended by a change of policy", extra={"mac": ticket.mac, "ticket": ticket.id, "cause": decision.cause.value})  # fmt: skip
        return None

    # ---- what a booted machine asks

    def mac_at(self, address: str) -> str:
        """The machine that was seen at this address, "" where none was."""
        with self._lock:
            return self._mac_of(address)

    def boot_of(self, mac: str) -> GrantedBoot | None:
        """What this machine was last granted, as policy says now; None where it has no ticket."""
        with self._lock:
            ticket = self._ticket_of(mac)
            grant = self._grants.get(mac)
            if ticket is None or grant is None:
                return None
            computer = grant.decision.computer
            return GrantedBoot(ticket, computer, _machine_of(grant), self._sequences_of(grant))

    def use_proof(self, ticket: BootTicket, by: str) -> bool:
        """Whoever says `by` has shown the ticket's proof; False where another one has before."""
        with self._lock:
            is_first = ticket.used_by in ("", by)
            if is_first:
                ticket.used_by = by
            return is_first

    def sequences_for(self, ticket: BootTicket) -> tuple[Deployment, ...]:
        """The deployments with a task sequence that the machine with this ticket may take: the required one that it boots for, or
        the available ones."""
        with self._lock:
            grant = self._grants.get(ticket.mac)
            return () if grant is None else self._sequences_of(grant)

    def _sequences_of(self, grant: _Grant) -> tuple[Deployment, ...]:
        decision, now = grant.decision, self._clock()
        granted = self.store.deployments.get(int(decision.deployment or 0))
        if granted is None:
            return ()
        if decision.cause is not Cause.AVAILABLE:
            return (granted,) if granted.sequence and decision.cause is _REQUIRED else ()
        aims = self.store.aims
        aimed = aims.of_computer(decision.computer.lower()) if decision.computer else aims.of_unknown
        return tuple(each for each in aimed if each.sequence and (each is granted or _is_on_menu(each, now)))

    # ---- what the operator asks

    def has_image(self, image: str) -> bool:
        """Whether there is such a boot image; "" is the default one, and without boot images any name will do."""
        return not image or self._archs_of is None or bool(self._archs_of(image))

    def has_sequence(self, reference: str) -> bool:
        """Whether there is such a task sequence. Raises SequenceError for what names none."""
        return self.store.sequences.has(reference)

    def pending(self) -> list[PendingMachine]:
        """Who waits for approval, the first to come first."""
        with self._lock:
            machines = self._room.machines(self._clock())
            self.stats.pending = len(machines)
            return machines

    def approve(self, code_or_mac: str, actor: str, *, computer: str = "", boot_image: str = "") -> PendingMachine:
        """Let a waiting machine boot: as a known computer from now on where it gets a name, else once. Raises SiteError."""
        with self._lock:
            machine, shared = self._room.find(code_or_mac), self._stance.identities.shared
        if machine is None:
            raise SiteNotFound(
                f"no machine {code_or_mac[:40]} waits for approval; `dpd pxe pending` shows those that do, `dpd computer add` takes any in"
            )
        if computer:
            guid = "" if machine.guid in shared else machine.guid
            self.store.add_computer(Computer(computer, (machine.mac,), guid, boot_image), actor)
            self._end_waiting(machine.mac, "approved", actor)
        else:
            self._allow_once(machine.mac, actor)
        return machine

    def deny(self, code_or_mac: str, actor: str) -> str:
        """Answer this machine no more while it is unknown, whether it waits or not; its MAC. Raises SiteError."""
        with self._lock:
            machine = self._room.find(code_or_mac)
        mac = machine.mac if machine is not None else normal_mac_prefix(code_or_mac, whole=True)
        self.store.approvals.give(mac, Verdict.DENIED, 0.0, actor)
        self._end_waiting(mac, "denied", actor)
        return mac

    def _allow_once(self, mac: str, actor: str) -> None:
        """Without the lock, as whatever changes the store: that waits for the change before it, and an answer is not to."""
        self.store.approvals.give(mac, Verdict.ALLOWED, self._clock() + self._stance.ticket_lifetime_s, actor)
        self._end_waiting(mac, "approved", actor)

    def _end_waiting(self, mac: str, state: str, actor: str) -> None:
        with self._lock:
            self._stop_waiting(mac)
        self._journal.note(mac, "approval", state=state, by=actor)


def _same_grant(one: Decision, other: Decision) -> bool:
    return (one.outcome, one.boot_image, one.deployment) == (other.outcome, other.boot_image, other.deployment)


def _machine_of(grant: _Grant) -> str:
    return grant.decision.computer.lower() or grant.request.mac


def _is_on_menu(deployment: Deployment, at: float) -> bool:
    is_shown = deployment.audience in (Audience.ALL, Audience.MEDIA_AND_PXE)
    is_open = deployment.has_begun(at) and not deployment.has_ended(at)
    return deployment.purpose is Purpose.AVAILABLE and is_shown and is_open
