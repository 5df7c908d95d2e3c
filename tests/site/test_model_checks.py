# SPDX-License-Identifier: Apache-2.0
"""The form in which a model is kept, and what keeps one from being kept."""

from __future__ import annotations

from typing import Any

import pytest

from dpd.site.model import SiteModel
from dpd.site.model_checks import (
    examine,
    normal_boundary,
    normal_deployment,
    normal_membership_rule,
    normal_model,
    normal_point,
)
from dpd.site.records import (
    ApprovalRule,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    RuleKind,
    SiteConflict,
    SiteError,
    SiteNotFound,
)

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
PC1, PC2 = Computer("PC1", (A,), "", "", 1.0), Computer("PC2", (B,), GUID, "", 1.0)


def deployment(target: str, **rest: Any) -> Deployment:
    return Deployment(rest.pop("id", 0), target, "", Purpose.REQUIRED, **rest)


def test_a_model_is_put_into_one_form_and_order() -> None:
    given = SiteModel(
        computers=(Computer("pc2", ("52-54-00-00-00-0B",), GUID.upper()), PC1),
        collections=(
            Collection("Lab", ("PC2", "pc2"), (MembershipRule(MemberKind.GUID, "4C4C*"),) * 2, ("all-of-it",)),
            Collection("All-of-it"),
        ),
        deployments=(deployment("Collection:LAB"), deployment("pc1", id=9), deployment("ALL", id=4, name="x")),
        boundaries=(
            Boundary("fd00::/8", ("HQ",)),
            Boundary("10.1.0.0/16", ("hq",)),
            Boundary("10.0.0.0/8", ("hq", "HQ")),
        ),
        points=(Point("hq", ("b", "a", "b"), "http://hq:8080/"), Point("Branch")),
        rules=(ApprovalRule(0, RuleKind.MAC_PREFIX, "52-54-00"), ApprovalRule(3, RuleKind.NETWORK, " 10.0.0.0/8")),
        maintenance=" move ",
    )
    normal = normal_model(given, now=5.0)
    assert normal_model(normal, now=6.0) == normal
    assert [(each.name, each.added_at) for each in normal.computers] == [("PC1", 1.0), ("pc2", 5.0)]
    assert normal.collections[1] == Collection(
        "Lab", ("pc2",), (MembershipRule(MemberKind.GUID, "4c4c*"),), ("All-of-it",), (), "", 5.0
    )
    assert [(each.id, each.target) for each in normal.deployments] == [(4, "all"), (9, "PC1"), (0, "collection:Lab")]
    assert [each.network for each in normal.boundaries] == ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]
    assert normal.boundaries[0].points == ("hq",)
    assert normal.points == (Point("Branch"), Point("hq", ("b", "a"), "http://hq:8080"))
    assert [(each.id, each.value) for each in normal.rules] == [(3, "10.0.0.0/8"), (0, "52:54:00")]
    assert normal.maintenance == "move"


