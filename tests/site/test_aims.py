# SPDX-License-Identifier: Apache-2.0
"""Which deployments are for whom."""

from __future__ import annotations

from dpd.site.aims import Aims
from dpd.site.known_computers import KnownComputers
from dpd.site.membership import Membership
from dpd.site.records import Collection, Computer, Deployment, Purpose

COMPUTERS = {name.lower(): Computer(name, (f"52:54:00:00:00:0{n}",)) for n, name in enumerate(("PC1", "PC2", "PC3"))}
KNOWN = KnownComputers(COMPUTERS.values())
MEMBERSHIP = Membership([Collection("lab", ("PC1", "PC2")), Collection("Old", ("PC2",))], COMPUTERS)


def deployment(id: int, target: str, priority: int = 0) -> Deployment:
    return Deployment(id, target, "", Purpose.AVAILABLE, priority)


def ids(found: tuple[Deployment, ...]) -> list[int]:
    return [each.id for each in found]


def test_each_computer_has_its_own_its_collections_and_everybodys_in_their_rank() -> None:
    everybody, lab, own, old = (
        deployment(1, "all", 1),
        deployment(2, "collection:lab"),
        deployment(3, "PC1"),
        deployment(4, "collection:OLD", 2),
    )
    aims = Aims([everybody, lab, own, old, deployment(5, "unknown")], KNOWN, MEMBERSHIP)
    assert [ids(aims.of_computer(key)) for key in ("pc1", "pc2", "pc3")] == [[1, 3, 2], [4, 1, 2], [1]]
    assert ids(aims.of_unknown) == [5]


def test_a_target_is_looked_up_as_it_was_named_the_oldest_first() -> None:
    aims = Aims(
        [deployment(1, "collection:lab"), deployment(2, "collection:lab", 9), deployment(3, "all")], KNOWN, MEMBERSHIP
    )
    assert ids(aims.of_target("collection:lab")) == [1, 2]
    assert ids(aims.of_target("pc1")) == []


def test_computers_with_the_same_deployments_share_one_list() -> None:
    aims = Aims([deployment(1, "collection:lab")], KNOWN, MEMBERSHIP)
    assert aims.of_computer("pc1") is aims.of_computer("pc2")
    assert aims.of_computer("pc3") == ()


def test_a_computer_is_known_by_its_mac_then_by_its_guid_unless_several_share_it() -> None:
    guid, mac, other = "4c4c4544-0044-3510-8052-b4c04f4e4d31", "52:54:00:00:00:0a", "52:54:00:00:00:0b"
    known = KnownComputers([Computer("One", (mac,), "", "IMG1"), Computer("Two", (other,), guid)])
    aims = Aims([deployment(1, "two")], known)
    one, two = aims.identify(mac, guid), aims.identify("02:00:00:00:00:01", guid)
    assert one is not None
    assert two is not None
    assert (one.name, one.key, one.boot_image, one.deployments) == ("One", "one", "IMG1", ())
    assert (two.name, ids(two.deployments)) == ("Two", [1])
    assert aims.identify(mac, guid, {mac}) is two
    assert aims.identify(mac, guid, {mac, guid}) is None
    assert aims.identify("02:00:00:00:00:01", "") is None
