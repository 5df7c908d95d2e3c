# SPDX-License-Identifier: Apache-2.0
"""No order of requests, approvals, changes, restarts and clock steps yields an answer or a file that policy denies."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.service.policy_model import ARCHS, LIFETIME_S, SUBNET, SUBNET_MODE, Group, Model, Rules, Word

from dpd.boot.tree import BootContext, BootObject, in_memory
from dpd.content.boot_files import BootFiles
from dpd.service.boot_tree import TICKET_DENIALS, BootTree, Denial, NotServed
from dpd.settings import BootSettings, PxeSettings, PxeSubnet, Settings
from dpd.site.decision import BootRequest, Decision
from dpd.site.policy import BootPolicy
from dpd.site.records import (
    Audience,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Purpose,
    Rerun,
    RuleKind,
    SiteError,
)
from dpd.site.store import SiteStore
from dpd.telemetry.journal import BootJournal

MACS = [f"52:54:00:00:00:0{number}" for number in range(4)]
GUIDS = ["", "00000000-0000-0000-0000-000000000001", *["00000000-0000-0000-0000-000000000002"] * 2]  # two share one
ADDRESSES = ["192.0.2.10", "192.0.2.11", "2001:db8::12"]
NAMES = ["PC1", "PC2"]
LABS = {"lab": "old", "old": "lab"}  # each may include or exclude the other
START = 1_800_000_000.0
STEPS_S = [1, 60, 179, 180, 600, 3600, -1, -60, -3600]
PUBLIC, NOBODYS = "ipxe.efi", "pxelinux.cfg/default"
FILES = [PUBLIC, NOBODYS, "../ipxe.efi", "boot\\BCD", *(f"{image}.wim" for image in ARCHS)]

macs, addresses, names = (st.sampled_from(each) for each in (MACS, ADDRESSES, NAMES))
images = st.sampled_from(["", *ARCHS])
archs = st.sampled_from(["uefi-x64", "bios"])
relays = st.sampled_from(["", "10.9.0.1", "10.1.0.1"])


class Images:
    """Each image has a WIM of its own and a BCD."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        if image_id and name == f"{image_id}.wim":
            return BootObject(f"{image_id}/wim", 1, "", 0, lambda: -1, completes_boot=True)
        return in_memory(f"{image_id}/BCD", context.mac.encode()) if image_id and name == "boot\\BCD" else None

    def holds(self, name: str) -> bool:
        return name.endswith((".wim", "BCD"))

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return ""


