# SPDX-License-Identifier: Apache-2.0
"""Boot policy: each outcome with its cause, and what tickets are worth when policy changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.settings import parse_settings
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.judgement import RESTARTING, SAME_BOOT_S
from dpd.site.model import SiteModel
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
    SiteConflict,
    SiteNotFound,
)
from dpd.site.run_book import Stage, Work
from dpd.site.store import SiteStore
from dpd.telemetry.journal import BootJournal

MAC, OTHER, ADDRESS = "52:54:00:00:00:01", "52:54:00:00:00:02", "192.0.2.7"
GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
T = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = T

    def __call__(self) -> float:
        return self.now


class Site:
    """A policy with a clock, and one machine at one address."""

    def __init__(self, settings: str = "") -> None:
        self.clock = Clock()
        self.journal = BootJournal(clock=self.clock)
        self.archs = {"IMG1": {"uefi-x64"}, "IMG2": {"uefi-x64", "bios"}, "DEFAULT": {"uefi-x64"}}
        self.policy = BootPolicy(
            parse_settings(settings, "t"),
            store=SiteStore(clock=self.clock),
            journal=self.journal,
            archs_of=lambda image: self.archs.get(image, set()),
            clock=self.clock,
        )
        self.store = self.policy.store
        self.policy.bind(ADDRESS, MAC)

    def request(self, mac: str = MAC, guid: str = "", arch: str = "uefi-x64", relay: str = "") -> BootRequest:
        return BootRequest(mac, guid, arch, "PXEClient", "192.0.2.1", relay, at=self.clock.now)

    def decide(self, mac: str = MAC, guid: str = "", arch: str = "uefi-x64", relay: str = "") -> Decision:
        return self.policy.decide(self.request(mac, guid, arch, relay))

    def boot(self, mac: str = MAC) -> Decision:
        """Ask, and be answered."""
        decision = self.decide(mac)
        if decision.boots:
            self.policy.issue(self.request(mac), decision)
        return decision

    def know(self, name: str = "PC1", mac: str = MAC, guid: str = "", boot_image: str = "") -> None:
        self.store.add_computer(Computer(name, (mac,), guid, boot_image), "test")

    def deploy(self, target: str = "PC1", image: str = "IMG1", purpose: Purpose = Purpose.REQUIRED, *, since: float = 0.0, until: float = 0.0, audience: Audience = Audience.ALL, rerun: Rerun = Rerun.NEVER, sequence: str = "") -> int:  # fmt: skip
        wanted = Deployment(
            0, target, image, purpose, 0, since, until, audience=audience, rerun=rerun, sequence=sequence
        )
        return self.store.add_deployment(wanted, "test").id

    def image_at(self, address: str = ADDRESS) -> str:
        """What the machine there may fetch."""
        ticket = self.policy.ticket_at(address)
        return ticket.boot_image if ticket is not None and ticket.grants_now(self.clock.now) else ""

    def events(self, mac: str = MAC) -> list[str]:
        return [event.event for event in self.journal.story(mac)]


PENDING = '[pxe]\nunknown_computers = "pending"\n[boot]\ndefault_image = "DEFAULT"\n'
DEFAULT = '[boot]\ndefault_image = "DEFAULT"\n'


def said(decision: Decision) -> tuple[Outcome, Cause]:
    return decision.outcome, decision.cause


def test_without_a_policy_every_machine_boots_what_the_rules_name() -> None:
    site = Site()
    assert said(site.decide()) == (Outcome.BOOT, Cause.DEFAULT)
    site.know()
    assert said(site.decide()) == (Outcome.BOOT, Cause.DEFAULT)
    assert site.decide().boot_image == ""
    assert Site(DEFAULT).decide().boot_image == "DEFAULT"


def test_a_required_deployment_boots_and_an_available_one_asks() -> None:
    site = Site()
    site.know()
    id = site.deploy()
    assert site.decide() == Decision(
        Outcome.BOOT, Cause.REQUIRED, "PC1", str(id), "IMG1", policy_version=site.store.policy_version
    )
    site.store.remove_deployment(id, "test")
    site.deploy("all", purpose=Purpose.AVAILABLE)
    assert said(site.decide()) == (Outcome.PROMPT, Cause.AVAILABLE)


def test_a_computer_is_known_by_its_guid_alone_unless_several_share_it() -> None:
    site = Site()
    site.know(guid=GUID)
    site.deploy()
    assert site.decide(OTHER, GUID).computer == "PC1"
    site.policy.apply(parse_settings(f'[pxe]\nduplicate_ids = ["{GUID.upper()}"]\n', "t"))
    assert site.decide(OTHER, GUID).computer == ""
    assert site.decide(MAC, GUID).computer == "PC1"


def test_a_known_computer_to_which_nothing_is_deployed_goes_on_to_its_next_boot_device() -> None:
    site = Site()
    site.know()
    site.know("PC2", OTHER)
    site.deploy("PC2")
    decision = site.decide()
    assert said(decision) == (Outcome.ABORT, Cause.NOTHING_DEPLOYED)
    assert decision.message


def test_a_deployment_for_all_is_for_known_computers_alone() -> None:
    site = Site(DEFAULT)
    site.know()
    site.deploy("all")
    assert said(site.decide(OTHER)) == (Outcome.BOOT, Cause.UNKNOWN_ALLOWED)
    assert site.decide(OTHER).boot_image == "DEFAULT"
    site.deploy("unknown", "IMG2", Purpose.AVAILABLE)
    assert said(site.decide(OTHER)) == (Outcome.PROMPT, Cause.AVAILABLE)


def test_schedules_are_kept_at_the_answer() -> None:
    site = Site()
    site.know()
    site.deploy(since=T + 10, until=T + 20)
    assert said(site.decide()) == (Outcome.ABORT, Cause.NOT_YET)
    site.clock.now = T + 10
    assert said(site.decide()) == (Outcome.BOOT, Cause.REQUIRED)
    site.clock.now = T + 20
    assert said(site.decide()) == (Outcome.ABORT, Cause.EXPIRED)


def test_a_computers_own_image_stands_before_the_deployments() -> None:
    site = Site(DEFAULT)
    site.know(boot_image="IMG2")
    site.deploy(image="IMG1")
    assert site.decide(arch="bios").boot_image == "IMG2"
    site.deploy("unknown", "")
    assert site.decide(OTHER).boot_image == "DEFAULT"


def test_an_image_without_the_machines_architecture_is_not_given() -> None:
    site = Site(DEFAULT)
    assert said(site.decide(arch="bios")) == (Outcome.ABORT, Cause.NO_IMAGE_FOR_ARCH)
    site.know()
    site.deploy()
    assert said(site.decide(arch="bios")) == (Outcome.ABORT, Cause.NO_IMAGE_FOR_ARCH)
    del site.archs["IMG1"]
    assert said(site.decide()) == (Outcome.ABORT, Cause.NO_IMAGE_FOR_ARCH)


def test_ignored_machines_hear_nothing_whatever_is_deployed() -> None:
    site = Site(f'[pxe]\nignore_macs = ["{MAC.upper()}"]\n')
    site.know()
    site.deploy()
    assert said(site.decide()) == (Outcome.SILENT, Cause.IGNORED_MAC)


def test_maintenance_answers_nobody_and_lets_boots_under_way_go_on() -> None:
    site = Site(DEFAULT)
    site.boot()
    site.store.set_maintenance("new switch", "test")
    assert said(site.decide()) == (Outcome.SILENT, Cause.MAINTENANCE)
    assert site.image_at() == "DEFAULT"
    site.store.set_maintenance("", "test")
    assert said(site.decide()) == (Outcome.BOOT, Cause.DEFAULT)


# ---- required once


def test_firmware_and_its_ipxe_ask_several_times_in_one_boot() -> None:
    site = Site()
    site.know()
    site.deploy()
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)
    ticket = site.policy.ticket_at(ADDRESS)
    site.clock.now += SAME_BOOT_S - 1
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)
    after = site.policy.ticket_at(ADDRESS)
    assert ticket is not None
    assert after is not None
    assert after.id == ticket.id


def test_a_machine_that_comes_back_has_run_it_until_somebody_clears_that() -> None:
    site = Site()
    site.know()
    id = site.deploy()
    site.boot()
    site.clock.now += SAME_BOOT_S
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)
    site.store.runs.clear(id, "pc1", "test")
    assert said(site.decide()) == (Outcome.BOOT, Cause.REQUIRED)


def test_with_the_last_of_its_boot_image_fetched_a_machine_has_run_it_at_once() -> None:
    site = Site()
    site.know()
    site.deploy()
    site.boot()
    site.policy.run_started(ADDRESS)
    assert site.image_at() == "IMG1"  # a part fetched twice in the same boot
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)
    site.store.set_maintenance("x", "test")  # any change of policy
    assert site.image_at() == "IMG1"


def test_a_run_belongs_to_the_computer_and_not_to_one_of_its_macs() -> None:
    site = Site()
    site.store.add_computer(Computer("PC1", (MAC, OTHER)), "test")
    site.deploy()
    site.boot()
    site.clock.now += SAME_BOOT_S
    assert said(site.decide(OTHER)) == (Outcome.ABORT, Cause.ALREADY_RUN)


def test_asking_without_an_answer_is_no_run() -> None:
    site = Site()
    site.know()
    site.deploy()
    for _ in range(3):
        assert said(site.decide()) == (Outcome.BOOT, Cause.REQUIRED)
        site.clock.now += SAME_BOOT_S


def test_a_clock_set_back_images_nothing_twice() -> None:
    site = Site()
    site.know()
    site.deploy()
    site.boot()
    site.clock.now -= 3600
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)


def test_the_brake_stops_more_required_boots_in_an_hour_than_are_allowed() -> None:
    site = Site("[pxe]\nmax_required_boots_per_hour = 2\n")
    macs = [f"52:54:00:00:01:{number:02x}" for number in range(3)]
    for number, mac in enumerate(macs):
        site.know(f"LAB{number}", mac)
    id = site.deploy("all")
    assert [site.boot(mac).cause for mac in macs] == [Cause.REQUIRED, Cause.REQUIRED, Cause.BRAKE]
    assert site.decide(macs[2]).outcome is Outcome.ABORT
    assert site.boot(macs[0]).cause is Cause.REQUIRED  # still the same boot
    site.store.runs.clear(id, None, "test")
    assert site.boot(macs[2]).cause is Cause.BRAKE  # clearing undoes no boot
    site.clock.now += 3600
    assert site.boot(macs[2]).cause is Cause.REQUIRED


def test_a_collection_stands_between_a_computer_and_all() -> None:
    site = Site()
    site.know("LAB-1")
    site.know("LAB-2", OTHER)
    site.store.add_collection(Collection("lab", rules=(MembershipRule(MemberKind.NAME, "lab-*"),)), "test")
    site.deploy("all", "IMG1", Purpose.AVAILABLE)
    site.deploy("collection:lab", "IMG2", Purpose.AVAILABLE)
    site.deploy("LAB-2", "DEFAULT", Purpose.AVAILABLE)
    assert [site.decide(mac).boot_image for mac in (MAC, OTHER)] == ["IMG2", "DEFAULT"]
    site.store.add_collection(Collection("old", ("LAB-1",)), "test")
    site.store.change_collection(replace(site.store.membership.find("lab"), exclude=("old",)), "test")
    assert site.decide().boot_image == "IMG1"


def test_a_boot_under_way_ends_when_its_machine_leaves_the_collection() -> None:
    site = Site()
    site.know("LAB-1")
    site.store.add_collection(Collection("lab", ("LAB-1",)), "test")
    site.deploy("collection:lab")
    site.boot()
    assert site.image_at() == "IMG1"
    site.store.change_collection(Collection("lab"), "test")
    assert site.image_at() == ""
    assert said(site.decide()) == (Outcome.ABORT, Cause.NOTHING_DEPLOYED)


@pytest.mark.parametrize("audience", list(Audience))
def test_what_is_for_clients_alone_is_offered_to_no_network_boot(audience: Audience) -> None:
    site = Site()
    site.know()
    site.deploy(audience=audience)
    offered = Outcome.BOOT, Cause.REQUIRED
    assert said(site.decide()) == ((Outcome.ABORT, Cause.NOT_FOR_PXE) if audience is Audience.CLIENTS else offered)
    site.deploy("all", purpose=Purpose.AVAILABLE)
    assert site.decide().cause is (Cause.AVAILABLE if audience is Audience.CLIENTS else Cause.REQUIRED)


@pytest.mark.parametrize(
    ("rerun", "after_a_failure", "after_a_success"),
    [
        (Rerun.NEVER, Cause.ALREADY_RUN, Cause.ALREADY_RUN),
        (Rerun.IF_FAILED, Cause.REQUIRED, Cause.ALREADY_RUN),
        (Rerun.IF_SUCCEEDED, Cause.ALREADY_RUN, Cause.REQUIRED),
        (Rerun.ALWAYS, Cause.REQUIRED, Cause.REQUIRED),
    ],
)
def test_a_machine_runs_a_required_deployment_once_more_as_its_rerun_says(
    rerun: Rerun, after_a_failure: Cause, after_a_success: Cause
) -> None:
    failed = Site()
    failed.know()
    failed.deploy(rerun=rerun)
    failed.boot()
    failed.clock.now += SAME_BOOT_S
    assert failed.boot().cause is after_a_failure
    done = Site()
    done.know()
    id = done.deploy(rerun=rerun)
    done.boot()
    done.policy.run_started(ADDRESS)
    done.clock.now += 1
    assert done.boot().cause is after_a_success
    (run,) = done.store.runs.of_deployment(id)
    again = after_a_success is Cause.REQUIRED
    assert (run.started_at, run.finished_at) == ((T + 1, 0.0) if again else (T, T))
    assert done.store.runs.started_since(T - 1) == (2 if again else 1)
    if again:  # firmware and iPXE ask several times in the second boot, too
        done.clock.now += SAME_BOOT_S - 1
        assert done.boot().cause is Cause.REQUIRED
        assert done.store.runs.of_deployment(id) == [run]


def test_the_brake_counts_what_runs_once_more() -> None:
    site = Site("[pxe]\nmax_required_boots_per_hour = 2\n")
    site.know()
    site.deploy(rerun=Rerun.ALWAYS)
    causes = []
    for _ in range(3):
        causes.append(site.boot().cause)
        site.policy.run_started(ADDRESS)
        site.clock.now += 1
    assert causes == [Cause.REQUIRED, Cause.REQUIRED, Cause.BRAKE]


def test_the_affinity_mode_is_the_settings_word_unless_a_site_said_one() -> None:
    site = Site('[site]\naffinity_mode = "pending"\nhigh_risk_computers = 7\n')
    assert site.store.affinity_mode == "pending"
    assert site.policy.high_risk_computers == 7
    site.policy.apply(parse_settings('[site]\naffinity_mode = "auto"\n', "t"))
    assert (site.store.affinity_mode, site.policy.high_risk_computers) == ("auto", 100)
    assert site.store.mirror("hq", 1, SiteModel(), T)
    site.policy.apply(parse_settings('[site]\naffinity_mode = "pending"\n', "t"))
    assert site.store.affinity_mode == "none"


def test_a_mirrored_point_boots_by_its_sites_word_and_approves_once_alone() -> None:
    site = Site(PENDING)
    model = SiteModel((Computer("PC1", (MAC,)),), deployments=(Deployment(4, "PC1", "IMG1", Purpose.REQUIRED),))
    assert site.store.mirror("hq", 1, model, T)
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)
    assert site.image_at() == "IMG1"
    assert site.store.mirror("hq", 2, replace(model, deployments=()), T)
    assert site.image_at() == ""  # the boot under way ends with its deployment
    code = site.boot(OTHER).code
    with pytest.raises(SiteConflict, match="policy of this point comes from site hq"):
        site.policy.approve(code, "alice", computer="PC2")
    assert [machine.code for machine in site.policy.pending()] == [code]
    site.policy.approve(code, "alice")
    assert said(site.decide(OTHER)) == (Outcome.BOOT, Cause.UNKNOWN_ALLOWED)
    site.store.set_maintenance("switch", "bob")
    assert said(site.decide(OTHER)) == (Outcome.SILENT, Cause.MAINTENANCE)


# ---- unknown machines


def test_unknown_machines_may_be_denied_on_the_whole_or_in_one_network() -> None:
    deny = '[pxe]\nunknown_computers = "deny"\n'
    assert said(Site(deny).decide()) == (Outcome.SILENT, Cause.UNKNOWN_DENIED)
    one = Site('[[pxe.subnet]]\nnetwork = "10.9.0.0/16"\nunknown_computers = "deny"\n')
    assert said(one.decide(relay="10.9.1.1")) == (Outcome.SILENT, Cause.UNKNOWN_DENIED)
    assert said(one.decide()) == (Outcome.BOOT, Cause.DEFAULT)


def test_a_pending_machine_shows_a_code_and_boots_once_somebody_approved_it() -> None:
    site = Site(PENDING)
    decision = site.boot()
    assert said(decision) == (Outcome.WAIT, Cause.UNKNOWN_PENDING)
    assert site.policy.stats.pending == 1
    (waiting,) = site.policy.pending()
    assert (waiting.code, waiting.mac) == (decision.code, MAC)
    assert site.image_at() == ""
    site.policy.approve(decision.code.lower(), "alice")
    assert site.image_at() == "DEFAULT"  # the screen asks again over HTTP, without DHCP
    assert site.policy.pending() == []
    assert site.policy.stats.pending == 0
    assert said(site.decide()) == (Outcome.BOOT, Cause.UNKNOWN_ALLOWED)
    assert site.events() == ["approval", "ticket", "approval", "decision", "ticket"]
    site.clock.now += 3600
    assert said(site.decide()) == (Outcome.WAIT, Cause.UNKNOWN_PENDING)


def test_a_pending_machine_may_become_a_known_computer() -> None:
    site = Site(PENDING)
    site.policy.issue(site.request(guid=GUID), site.decide(guid=GUID))
    site.policy.approve(MAC, "alice", computer="PC7")
    assert site.store.computers.find("pc7").guid == GUID
    assert said(site.decide()) == (Outcome.BOOT, Cause.DEFAULT)
    assert site.image_at() == "DEFAULT"


def test_a_name_that_is_taken_leaves_the_machine_waiting() -> None:
    site = Site(PENDING)
    site.know("PC7", OTHER)
    code = site.boot().code
    with pytest.raises(SiteConflict, match="pc7"):
        site.policy.approve(code, "alice", computer="pc7")
    assert [machine.code for machine in site.policy.pending()] == [code]


def test_a_denied_machine_goes_on_to_its_next_boot_device_and_is_not_answered_again() -> None:
    site = Site(PENDING)
    site.policy.deny(site.boot().code, "alice")
    ticket = site.policy.ticket_at(ADDRESS)
    assert ticket is not None
    assert (ticket.outcome, ticket.boot_image, bool(ticket.message)) == (Outcome.ABORT, "", True)
    assert said(site.decide()) == (Outcome.SILENT, Cause.UNKNOWN_DENIED)
    assert site.policy.pending() == []


def test_only_what_waits_can_be_approved() -> None:
    with pytest.raises(SiteNotFound, match="dpd pxe pending"):
        Site(PENDING).policy.approve("ACDEFG", "alice")


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (RuleKind.MAC_PREFIX, "52:54:00", True),
        (RuleKind.MAC_PREFIX, "52:54:01", False),
        (RuleKind.NETWORK, "192.0.2.0/24", True),
        (RuleKind.NETWORK, "198.51.100.0/24", False),
        (RuleKind.CIRCUIT, "0102", True),
        (RuleKind.CIRCUIT, "01", False),
    ],
)
def test_a_rule_approves_without_anybody(kind: RuleKind, value: str, fits: bool) -> None:
    site = Site(PENDING)
    site.store.approvals.add_rule(kind, value, "test")
    decision = site.policy.decide(replace(site.request(), circuit="0102"))
    assert decision.cause is (Cause.UNKNOWN_ALLOWED if fits else Cause.UNKNOWN_PENDING)


@pytest.mark.parametrize(("mode", "cause"), [("allow", Cause.PIN_MISSING), ("pending", Cause.UNKNOWN_PENDING)])
def test_the_right_pin_lets_an_unknown_machine_boot(tmp_path: Path, mode: str, cause: Cause) -> None:
    (tmp_path / "pin").write_text("4711\n")
    text = f'[pxe]\nunknown_computers = "{mode}"\npin_file = "{tmp_path}/pin"\n' + DEFAULT
    site = Site(text)
    decision = site.boot()
    assert (said(decision), decision.asks_pin) == ((Outcome.WAIT, cause), True)
    assert not site.policy.enter_pin(ADDRESS, "4712")
    assert site.image_at() == ""
    assert not site.policy.enter_pin("192.0.2.99", "4711")
    assert site.policy.enter_pin(ADDRESS, "4711")
    assert site.image_at() == "DEFAULT"
    assert site.policy.stats.pin_tries == {"wrong": 1, "right": 1}


def test_a_pin_opens_nothing_for_who_was_not_asked_for_one() -> None:
    site = Site(PENDING)
    site.boot()
    assert not site.policy.enter_pin(ADDRESS, "")


@pytest.mark.parametrize("word", ["approve", "approve with a name", "deny", "PIN"])
def test_a_word_on_a_machine_that_waits_for_a_change_of_policy_holds_no_answer_up(tmp_path: Path, word: str) -> None:
    (tmp_path / "pin").write_text("4711\n")
    site = Site(f'[pxe]\nunknown_computers = "pending"\npin_file = "{tmp_path}/pin"\n' + DEFAULT)
    code = site.boot().code
    says: dict[str, Callable[[], object]] = {
        "approve": lambda: site.policy.approve(code, "alice"),
        "approve with a name": lambda: site.policy.approve(code, "alice", computer="PC1"),
        "deny": lambda: site.policy.deny(code, "alice"),
        "PIN": lambda: site.policy.enter_pin(ADDRESS, "4711"),
    }
    with ThreadPoolExecutor(2) as threads:
        with site.store.changing():  # as an import of thousands of computers does
            saying = threads.submit(says[word])
            for _ in range(20):
                assert threads.submit(site.decide, OTHER).result(timeout=30).outcome is Outcome.WAIT
                time.sleep(0.01)
            assert not saying.done()
        saying.result(timeout=30)
    assert said(site.decide())[1] is not Cause.UNKNOWN_PENDING


# ---- tickets


def test_a_ticket_is_found_at_the_address_of_its_machine_alone() -> None:
    site = Site(DEFAULT)
    site.boot()
    assert site.image_at() == "DEFAULT"
    assert site.image_at("192.0.2.8") == ""
    site.policy.bind(ADDRESS, OTHER)
    assert site.image_at() == ""


def test_where_dhcp_has_not_seen_an_address_the_kernel_is_asked() -> None:
    neighbours = {"192.0.2.9": MAC}
    policy = BootPolicy(
        parse_settings(DEFAULT, "t"), mac_at=lambda address: neighbours.get(address, ""), clock=lambda: T
    )
    request = BootRequest(MAC, "", "uefi-x64", "PXEClient", "192.0.2.1", at=T)
    ticket = policy.issue(request, policy.decide(request))
    assert policy.ticket_at("192.0.2.9") == ticket
    assert policy.ticket_at("192.0.2.10") is None


def test_a_change_of_policy_ends_the_tickets_that_it_would_not_have_given() -> None:
    site = Site()
    site.know()
    id = site.deploy()
    site.boot()
    site.deploy("all", "IMG2", Purpose.AVAILABLE)
    assert site.image_at() == "IMG1"  # nothing changed for this boot
    site.store.remove_deployment(id, "test")
    assert site.image_at() == ""
    assert site.policy.stats.tickets_revoked == 1


def test_a_deployment_that_ends_lets_boots_under_way_go_on() -> None:
    site = Site()
    site.know()
    site.deploy(until=T + 10)
    site.boot()
    site.clock.now = T + 60
    site.know("PC2", OTHER)  # so that it is judged anew
    assert site.image_at() == "IMG1"


def test_settings_hold_for_tickets_too() -> None:
    site = Site(DEFAULT)
    site.boot()
    site.policy.apply(parse_settings(DEFAULT + f'[pxe]\nignore_macs = ["{MAC}"]\n', "t"))
    assert site.image_at() == ""


def test_settings_with_a_file_that_is_gone_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(DEFAULT)
    version = site.store.policy_version
    site.policy.apply(parse_settings('[pxe]\npin_file = "/nowhere/pin"\n', "t"))
    assert "pin_file" in caplog.records[0].__dict__["error"]
    assert site.decide().boot_image == "DEFAULT"
    site.policy.apply(parse_settings(DEFAULT, "t"))
    assert site.store.policy_version == version


def test_an_approval_after_the_waiting_machines_ticket_ran_out_gives_it_nothing() -> None:
    site = Site(PENDING)
    code = site.boot().code
    site.clock.now += 3600
    site.policy.approve(code, "alice")
    assert site.image_at() == ""


def test_what_policy_says_is_counted_by_cause() -> None:
    site = Site(PENDING)
    site.decide()
    site.know()
    site.decide()
    assert site.policy.stats.decisions == {"unknown_pending": 1, "default": 1}


# ---- task sequences


def offered(site: Site, mac: str = MAC) -> list[int]:
    boot = site.policy.boot_of(mac)
    return [] if boot is None else [each.id for each in boot.deployments]


def test_a_required_boot_offers_its_own_sequence_alone() -> None:
    site = Site()
    site.know()
    site.deploy(purpose=Purpose.AVAILABLE, sequence="rescue")
    assert site.policy.boot_of(MAC) is None
    id = site.deploy(sequence="debian@3")
    site.boot()
    boot = site.policy.boot_of(MAC)
    assert boot is not None
    assert (boot.computer, boot.machine, boot.ticket.mac) == ("PC1", "pc1", MAC)
    assert offered(site) == [id]
    assert site.policy.sequences_for(boot.ticket) == boot.deployments
    site.store.remove_deployment(id, "test")
    assert offered(site) == []


def test_a_boot_whose_user_decides_offers_what_is_available_now_and_not_hidden() -> None:
    site = Site()
    site.know()
    granted = site.deploy("all", purpose=Purpose.AVAILABLE, sequence="debian")
    other = site.deploy("all", purpose=Purpose.AVAILABLE, sequence="windows")
    site.deploy("all", purpose=Purpose.AVAILABLE)
    site.deploy("all", purpose=Purpose.AVAILABLE, sequence="later", since=T + 1000)
    site.deploy("all", purpose=Purpose.AVAILABLE, sequence="hidden", audience=Audience.HIDDEN)
    site.deploy("all", purpose=Purpose.AVAILABLE, sequence="clients", audience=Audience.CLIENTS)
    site.deploy("PC1", purpose=Purpose.REQUIRED, sequence="over", until=T - 1)
    decision = site.boot()
    assert said(decision) == (Outcome.PROMPT, Cause.AVAILABLE)
    assert set(offered(site)) >= {granted, other}
    assert {site.store.deployments[each].sequence for each in offered(site)} <= {"debian", "windows", "hidden"}


def test_an_unknown_machine_is_offered_what_unknown_ones_are_once_it_was_approved() -> None:
    site = Site(PENDING)
    id = site.deploy("unknown", sequence="debian")
    site.boot()
    assert offered(site) == []
    site.policy.approve(MAC, "alice")
    assert offered(site) == [id]
    boot = site.policy.boot_of(MAC)
    assert boot is not None
    assert (boot.computer, boot.machine) == ("", MAC)


def test_a_machine_that_boots_the_default_is_offered_nothing() -> None:
    site = Site(DEFAULT)
    site.boot()
    assert offered(site) == []
    assert site.policy.boot_of(OTHER) is None


def test_with_a_sequence_a_run_is_over_when_that_says_so() -> None:
    site = Site()
    site.know()
    id = site.deploy(sequence="debian")
    site.boot()
    site.policy.run_started(ADDRESS)
    run = site.store.runs.find(id, "pc1")
    assert run is not None
    assert not run.finished_at
    site.store.runs.finish(id, "pc1", T + 9)
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)


def test_a_machine_that_restarts_in_its_sequence_goes_to_its_disk_whatever_may_rerun() -> None:
    site = Site()
    site.know()
    id = site.deploy(sequence="debian", rerun=Rerun.ALWAYS)
    site.deploy("all", purpose=Purpose.AVAILABLE, sequence="rescue")
    site.boot()
    site.store.runs.note_work("pc1", Work(id, T + 7200, Stage.RESTARTING))
    for later in (1.0, SAME_BOOT_S, 3600.0):
        site.clock.now = T + later
        decision = site.decide()
        assert (*said(decision), decision.message) == (Outcome.ABORT, Cause.ALREADY_RUN, RESTARTING)
    site.clock.now = T + 7200  # its time is over
    assert said(site.decide()) == (Outcome.BOOT, Cause.REQUIRED)


def test_a_machine_that_was_interrupted_in_its_sequence_begins_anew() -> None:
    site = Site()
    site.know()
    id = site.deploy(sequence="debian")
    site.boot()
    site.store.runs.note_work("pc1", Work(id, T + 7200))
    first = site.policy.boot_of(MAC)
    assert first is not None
    assert site.policy.use_proof(first.ticket, "nonce")
    site.clock.now += SAME_BOOT_S
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)
    again = site.policy.boot_of(MAC)
    assert again is not None
    assert again.ticket.proof != first.ticket.proof
    run = site.store.runs.find(id, "pc1")
    assert run is not None
    assert run.started_at == site.clock.now
    assert site.store.runs.work_of("pc1", site.clock.now) is None
    site.clock.now += SAME_BOOT_S  # it never got to its sequence this time
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)


def test_an_unknown_machine_that_restarts_is_not_asked_for_its_approval_again() -> None:
    site = Site(PENDING)
    id = site.deploy("unknown", sequence="debian")
    site.boot()
    site.policy.approve(MAC, "alice")
    site.store.runs.note_work(MAC, Work(id, T + 7200, Stage.RESTARTING))
    site.clock.now += 3601.0
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)
    assert said(site.decide(OTHER)) == (Outcome.WAIT, Cause.UNKNOWN_PENDING)


def test_a_sequence_that_failed_at_once_is_not_given_again_in_what_looks_like_the_same_boot() -> None:
    site = Site()
    site.know()
    id = site.deploy(sequence="debian")
    site.boot()
    site.store.runs.note_work("pc1", Work(id, T + 7200, Stage.OVER))
    site.clock.now += 20.0
    assert said(site.decide()) == (Outcome.ABORT, Cause.ALREADY_RUN)
    site.store.runs.clear(id, "pc1", "test")
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)
    assert said(site.boot()) == (Outcome.BOOT, Cause.REQUIRED)  # its firmware asks once more


def test_a_proof_is_used_by_one_alone_who_may_say_it_again() -> None:
    site = Site()
    site.know()
    site.deploy(sequence="debian")
    site.boot()
    boot = site.policy.boot_of(MAC)
    assert boot is not None
    assert [site.policy.use_proof(boot.ticket, by) for by in ("a", "a", "b", "a")] == [True, True, False, True]
    assert site.policy.mac_at(ADDRESS) == MAC
    assert site.policy.mac_at("192.0.2.99") == ""
