# SPDX-License-Identifier: Apache-2.0
"""What a network boot over IPv4 and one over IPv6 have in common: policy is asked, the boot image is asked for its loader,
the decision goes into the machine's story, and its address is remembered."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from dpd.boot.tree import BootContext, BootImages
from dpd.boot.winpe import BCD_NAME
from dpd.protocol.dhcp.message import UNSPECIFIED
from dpd.protocol.pxe.exchange import Grant, Outcome
from dpd.protocol.pxe.rules import ClientClass, Rule
from dpd.service.boot_tree import NoImages
from dpd.settings import PxeSettings
from dpd.site.decision import BootRequest, Cause, Decision
from dpd.site.decision import Outcome as DecisionOutcome
from dpd.telemetry.journal import BootJournal, Entry, Fields
from dpd.telemetry.stats import bump

ANNOUNCE_AGAIN_S = 300.0  # an INFO line for each boot of a machine, not for each of its retries
MAX_ANNOUNCED = 4096
WAITING_SCRIPT = "boot.ipxe"  # what the boot tree answers with the waiting screen


class BootJudge(Protocol):
    """Who decides: `dpd.site.policy.BootPolicy`."""

    def decide(self, request: BootRequest) -> Decision: ...

    def grant(self, request: BootRequest, decision: Decision) -> object: ...

    def begin(self, request: BootRequest, decision: Decision) -> object: ...

    def bind(self, address: str, mac: str) -> None: ...


class EverybodyBoots:
    """A distribution point without policy: the rules' loaders for everybody."""

    _decision = Decision(DecisionOutcome.BOOT, Cause.DEFAULT)

    def decide(self, request: BootRequest) -> Decision:
        return self._decision

    def grant(self, request: BootRequest, decision: Decision) -> object:
        return None

    def begin(self, request: BootRequest, decision: Decision) -> object:
        return None

    def bind(self, address: str, mac: str) -> None:
        pass


def rules_of(settings: PxeSettings) -> tuple[Rule, ...]:
    """[[pxe.rule]] as the protocol takes it."""
    return tuple(
        Rule(rule.name, ClientClass(rule.client_class), rule.loader, tuple(rule.client_arch), rule.flow)
        for rule in settings.rule
    )


class Granting:
    """`decisions` is the counter of the listener that asks."""

    def __init__(
        self,
        journal: BootJournal,
        http_port: int,
        policy: BootJudge | None,
        images: BootImages | None,
        decisions: dict[str, int],
    ) -> None:
        self._journal = journal
        self._http_port = http_port
        self._judge: BootJudge = policy or EverybodyBoots()
        self._images: BootImages = images or NoImages()
        self._decisions = decisions
        self._announced: OrderedDict[tuple[str, str], float] = OrderedDict()

    def decide(self, request: BootRequest, question: Entry | None = None) -> Decision:
        """Ask policy; its answer is counted, and in the story behind the question."""
        decision = self._judge.decide(request)
        bump(self._decisions, decision.outcome)
        self._journal.go_on(request.mac, question, "decision", decision, _decided)
        return decision

    def grant(self, request: BootRequest, decision: Decision, client_class: ClientClass) -> Grant:
        """The decision as the responders take it, with the loader of the boot image."""
        outcome = OUTCOMES[decision.outcome]
        if outcome is _BOOT and not decision.boot_image:
            return BY_THE_RULES
        if outcome not in LOADING:
            return Grant(outcome)
        loader = ""
        if decision.boot_image or outcome is Outcome.WAIT:
            context = self._context(request, decision)
            loader = self._images.loader(decision.boot_image, request.arch, client_class, context)
        if outcome is Outcome.WAIT and not loader and client_class is ClientClass.IPXE:
            loader = WAITING_SCRIPT  # never the rules' script, which may be anywhere
        image = decision.boot_image if outcome is not Outcome.WAIT else ""
        return Grant(outcome, loader, image, BCD_NAME, decision.message)

    def _context(self, request: BootRequest, decision: Decision) -> BootContext:
        return BootContext(
            ticket_id="",
            mac=request.mac,
            guid=request.guid,
            arch=request.arch,
            server=request.server,
            http_port=self._http_port,
            outcome=decision.outcome,
            code=decision.code,
            message=decision.message,
        )

    def permit(self, request: BootRequest, decision: Decision) -> None:
        """An answer with a file is about to leave: the machine may fetch it."""
        self._judge.grant(request, decision)

    def begin(self, request: BootRequest, decision: Decision) -> None:
        """It has left."""
        self._judge.begin(request, decision)

    def bind(self, address: str | None, mac: str) -> None:
        """From now on this address is that machine's, for its story and for its ticket."""
        if address and address != UNSPECIFIED:
            self._journal.bind(address, mac)
            self._judge.bind(address, mac)

    def is_news(self, mac: str, loader: str) -> bool:
        """Whether this machine was not told of this loader lately."""
        key, now = (mac, loader), time.monotonic()
        told = self._announced.get(key)
        if told is not None and now - told < ANNOUNCE_AGAIN_S:
            return False
        self._announced[key] = now
        self._announced.move_to_end(key)
        while len(self._announced) > MAX_ANNOUNCED:
            self._announced.popitem(last=False)
        return True


def _decided(decision: Decision) -> Fields:
    """The decision in the machine's story."""
    decided: Fields = {
        "outcome": decision.outcome,
        "cause": decision.cause,
        "computer": decision.computer,
        "deployment": decision.deployment,
        "boot_image": decision.boot_image,
    }
    if decision.code:
        decided["code"] = decision.code
    return decided


BY_THE_RULES = Grant()
_BOOT = Outcome.BOOT
OUTCOMES = {theirs: Outcome(theirs.value) for theirs in DecisionOutcome}
LOADING = (Outcome.BOOT, Outcome.PROMPT, Outcome.WAIT)
