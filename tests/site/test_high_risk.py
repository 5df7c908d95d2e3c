# SPDX-License-Identifier: Apache-2.0
"""The high-risk guard: when it wakes, and what makes it content."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dpd.site.high_risk import check_confirmed, high_risks
from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.records import Collection, Computer, Deployment, MemberKind, MembershipRule, NotConfirmed, Purpose, Rerun

LIMIT = 3
COMPUTERS = tuple(Computer(f"PC{n}", (f"52:54:00:00:00:{n:02x}",)) for n in range(6))
ALL_PCS = (MembershipRule(MemberKind.NAME, "PC*"),)
BIG, SMALL = Collection("big", rules=ALL_PCS), Collection("small", ("PC1", "PC2"))
SITE = SiteModel(COMPUTERS, (BIG, SMALL))


def required(target: str, **rest: Any) -> Deployment:
    return Deployment(rest.pop("id", 1), target, "", rest.pop("purpose", Purpose.REQUIRED), **rest)


def site(*deployments: Deployment, **rest: Any) -> SiteModel:
    return normal_model(replace(SITE, deployments=deployments, **rest))


def counts(old: SiteModel, new: SiteModel, limit: int = LIMIT) -> list[tuple[str, int]]:
    return [(each.deployment.target, len(each.reached)) for each in high_risks(old, new, limit)]


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        (required("collection:big"), [("collection:big", 6)]),
        (required("collection:big", id=0), [("collection:big", 6)]),
        (required("all"), [("all", 6)]),
        (required("collection:small"), []),
        (required("PC1"), []),
        (required("unknown"), []),
        (required("all", purpose=Purpose.AVAILABLE), []),
    ],
)
def test_it_wakes_for_a_new_required_deployment_to_many_or_to_all(
    deployment: Deployment, expected: list[tuple[str, int]]
) -> None:
    assert counts(site(), site(deployment)) == expected
    assert counts(site(), site(deployment), limit=0) == []


def test_all_is_many_however_few_there_are() -> None:
    few = {"computers": COMPUTERS[:2], "collections": ()}
    assert counts(site(**few), site(required("all"), **few)) == [("all", 2)]


def test_it_wakes_when_a_deployment_becomes_required_or_runs_once_more() -> None:
    before = site(required("collection:big"))
    assert counts(before, before) == []
    assert counts(before, site(required("collection:big", priority=3))) == []
    assert counts(site(required("collection:big", purpose=Purpose.AVAILABLE)), before) == [("collection:big", 6)]
    assert counts(before, site(required("collection:big", rerun=Rerun.ALWAYS))) == [("collection:big", 6)]
    assert counts(site(required("collection:big", rerun=Rerun.ALWAYS)), before) == []


def test_it_wakes_when_a_collection_grows_by_computers_that_were_known() -> None:
    before = site(required("collection:small"))
    assert counts(before, site(required("collection:small"), collections=(BIG, replace(SMALL, include=("big",))))) == [
        ("collection:small", 6)
    ]
    assert (
        counts(
            before,
            site(required("collection:small"), collections=(BIG, replace(SMALL, computers=("PC1", "PC2", "PC3")))),
        )
        == []
    )
    shrunk = replace(BIG, rules=(), computers=("PC1", "PC2", "PC3", "PC4"))
    assert counts(site(required("collection:big")), site(required("collection:big"), collections=(shrunk, SMALL))) == []


def test_computers_that_come_do_not_wake_it() -> None:
    few = site(required("collection:big"), required("all", id=2), computers=COMPUTERS[:3], collections=(BIG,))
    assert counts(few, site(required("collection:big"), required("all", id=2), collections=(BIG,))) == []


def test_who_says_how_many_is_let_through() -> None:
    risks = high_risks(site(), site(required("all"), required("collection:big", id=2)), LIMIT)
    check_confirmed([], None, LIMIT)
    check_confirmed(risks, 6, LIMIT)  # the same six computers by both
    for confirm, words in ((None, "reaches 6 known computers (site"), (5, "reaches 6 known computers, not 5 (site")):
        with pytest.raises(NotConfirmed) as caught:
            check_confirmed(risks, confirm, LIMIT)
        assert caught.value.computers == 6
        assert words in str(caught.value)
        assert "for all and 1 more" in str(caught.value)
        assert str(caught.value).endswith("confirm that number: --confirm 6")
