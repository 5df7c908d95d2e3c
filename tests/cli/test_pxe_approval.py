# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe pending|approve|deny|rules|maintenance|audit`."""

from __future__ import annotations

import getpass

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.site.decision import Cause, Outcome

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def test_a_machine_that_waits_is_approved_by_its_code(site: SiteDoor, dpd: Dpd) -> None:
    assert "No machine waits for approval." in dpd("pxe", "pending").out
    code = site.ask(A).code
    cells = dpd("pxe", "pending").out.splitlines()[1].split()
    assert cells[:6] == [code, A, "-", "uefi-x64", "10.1.0.1", "0102"]
    assert dpd("pxe", "approve", code.lower()).out == f"{A}: may boot once\n"
    assert site.ask(A).cause is Cause.UNKNOWN_ALLOWED
    verdicts = dpd("pxe", "pending", "--json").json["verdicts"]
    assert [(v["mac"], v["verdict"], v["actor"]) for v in verdicts] == [(A, "allowed", getpass.getuser())]
    assert "allowed" in dpd("pxe", "pending").out


def test_a_machine_becomes_a_known_computer_and_what_is_missing_is_told(site: SiteDoor, dpd: Dpd) -> None:
    dpd("deployment", "add", "--unknown")
    ended = dpd("pxe", "approve", site.ask(A).code, "--computer", "PC1", "--boot-image", "LAB1")
    assert ended.out == f"{A}: known as PC1\n"
    assert ended.err == "Nothing is deployed to it yet; `dpd deployment add --computer PC1` deploys.\n"
    assert site.ask(A).cause is Cause.NOTHING_DEPLOYED
    assert dpd("pxe", "approve", site.ask(B).code, "--boot-image", "LAB1").code == 2
    dpd("deployment", "add", "--all")
    assert dpd("pxe", "approve", B, "--computer", "PC2").err == ""
    assert site.ask(B).outcome is Outcome.PROMPT


def test_a_machine_is_denied_and_that_is_taken_back(site: SiteDoor, dpd: Dpd) -> None:
    code = site.ask(A).code
    assert dpd("pxe", "deny", code).out == f"{A}: denied; `dpd pxe deny --undo {A}` takes that back\n"
    assert site.ask(A).cause is Cause.UNKNOWN_DENIED
    assert "denied" in dpd("pxe", "pending").out
    assert dpd("pxe", "deny", "--undo", A).out == f"{A}: no longer denied\n"
    assert site.ask(A).cause is Cause.UNKNOWN_PENDING
    assert dpd("pxe", "deny", B, "--json").json["verdict"] == "denied"


def test_only_what_waits_is_approved(site: SiteDoor, dpd: Dpd) -> None:
    ended = dpd("pxe", "approve", "ACDEFG")
    assert ended.code == 1
    assert ended.err.startswith("dpd: no machine ACDEFG waits for approval; `dpd pxe pending` shows")


@pytest.mark.parametrize(
    ("option", "value"), [("--add-mac-prefix", "52:54:00"), ("--add-network", "10.1.0.0/16"), ("--add-circuit", "0102")]
)
def test_a_rule_approves_and_is_taken_out(site: SiteDoor, dpd: Dpd, option: str, value: str) -> None:
    assert "There is no rule" in dpd("pxe", "rules").out
    assert value in dpd("pxe", "rules", option, value).out
    assert site.ask(A).cause is Cause.UNKNOWN_ALLOWED
    assert dpd("pxe", "rules").out.splitlines()[1].split()[2] == value
    assert dpd("pxe", "rules", "--remove", "1", "--json").json["value"] == value
    assert site.ask(A).cause is Cause.UNKNOWN_PENDING
    assert dpd("pxe", "rules", option, value, "--remove", "1").code == 2


def test_maintenance_is_switched_on_with_a_reason_and_off(site: SiteDoor, dpd: Dpd) -> None:
    assert "off; machines are answered" in dpd("pxe", "maintenance").out
    assert "on: new switch; no machine is answered" in dpd("pxe", "maintenance", "--on", "new switch").out
    assert site.ask(A).cause is Cause.MAINTENANCE
    assert dpd("pxe", "maintenance", "--off", "--json").json == {"reason": ""}
    assert dpd("pxe", "maintenance", "--on", "x", "--off").code == 2


def test_the_audit_tells_who_changed_what(site: SiteDoor, dpd: Dpd) -> None:
    assert dpd("pxe", "audit").out == "Nothing has been changed yet.\n"
    dpd("pxe", "maintenance", "--on", "new switch")
    line = dpd("pxe", "audit", "--last", "1").out.splitlines()[1].split()
    assert line[2:] == [getpass.getuser(), "maintenance", "on", "new", "switch", "1"]
    assert dpd("pxe", "audit", "--json").json["entries"][0]["action"] == "maintenance on"