class PolicyMachine(RuleBasedStateMachine):
    """Policy and file servers on one side, the model on the other; each step is taken on both."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        (self.directory / "boot").mkdir()
        (self.directory / "boot" / PUBLIC).write_bytes(b"loader")
        (self.directory / "pin").write_text("4711\n")
        self.now = START
        self.model = Model()
        self.wrong_pins: dict[str, int] = {}
        self.settings = Settings()
        self.set_rules(Rules())
        self.open()

    def open(self) -> None:
        self.store = SiteStore(self.directory / "site.db", clock=lambda: self.now)
        self.policy = BootPolicy(
            self.settings, store=self.store, archs_of=lambda each: ARCHS[each], clock=lambda: self.now
        )
        journal = BootJournal(clock=lambda: self.now)
        files = BootFiles(self.directory / "boot")
        self.tree = BootTree(files, journal, desk=self.policy, images=Images(), clock=lambda: self.now)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    def set_rules(self, rules: Rules) -> None:
        pxe = PxeSettings(
            unknown_computers=rules.mode,
            ignore_macs=tuple(rules.ignored),
            pin_file=str(self.directory / "pin") if rules.pin else "",
            max_required_boots_per_hour=rules.most,
            duplicate_ids=tuple(rules.shared),
            ticket_lifetime_s=int(LIFETIME_S),
            subnet=(PxeSubnet(network=SUBNET, unknown_computers=SUBNET_MODE),),
        )
        self.model.rules = rules
        self.settings = Settings(pxe=pxe, boot=BootSettings(default_image=rules.default))

    @initialize(
        purpose=st.sampled_from(Purpose),
        image=images,
        most=st.sampled_from([0, 1]),
        rerun=st.sampled_from(Rerun),
        link=st.sampled_from(["", "exclude"]),
    )
    def a_room_of_computers(self, purpose: Purpose, image: str, most: int, rerun: Rerun, link: str) -> None:
        """Walks that begin with nothing seldom come to where much is known and deployed."""
        for address, mac in zip(ADDRESSES, MACS, strict=False):
            self.an_address_is_seen(address, mac)
        self.a_computer_is_added_or_changed("PC1", {MACS[0], MACS[3]}, "", "")
        self.a_computer_is_added_or_changed("PC2", {MACS[1]}, GUIDS[1], "")
        self.a_collection_is_made_or_changed("old", {"PC2"}, "", "", "")
        self.a_collection_is_made_or_changed("lab", {"PC1"}, "*2", "", link)
        self.a_deployment_is_added("all", image, Purpose.REQUIRED, 0, None, None, Audience.ALL, Rerun.NEVER)
        self.a_deployment_is_added("PC1", "X", purpose, 0, None, 120, Audience.ALL, rerun)
        self.a_deployment_is_added("collection:lab", "Y", purpose, 0, None, None, Audience.ALL, rerun)
        self.settings_change("pending", set(), "", most, "D", set())

    # ---- what machines do

    def request(self, mac: str, arch: str, relay: str) -> BootRequest:
        return BootRequest(mac, GUIDS[MACS.index(mac)], arch, "PXEClient", "192.0.2.1", relay, at=self.now)

    def ask(self, request: BootRequest) -> tuple[Decision, Word]:
        """Both are asked; they must say the same."""
        decision, word = self.policy.decide(request), self.model.say(request, self.now)
        said = Word(
            decision.outcome, decision.cause, decision.computer, int(decision.deployment or 0), decision.boot_image
        )
        assert said == word
        assert bool(decision.code) == (word.outcome == "wait")
        if word.outcome == "wait":
            self.model.waiting.add(request.mac)
        return decision, word

    @rule(mac=macs, arch=archs, relay=relays)
    def a_machine_asks_and_hears_nothing(self, mac: str, arch: str, relay: str) -> None:
        self.ask(self.request(mac, arch, relay))

    @rule(mac=macs, arch=archs, relay=relays, address=addresses, bound=st.booleans())
    def a_machine_boots(self, mac: str, arch: str, relay: str, address: str, bound: bool) -> None:
        request = self.request(mac, arch, relay)
        decision, word = self.ask(request)
        if decision.boots:
            self.policy.issue(request, decision)
            self.model.answer(request, word, self.now)
        if bound:
            self.an_address_is_seen(address, mac)

    @rule(address=addresses, mac=macs)
    def an_address_is_seen(self, address: str, mac: str) -> None:
        self.policy.bind(address, mac)
        self.model.addresses[address] = mac

    @rule(address=addresses, mac=macs)
    def a_machine_boots_to_the_end(self, address: str, mac: str) -> None:
        self.a_machine_boots(mac, "uefi-x64", "", address, True)
        if image := self.model.image_at(address, self.now):
            self.a_file_is_fetched(address, f"{image}.wim", True)

    @rule(address=addresses, name=st.sampled_from(FILES), whole=st.booleans())
    def a_file_is_fetched(self, address: str, name: str, whole: bool) -> None:
        found = self.tree.find(name, address)
        image = "" if name.startswith("..") else self.model.image_at(address, self.now)
        if image and name in (f"{image}.wim", "boot\\BCD"):
            assert isinstance(found, BootObject), found
            assert found.name.split("/")[0] == image
            if whole:
                self.tree.sent(found, address)
                if name.endswith(".wim"):
                    self.model.fetched_all(address)
        elif name == PUBLIC:
            assert isinstance(found, BootObject)
            assert found.name == PUBLIC
        else:
            assert isinstance(found, NotServed), found
            reasons = {NOBODYS: (Denial.NOT_FOUND,), "../ipxe.efi": (Denial.BAD_NAME,)}
            assert found.reason in reasons.get(name, TICKET_DENIALS)

    @rule(address=addresses, right=st.booleans())
    def a_pin_is_typed(self, address: str, right: bool) -> None:
        taken = self.policy.enter_pin(address, "4711" if right else "4712")
        ticket = self.model.ticket_at(address, self.now)
        rules = self.model.rules
        if ticket is None or not ticket.holds(self.now) or ticket.word.outcome != "wait" or not rules.pin:
            assert not taken
            return
        mac = ticket.request.mac
        if taken:
            assert right
            self.model.verdicts[mac] = "allowed", self.now + LIFETIME_S
            self.model.waiting.discard(mac)
            self.wrong_pins.pop(mac, None)
        elif right:
            assert self.wrong_pins[mac] >= 5  # locked
        else:
            self.wrong_pins[mac] = self.wrong_pins.get(mac, 0) + 1

    @rule(step_s=st.sampled_from(STEPS_S))
    def the_clock_steps(self, step_s: int) -> None:
        self.now += step_s

    # ---- what operators do

    @rule(mac=macs, computer=st.sampled_from(["", *NAMES]), image=images)
    def a_machine_is_approved(self, mac: str, computer: str, image: str) -> None:
        try:
            machine = self.policy.approve(mac, "test", computer=computer, boot_image=image)
        except SiteError:
            assert mac not in self.model.waiting or computer
            return
        assert mac in self.model.waiting
        self.model.waiting.discard(mac)
        if computer:
            guid = "" if machine.guid in self.model.rules.shared else machine.guid
            self.model.computers[computer] = {mac}, guid, image
        else:
            self.model.verdicts[mac] = "allowed", self.now + LIFETIME_S

    @rule(mac=macs)
    def a_machine_is_denied(self, mac: str) -> None:
        self.policy.deny(mac, "test")
        self.model.verdicts[mac] = "denied", 0.0
        self.model.waiting.discard(mac)

    @rule(mac=macs)
    def a_verdict_is_taken_back(self, mac: str) -> None:
        self.store.approvals.take_back(mac, "test")
        self.model.verdicts.pop(mac, None)

    @rule(value=st.sampled_from([("mac_prefix", "52:54:00"), ("mac_prefix", MACS[1]), ("network", "10.1.0.0/16")]))
    def a_rule_comes_or_goes(self, value: tuple[str, str]) -> None:
        known = next((r for r in self.store.approvals.rules if (r.kind, r.value) == value), None)
        if known is None:
            self.store.approvals.add_rule(RuleKind(value[0]), value[1], "test")
            self.model.approved.append(value)
        else:
            self.store.approvals.remove_rule(known.id, "test")
            self.model.approved.remove(value)

    @rule(name=names, known=st.sets(macs, min_size=1, max_size=2), guid=st.sampled_from(GUIDS), image=images)
    def a_computer_is_added_or_changed(self, name: str, known: set[str], guid: str, image: str) -> None:
        try:
            self.store.carry_out([Computer(name, tuple(sorted(known)), guid, image)], "test")
        except SiteError:
            others = [each for other, each in self.model.computers.items() if other != name]
            assert any(macs & known or (guid and guid == other) for macs, other, _ in others)
            return
        self.model.computers[name] = known, guid, image

    @rule(name=names)
    def a_computer_is_removed(self, name: str) -> None:
        try:
            self.store.remove_computer(name, "test")
        except SiteError:
            assert name not in self.model.computers or any(d.target == name for d in self.model.deployments)
            return
        del self.model.computers[name]
        for group in self.model.collections.values():
            group.named.discard(name)
        self.model.runs = {key: each for key, each in self.model.runs.items() if key[1] != name.lower()}

    @rule(
        name=st.sampled_from(list(LABS)),
        named=st.sets(names, max_size=2),
        pattern=st.sampled_from(["", "", "pc*", "*2"]),
        prefix=st.sampled_from(["", "", "52:54", MACS[1]]),
        link=st.sampled_from(["", "", "include", "exclude"]),
    )
    def a_collection_is_made_or_changed(self, name: str, named: set[str], pattern: str, prefix: str, link: str) -> None:
        other = LABS[name] if link else ""
        rules = [MembershipRule(MemberKind.NAME, pattern)] if pattern else []
        rules += [MembershipRule(MemberKind.MAC_PREFIX, prefix)] if prefix else []
        include, exclude = ((other,) if link == each else () for each in ("include", "exclude"))
        wanted = Collection(name, tuple(sorted(named)), tuple(rules), include, exclude)
        write = self.store.change_collection if name in self.model.collections else self.store.add_collection
        try:
            write(wanted, "test")
        except SiteError:
            back = self.model.collections.get(other, Group())
            circle = bool(link) and name in (back.include, back.exclude)
            assert circle or (link and other not in self.model.collections) or named - self.model.computers.keys()
            return
        links = other if link == "include" else "", other if link == "exclude" else ""
        self.model.collections[name] = Group(set(named), pattern, prefix, *links)

    @rule(name=st.sampled_from(list(LABS)))
    def a_collection_is_removed(self, name: str) -> None:
        try:
            self.store.remove_collection(name, "test")
        except SiteError:
            targets = [each.target for each in self.model.deployments]
            other = self.model.collections.get(LABS[name], Group())
            linked = name in (other.include, other.exclude)
            assert name not in self.model.collections or f"collection:{name}" in targets or linked
            return
        del self.model.collections[name]

    @rule()
    def the_whole_model_is_said_once_more(self) -> None:
        self.store.replace_model(self.store.model(), "test", version=self.store.policy_version)

    @rule(
        whom=st.sampled_from(["all", "unknown", *NAMES, *(f"collection:{each}" for each in LABS)]),
        image=images,
        purpose=st.sampled_from(Purpose),
        priority=st.integers(0, 1),
        begins_in=st.sampled_from([None, None, 60, -60]),
        ends_in=st.sampled_from([None, None, 120, -30]),
        audience=st.sampled_from([Audience.ALL, *Audience]),
        rerun=st.sampled_from([Rerun.NEVER, *Rerun]),
    )
    def a_deployment_is_added(
        self,
        whom: str,
        image: str,
        purpose: Purpose,
        priority: int,
        begins_in: int | None,
        ends_in: int | None,
        audience: Audience,
        rerun: Rerun,
    ) -> None:
        begins_at = 0.0 if begins_in is None else self.now + begins_in
        ends_at = 0.0 if ends_in is None else self.now + ends_in
        wanted = Deployment(0, whom, image, purpose, priority, begins_at, ends_at, audience=audience, rerun=rerun)
        try:
            self.model.deployments.append(self.store.add_deployment(wanted, "test"))
        except SiteError:
            there = ["all", "unknown", *self.model.computers, *(f"collection:{c}" for c in self.model.collections)]
            assert 0 < ends_at <= begins_at or whom not in there

    @precondition(lambda self: self.model.deployments)
    @rule(data=st.data())
    def a_deployment_is_removed(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.model.deployments))
        self.store.remove_deployment(gone.id, "test")
        self.model.deployments.remove(gone)
        self.model.runs = {key: each for key, each in self.model.runs.items() if key[0] != gone.id}

    @precondition(lambda self: self.model.deployments)
    @rule(data=st.data())
    def runs_are_cleared(self, data: st.DataObject) -> None:
        cleared = data.draw(st.sampled_from(self.model.deployments))
        self.store.runs.clear(cleared.id, None, "test")
        self.model.runs = {key: each for key, each in self.model.runs.items() if key[0] != cleared.id}

    @rule(on=st.booleans())
    def maintenance_changes(self, on: bool) -> None:
        self.store.set_maintenance("switch" if on else "", "test")
        self.model.maintenance = on

    @rule(
        mode=st.sampled_from(["allow", "deny", "pending"]),
        ignored=st.sets(macs, max_size=1),
        pin=st.sampled_from(["", "4711"]),
        most=st.sampled_from([0, 0, 1, 2]),
        default=images,
        shared=st.sets(st.sampled_from([MACS[0], GUIDS[1], GUIDS[2]]), max_size=2),
    )
    def settings_change(
        self, mode: str, ignored: set[str], pin: str, most: int, default: str, shared: set[str]
    ) -> None:
        self.set_rules(Rules(mode, ignored, pin, most, default, shared))
        self.policy.apply(self.settings)

    @rule()
    def the_daemon_starts_anew(self) -> None:
        self.store.close()
        self.open()
        self.model.restart(self.now)
        self.wrong_pins = {}

    # ---- what is looked at after each step

    @invariant()
    def every_address_opens_what_the_model_says_and_nothing_of_the_ignored(self) -> None:
        for address in [*ADDRESSES, "192.0.2.99"]:
            ticket = self.policy.ticket_at(address)
            opened = [each for each in ARCHS if isinstance(self.tree.find(f"{each}.wim", address), BootObject)]
            image = self.model.image_at(address, self.now)
            assert opened == ([image] if image else [])
            if ticket is not None and ticket.boot_image:
                assert ticket.mac == self.model.addresses[address]
                assert ticket.mac not in self.settings.pxe.ignore_macs
                assert ticket.outcome in ("boot", "prompt")
                assert ticket.arch in ARCHS[ticket.boot_image]

    @invariant()
    def every_machine_would_hear_what_the_model_says(self) -> None:
        for mac in MACS:
            self.ask(self.request(mac, "uefi-x64", ""))

    @invariant()
    def the_last_hour_has_as_many_required_boots_as_began_in_it(self) -> None:
        assert self.store.runs.started_since(self.now - 3600) == sum(at > self.now - 3600 for at in self.model.begun)


PolicyMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("DPD_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPolicy = PolicyMachine.TestCase
