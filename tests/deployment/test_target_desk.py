# SPDX-License-Identifier: Apache-2.0
"""The desk for targets: who is let in and who is not, what they take, and what policy makes of what they tell."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.content.wim_builder import make_wim
from tests.deployment.target_site import ABOUT, ADDRESS, MAC, OTHER, T, TargetSite, debian, said

from dpd.deployment.execution import ExecutionState
from dpd.deployment.target_desk import TO_TELL_S
from dpd.errors import TargetRefused
from dpd.sequence.exchange import CaptureWish, Receipt, Resume, StepState, Take
from dpd.sequence.signed import read_signed
from dpd.sequence.variables import Variable as SentVariable
from dpd.site.decision import Cause, Outcome
from dpd.site.judgement import SAME_BOOT_S
from dpd.site.records import Collection, Computer, Purpose, Rerun, Variable

NOBODY = "192.0.2.200"  # an address that nobody was seen at


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TargetSite]:
    with ExitStack() as stack:
        yield TargetSite(stack, tmp_path)


def refusal(work: object, *arguments: object, **more: object) -> tuple[str, str]:
    with pytest.raises(TargetRefused) as refused:
        work(*arguments, **more)  # type: ignore[operator]
    return refused.value.code, str(refused.value)


# ---- hello


def test_a_machine_with_its_proof_is_told_who_it_is_and_what_it_may_take(site: TargetSite) -> None:
    id = site.deploy("all", name="lab")
    welcome = site.hello(site.boot())
    (offer,) = welcome.offers
    assert (welcome.computer, welcome.machine, welcome.server_time) == ("PC1", "pc1", T)
    assert (offer.deployment, offer.name, offer.sequence, offer.version, offer.purpose, offer.description) == (
        id, "lab", "debian", 3, "required", ABOUT,
    )  # fmt: skip


def test_a_deployment_of_one_version_offers_that(site: TargetSite) -> None:
    site.deploy(sequence="debian@2")
    assert [each.version for each in site.hello(site.boot()).offers] == [2]


def test_the_same_hello_once_more_is_the_same_session_and_any_other_is_refused(site: TargetSite) -> None:
    site.deploy()
    proof = site.boot()
    first = site.hello(proof)
    assert site.hello(proof).session == first.session
    code, message = refusal(site.hello, proof, boot="1" * 16)
    assert code == "proof_used"
    assert "boot the machine from the network again" in message
    assert refusal(site.hello, proof, address=NOBODY)[0] == "proof_used"


def test_many_hellos_at_once_open_one_session(site: TargetSite) -> None:
    site.deploy()
    proof = site.boot()
    with ThreadPoolExecutor(8) as pool:
        assert len({each.session for each in pool.map(lambda _: site.hello(proof), range(32))}) == 1


def test_who_has_no_boot_or_another_ones_proof_is_refused(site: TargetSite) -> None:
    site.deploy("all")
    site.store.add_computer(Computer("PC2", ("52:54:00:00:00:22",)), "test")
    assert refusal(site.hello, "00" * 16)[0] == "no_ticket"
    proof = site.boot()
    assert refusal(site.hello, "00" * 16)[0] == "proof_wrong"
    assert refusal(site.hello, "")[0] == "proof_wrong"
    site.boot("52:54:00:00:00:22", "192.0.2.22")
    assert refusal(site.hello, proof, "52:54:00:00:00:22", "192.0.2.22")[0] == "proof_wrong"
    assert site.hello(proof).machine == "pc1"
    counted = site.desk.stats.refused
    assert {reason: count for reason, count in counted.items() if count} == {"no_ticket": 1, "proof_wrong": 3}


def test_a_proof_does_not_outlive_its_ticket(site: TargetSite) -> None:
    site.deploy()
    proof = site.boot()
    site.clock.now += 3600
    code, message = refusal(site.hello, proof)
    assert (code, "pxe.ticket_lifetime_s" in message) == ("ticket_expired", True)


def test_a_proof_counts_from_where_its_machine_is_or_where_nobody_is_known(site: TargetSite) -> None:
    site.deploy()
    proof = site.boot()
    site.policy.bind("192.0.2.66", "52:54:00:00:00:66")
    code, message = refusal(site.hello, proof, address="192.0.2.66")
    assert (code, MAC in message) == ("address_wrong", True)
    site.policy.bind("192.0.2.15", "52:54:00:00:00:0f")  # its other card
    assert site.hello(proof, address="192.0.2.15").machine == "pc1"


def test_behind_a_router_the_proof_is_enough(site: TargetSite) -> None:
    site.deploy()
    assert site.hello(site.boot(), address=NOBODY).machine == "pc1"


def test_a_boot_that_policy_takes_back_proves_nothing(site: TargetSite) -> None:
    id = site.deploy()
    proof = site.boot()
    site.store.remove_deployment(id, "test")
    assert refusal(site.hello, proof)[0] == "no_ticket"


def test_a_sequence_that_is_not_here_or_for_other_machines_is_told(site: TargetSite) -> None:
    id = site.deploy(sequence="windows")
    code, message = refusal(site.hello, site.boot())
    assert (code, "`dpd sequence publish`" in message) == ("sequence_missing", True)
    site.store.remove_deployment(id, "test")
    site.deploy()
    site.publish(debian(architectures='["arm64"]'))
    code, message = refusal(site.hello, site.boot())
    assert code == "wrong_machine"
    assert "for architecture arm64, and this machine's is x64" in message


def test_of_several_available_ones_those_that_can_be_are_offered(site: TargetSite) -> None:
    site.deploy("all", "windows", Purpose.AVAILABLE)
    id = site.deploy("all", "debian", Purpose.AVAILABLE)
    assert [each.deployment for each in site.hello(site.boot()).offers] == [id]


def test_an_unknown_machine_takes_what_unknown_ones_may(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = TargetSite(stack, tmp_path, '[pxe]\nunknown_computers = "pending"\n')
        mac = "52:54:00:00:00:77"
        id = site.deploy("unknown")
        site.store.set_variable(Variable("unknown", "Zone", "nowhere"), "test")
        proof = site.boot(mac, "192.0.2.77")
        assert site.hello(proof, mac, "192.0.2.77").offers == ()  # it waits, and boots nothing of ours
        site.policy.approve(mac, "alice")
        welcome = site.hello(site.boot(mac, "192.0.2.77"), mac, "192.0.2.77")
        assert (welcome.computer, welcome.machine, [each.deployment for each in welcome.offers]) == ("", mac, [id])
        taken = site.desk.take(welcome.session, Take(id), is_secure=False)
        assert taken.variables == (SentVariable("Zone", "nowhere"),)
        site.desk.report(welcome.session, said(taken.execution, ("", StepState.SEQUENCE_DONE)))
        site.clock.now += SAME_BOOT_S
        assert site.ask(mac).cause is Cause.ALREADY_RUN
        run = site.store.runs.find(id, mac)
        assert run is not None
        assert run.finished_at


def test_the_story_of_a_boot_goes_on_with_what_became_of_its_proof(site: TargetSite) -> None:
    site.deploy()
    proof = site.boot()
    refusal(site.hello, "00" * 16)
    welcome = site.hello(proof)
    site.desk.take(welcome.session, Take(welcome.offers[0].deployment), is_secure=False)
    told = [dict(each.fields) for each in site.journal.story(MAC) if each.event == "target"]
    assert [each["step"] for each in told] == ["refused", "hello", "taken"]
    assert (told[0]["reason"], told[1]["offers"], told[2]["sequence"]) == ("proof_wrong", 1, "debian")
    assert proof not in str(told) + welcome.session
    assert site.journal.story(OTHER) == []


# ---- take


def test_what_is_taken_is_the_signed_sequence_with_the_variables_of_the_machine(site: TargetSite) -> None:
    id = site.deploy()
    site.store.add_collection(Collection("lab", ("PC1",)), "test")
    site.store.set_variable(Variable("all", "Zone", "a"), "test")
    site.store.set_variable(Variable("collection:lab", "Zone", "b"), "test")
    site.store.set_variable(Variable("PC1", "Owner", "me"), "test")
    session, taken = site.begin()
    sequence, signer = read_signed(taken.document, site.library.public_key())
    assert (sequence.name, sequence.version, signer) == ("debian", 3, site.library.public_key())
    assert taken.variables == (SentVariable("Owner", "me"), SentVariable("Zone", "b"))
    execution = site.book.find(taken.execution)
    assert (execution.machine, execution.computer, execution.mac, execution.deployment) == ("pc1", "PC1", MAC, id)
    assert (execution.sequence, execution.version, execution.ends_by) == ("debian", 3, T + 7200)
    assert [(each.id, each.kind) for each in execution.steps] == [("1", "check_readiness"), ("2.1", "capture_image")]
    assert site.desk.take(session, Take(id), is_secure=False) == taken
    assert len(site.book.open_executions()) == 1


def test_what_is_secret_is_given_over_tls_alone(site: TargetSite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    id = site.deploy()
    site.store.set_variable(Variable("PC1", "Pass", "hunter2", secret=True), "test")
    session = site.hello(site.boot()).session
    code, message = refusal(site.desk.take, session, Take(id), is_secure=False)
    assert (code, "Pass" in message, "hunter2" in message) == ("tls_required", True, False)
    assert site.book.open_executions() == []
    taken = site.desk.take(session, Take(id), is_secure=True)
    assert taken.variables == (SentVariable("Pass", "hunter2", True),)
    assert "hunter2" not in repr(taken) + caplog.text
    assert session not in caplog.text


def test_what_was_not_offered_or_is_no_more_is_not_taken(site: TargetSite) -> None:
    id = site.deploy()
    session = site.hello(site.boot()).session
    assert refusal(site.desk.take, session, Take(id + 1), is_secure=False)[0] == "not_offered"
    assert refusal(site.desk.take, "00" * 32, Take(id), is_secure=False)[0] == "session_unknown"
    site.store.remove_deployment(id, "test")
    assert refusal(site.desk.take, session, Take(id), is_secure=False)[0] == "not_offered"


def test_one_boot_takes_one_sequence(site: TargetSite) -> None:
    first, second = site.deploy("all", purpose=Purpose.AVAILABLE), site.deploy("all", purpose=Purpose.AVAILABLE)
    session = site.hello(site.boot()).session
    site.desk.take(session, Take(first), is_secure=False)
    assert refusal(site.desk.take, session, Take(second), is_secure=False)[0] == "already_taken"


def test_a_session_that_takes_nothing_ends_with_its_ticket(site: TargetSite) -> None:
    id = site.deploy()
    session = site.hello(site.boot()).session
    site.clock.now += 3600
    assert refusal(site.desk.take, session, Take(id), is_secure=False)[0] == "session_unknown"


# ---- what becomes of it


def test_a_machine_whose_time_is_over_tells_so_and_leaves_its_log(site: TargetSite) -> None:
    site.deploy()
    session, taken = site.begin()
    site.desk.report(session, said(taken.execution, ("1", StepState.STARTED)))
    site.clock.now = T + 7201
    again = site.desk.resume(Resume(taken.execution, taken.resume), ADDRESS).session
    for each in (session, again):
        site.desk.keep_log(each, taken.execution, b"it waited\n")
    site.desk.report(session, said(taken.execution, ("1", StepState.STARTED), ("", StepState.SEQUENCE_FAILED)))
    assert site.book.find(taken.execution).state is ExecutionState.FAILED
    assert site.logs.read(taken.execution) == "it waited\n"


def test_a_required_run_is_over_when_its_sequence_says_so(site: TargetSite) -> None:
    id = site.deploy()
    session, taken = site.begin()
    receipt = site.desk.report(session, said(taken.execution, ("1", StepState.STARTED), ("1", StepState.DONE)))
    assert receipt == Receipt(3)
    assert not site.store.runs.of_deployment(id)[0].finished_at
    reports = said(taken.execution, ("1", StepState.STARTED), ("1", StepState.DONE), ("", StepState.SEQUENCE_DONE))
    assert site.desk.report(session, reports) == Receipt(4)
    assert site.store.runs.of_deployment(id)[0].finished_at
    assert site.ask().cause is Cause.ALREADY_RUN
    assert site.book.find(taken.execution).state is ExecutionState.DONE


def test_a_machine_that_restarts_is_sent_to_its_disk_and_may_boot_anew_when_it_failed(site: TargetSite) -> None:
    site.deploy(rerun=Rerun.IF_FAILED)
    session, taken = site.begin()
    restarting = ("2.1", StepState.RESTARTING)
    site.desk.report(session, said(taken.execution, restarting))
    site.clock.now += 60
    assert (site.ask().outcome, site.ask().message) == (
        Outcome.ABORT,
        "This computer's task sequence goes on from its disk.",
    )
    site.desk.report(session, said(taken.execution, restarting, ("", StepState.SEQUENCE_FAILED)))
    site.clock.now += SAME_BOOT_S
    assert site.ask().cause is Cause.REQUIRED


def test_a_machine_that_does_not_come_back_from_its_restart_is_freed_by_a_cancel_or_a_clear(site: TargetSite) -> None:
    id = site.deploy(rerun=Rerun.ALWAYS)
    session, taken = site.begin()
    site.desk.report(session, said(taken.execution, ("2.1", StepState.RESTARTING)))
    site.clock.now += SAME_BOOT_S
    assert site.ask().outcome is Outcome.ABORT
    site.store.runs.clear(id, "pc1", "alice")
    assert site.ask().cause is Cause.REQUIRED
    session, taken = site.begin()
    site.desk.report(session, said(taken.execution, ("2.1", StepState.RESTARTING)))
    site.clock.now += SAME_BOOT_S
    assert site.ask().outcome is Outcome.ABORT
    site.book.cancel(taken.execution, "its disk is broken", "alice")
    assert site.ask().cause is Cause.REQUIRED


def test_a_machine_that_lost_its_power_boots_again_and_takes_it_anew(site: TargetSite) -> None:
    id = site.deploy()
    _, taken = site.begin()
    site.clock.now += SAME_BOOT_S
    _, again = site.begin()
    assert again.execution != taken.execution
    assert site.book.find(taken.execution).state is ExecutionState.LOST
    assert [each.id for each in site.book.open_executions()] == [again.execution]
    assert len(site.store.runs.of_deployment(id)) == 1


def test_a_required_run_that_failed_waits_for_somebody(site: TargetSite) -> None:
    site.deploy()
    session, taken = site.begin()
    site.desk.report(session, said(taken.execution, ("", StepState.SEQUENCE_FAILED)))
    assert site.ask().cause is Cause.ALREADY_RUN  # seconds later, too
    site.clock.now += SAME_BOOT_S
    assert site.ask().cause is Cause.ALREADY_RUN
    site.reopen()
    assert site.ask().cause is Cause.ALREADY_RUN


def test_a_cancel_comes_with_the_answer(site: TargetSite) -> None:
    site.deploy()
    session, taken = site.begin()
    site.book.cancel(taken.execution, "wrong room", "alice")
    assert site.desk.report(session, said(taken.execution, ("1", StepState.STARTED))) == Receipt(2, "wrong room")


def test_a_session_speaks_of_its_own_execution_alone(site: TargetSite) -> None:
    site.deploy("all")
    site.store.add_computer(Computer("PC2", ("52:54:00:00:00:22",)), "test")
    session, _ = site.begin()
    other = site.hello(site.boot("52:54:00:00:00:22", "192.0.2.22"), "52:54:00:00:00:22", "192.0.2.22")
    theirs = site.desk.take(other.session, Take(other.offers[0].deployment), is_secure=False)
    for work in (
        lambda: site.desk.report(session, said(theirs.execution, ("1", StepState.STARTED))),
        lambda: site.desk.keep_log(session, theirs.execution, b"text"),
        lambda: site.desk.begin_capture(session, CaptureWish(theirs.execution, "LAB00009", 10)),
    ):
        assert refusal(work)[0] == "execution_unknown"


# ---- restarts


def test_a_restarted_machine_goes_on_by_its_secret_whether_dpd_was_restarted_or_not(site: TargetSite) -> None:
    site.deploy()
    session, taken = site.begin()
    site.desk.report(session, said(taken.execution, ("1", StepState.RESTARTING)))
    resume = Resume(taken.execution, taken.resume)
    assert site.desk.resume(resume, ADDRESS).machine == "pc1"
    site.reopen()
    assert refusal(site.desk.report, session, said(taken.execution, ("1", StepState.STARTED)))[0] == "session_unknown"
    assert site.ask().outcome is Outcome.ABORT  # it knows of the restart still
    welcome = site.desk.resume(resume, ADDRESS)
    assert (welcome.computer, welcome.machine, welcome.offers) == ("PC1", "pc1", ())
    reports = said(taken.execution, ("1", StepState.RESTARTING), ("1", StepState.DONE), ("", StepState.SEQUENCE_DONE))
    assert site.desk.report(welcome.session, reports) == Receipt(4)
    assert site.ask().cause is Cause.ALREADY_RUN
    assert refusal(site.desk.take, welcome.session, Take(1), is_secure=False)[0] == "already_taken"


def test_a_secret_opens_its_own_execution_until_its_time_is_over(site: TargetSite) -> None:
    site.deploy()
    _, taken = site.begin()
    assert refusal(site.desk.resume, Resume(taken.execution, "00" * 32), ADDRESS)[0] == "resume_wrong"
    assert refusal(site.desk.resume, Resume("00" * 8, taken.resume), ADDRESS)[0] == "resume_wrong"
    site.clock.now = T + 7200 + TO_TELL_S
    assert refusal(site.desk.resume, Resume(taken.execution, taken.resume), ADDRESS)[0] == "resume_expired"


def test_what_was_done_when_dpd_was_killed_is_noted_by_the_next(site: TargetSite) -> None:
    id = site.deploy()
    _, taken = site.begin()
    site.book.take_reports(taken.execution, said(taken.execution, ("", StepState.SEQUENCE_DONE)).reports, T + 5)
    assert not site.store.runs.of_deployment(id)[0].finished_at
    site.reopen()
    assert site.store.runs.of_deployment(id)[0].finished_at
    assert site.ask().cause is Cause.ALREADY_RUN


# ---- what it leaves


def test_a_log_is_kept_for_its_execution(site: TargetSite) -> None:
    site.deploy()
    session, taken = site.begin()
    site.desk.keep_log(session, taken.execution, b"disk too small\n")
    assert site.logs.read(taken.execution) == "disk too small\n"
    assert site.book.find(taken.execution).log_bytes == 15


def test_a_capture_becomes_a_version_of_its_package(site: TargetSite, tmp_path: Path) -> None:
    site.deploy()
    session, taken = site.begin()
    image = make_wim()
    place = site.desk.begin_capture(session, CaptureWish(taken.execution, "LAB00009", len(image)))
    assert site.desk.write_capture(session, place.capture, 0, image[:100]).offset == 100
    assert site.desk.write_capture(session, place.capture, 100, image[100:]).offset == len(image)
    assert site.desk.settle_capture(session, place.capture).offset == len(image)
    captured = site.desk.finish_capture(session, place.capture, hashlib.sha256(image).hexdigest())
    assert (captured.package_id, captured.source_version) == ("LAB00009", 1)
    assert site.library.find("LAB00009").size_bytes == len(image)


def test_nobody_else_writes_into_a_capture(site: TargetSite) -> None:
    site.deploy("all")
    session, taken = site.begin()
    place = site.desk.begin_capture(session, CaptureWish(taken.execution, "LAB00009", 100))
    mac = OTHER[:-1] + "9"
    other = site.hello(site.boot(mac, "192.0.2.9"), mac, "192.0.2.9")
    for work in (
        lambda: site.desk.write_capture(other.session, place.capture, 0, b"x"),
        lambda: site.desk.settle_capture(other.session, place.capture),
        lambda: site.desk.finish_capture(other.session, place.capture, "00" * 32),
    ):
        assert refusal(work)[0] == "execution_unknown"
