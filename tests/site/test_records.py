# SPDX-License-Identifier: Apache-2.0
"""Names and identities in the one form in which they are compared."""

from __future__ import annotations

import pytest

from dpd.site.records import (
    Deployment,
    Purpose,
    RuleKind,
    SiteError,
    check_name,
    normal_computer,
    normal_guid,
    normal_mac_prefix,
    normal_rule_value,
)

GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"


@pytest.mark.parametrize("text", ["AA-BB-CC-00-11-22", "aabb.cc00.1122", " aa:bb:cc:00:11:22 ", "AABBCC001122"])
def test_a_mac_has_one_form(text: str) -> None:
    assert normal_mac_prefix(text, whole=True) == "aa:bb:cc:00:11:22"


@pytest.mark.parametrize("text", ["", "aa:bb:cc:00:11", "aa:bb:cc:00:11:22:33", "aa:bb:cc:00:11:2g", "aabbc"])
def test_what_is_no_mac_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(SiteError, match="expected six bytes"):
        normal_mac_prefix(text, whole=True)


def test_a_prefix_is_one_to_six_bytes() -> None:
    assert normal_mac_prefix("52-54-00") == "52:54:00"
    with pytest.raises(SiteError, match="one to six bytes"):
        normal_mac_prefix("52540")


def test_a_guid_may_have_braces_and_capitals() -> None:
    assert normal_guid("{" + GUID.upper() + "}") == GUID
    with pytest.raises(SiteError, match="expected such as"):
        normal_guid(GUID[:-1])


@pytest.mark.parametrize("name", ["", "-x", "a b", "ALL", "unknown", "x" * 64, "a/b", "pc\n"])
def test_what_is_no_name_or_a_group_of_machines_is_refused(name: str) -> None:
    with pytest.raises(SiteError, match="name"):
        check_name(name)


def test_a_computer_needs_something_to_be_known_by() -> None:
    with pytest.raises(SiteError, match="a MAC or a GUID"):
        normal_computer("PC1", ())
    assert normal_computer("PC1", ("52-54-00-00-00-01", "525400000001"), GUID.upper()).macs == ("52:54:00:00:00:01",)
    assert normal_computer("PC1", (), GUID).guid == GUID


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        (RuleKind.MAC_PREFIX, "52-54-00", "52:54:00"),
        (RuleKind.NETWORK, " 10.1.0.0/16", "10.1.0.0/16"),
        (RuleKind.NETWORK, "FD00:1::/64", "fd00:1::/64"),
        (RuleKind.CIRCUIT, "0x01:0A", "010a"),
    ],
)
def test_a_rule_compares_with_one_form(kind: RuleKind, value: str, normal: str) -> None:
    assert normal_rule_value(kind, value) == normal


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RuleKind.NETWORK, "10.1.2.3/16"),
        (RuleKind.NETWORK, "lan"),
        (RuleKind.CIRCUIT, "port 7"),
        (RuleKind.CIRCUIT, ""),
    ],
)
def test_a_rule_that_could_fit_nothing_is_refused(kind: RuleKind, value: str) -> None:
    with pytest.raises(SiteError, match="expected"):
        normal_rule_value(kind, value)


def test_a_deployment_holds_from_its_beginning_to_before_its_end() -> None:
    deployment = Deployment(1, "all", "", Purpose.REQUIRED, available_from=10.0, expires_at=20.0)
    assert [deployment.has_begun(at) for at in (9.9, 10.0)] == [False, True]
    assert [deployment.has_ended(at) for at in (19.9, 20.0)] == [False, True]
    assert not Deployment(1, "all", "", Purpose.REQUIRED).has_ended(1e12)