@pytest.mark.parametrize(
    ("model", "kind", "place", "words"),
    [
        (SiteModel(computers=(PC1, Computer("PC9", (A,)))), "computer", 1, f"{A} is PC1's already"),
        (SiteModel(computers=(PC1, Computer("pc1", (B,)))), "computer", 1, "given more than once"),
        (SiteModel(computers=(Computer("PC1", ()),)), "computer", 0, "expected a MAC or a GUID"),
        (SiteModel(collections=(Collection("all"),)), "collection", 0, "name 'all'"),
        (SiteModel(collections=(Collection("a"), Collection("A"))), "collection", 1, "collection A: given more than once"),
        (SiteModel(collections=(Collection("a", ("PC1",)),)), "collection", 0, "collection a: no computer PC1"),
        (SiteModel(collections=(Collection("a", include=("b",)),)), "collection", 0, "collection a: no collection b"),
        (SiteModel(collections=(Collection("a", include=("A",)),)), "collection", 0, "not itself"),
        (SiteModel(collections=(Collection("a"), Collection("b", include=("a",), exclude=("A",)))), "collection", 1, "both included and excluded"),
        (SiteModel(collections=(Collection("a", include=("b",)), Collection("b", include=("a",)))), "collection", 0, "in a circle"),
        (SiteModel(deployments=(deployment("PC1"),)), "deployment", 0, "no computer PC1"),
        (SiteModel(deployments=(deployment("collection:x"),)), "deployment", 0, "no collection x"),
        (SiteModel(deployments=(deployment("collection:"),)), "deployment", 0, "no collection ;"),
        (SiteModel(deployments=(deployment("all", name="a b"),)), "deployment", 0, "deployment 'a b': expected"),
        (SiteModel(deployments=(deployment("all", name="a"), deployment("all", name="A"))), "deployment", 1, "deployment A: given more"),
        (SiteModel(deployments=(deployment("all", id=1), deployment("all", id=1))), "deployment", 1, "deployment 1: given more"),
        (SiteModel(points=(Point("a.b"),)), "point", 0, "point 'a.b': expected"),
        (SiteModel(points=(Point("a", ("b c",)),)), "point", 0, "group 'b c': expected"),
        (SiteModel(points=(Point("a"), Point("A"))), "point", 1, "point A: given more than once"),
        (SiteModel(boundaries=(Boundary("10.0.0.0/8", ("hq",)),)), "boundary", 0, "boundary 10.0.0.0/8: no point hq"),
        (SiteModel(rules=(ApprovalRule(0, RuleKind.NETWORK, "x"),)), "rule", 0, "network 'x': expected"),
        (SiteModel(rules=(ApprovalRule(0, RuleKind.MAC_PREFIX, "52"), ApprovalRule(0, RuleKind.MAC_PREFIX, "52"))), "rule", 1, "mac_prefix 52: given more"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(model: SiteModel, kind: str, place: int, words: str) -> None:
    _, problems = examine(model)
    assert [(each.kind, each.place) for each in problems] == [(kind, place)]
    assert words in problems[0].message
    with pytest.raises(SiteError, match=problems[0].message[:20].replace("(", ".").replace("\\", ".")):
        normal_model(model)


def test_all_that_is_wrong_is_told_at_once_and_the_rest_is_there() -> None:
    normal, problems = examine(SiteModel(computers=(PC1, Computer("!", (B,))), points=(Point("x y"), Point("z"))))
    assert [(each.kind, each.place) for each in problems] == [("computer", 1), ("point", 0)]
    assert (normal.computers, normal.points) == ((PC1,), (Point("z"),))


@pytest.mark.parametrize(
    "url",
    ["hq:8080", "ftp://hq", "http://user:secret@hq/", "http://hq/?key=1", "http://hq/#x", "http://a b", "http://a\0b"],
)
def test_a_points_url_is_one_without_secrets(url: str) -> None:
    with pytest.raises(SiteError, match="url: expected such as") as caught:
        normal_point(Point("hq", (), url))
    assert "secret" not in str(caught.value)


def test_parts_alone() -> None:
    with pytest.raises(SiteError, match="at least one distribution point"):
        normal_boundary(Boundary("10.0.0.0/8", ()), {})
    with pytest.raises(SiteError, match=r"network '10\.0\.0\.1/8'"):
        normal_boundary(Boundary("10.0.0.1/8", ("hq",)), {"hq": "hq"})
    with pytest.raises(SiteError, match="priority 1001"):
        normal_deployment(deployment("all", priority=1001), {}, {})
    with pytest.raises(SiteError, match="expires_at"):
        normal_deployment(deployment("all", available_from=5.0, expires_at=5.0), {}, {})
    for kind, value in (
        (MemberKind.NAME, ""),
        (MemberKind.NAME, "x" * 101),
        (MemberKind.GUID, "a\nb"),
        (MemberKind.MAC_PREFIX, "5"),
    ):
        with pytest.raises(SiteError, match="expected"):
            normal_membership_rule(MembershipRule(kind, value))
    with pytest.raises(SiteError, match="description: expected one line"):
        normal_point(Point("hq", description="a\nb"))
    with pytest.raises(SiteNotFound):
        normal_deployment(deployment("pc9"), {"pc1": "PC1"}, {})
    with pytest.raises(SiteConflict):
        normal_model(SiteModel(computers=(PC2, PC2)))
