# SPDX-License-Identifier: Apache-2.0
"""Which deployment counts."""

from __future__ import annotations

from typing import Any

from dpd.site.decision import Cause
from dpd.site.records import Deployment, Purpose
from dpd.site.schedule import Choice, choose, ranked

NOW = 1000.0


def required(id: int, target: str = "PC1", **rest: Any) -> Deployment:
    return Deployment(id, target, f"IMG{id}", Purpose.REQUIRED, int(rest.pop("priority", 0)), **rest)


def available(id: int, target: str = "PC1", **rest: Any) -> Deployment:
    return Deployment(id, target, f"IMG{id}", Purpose.AVAILABLE, int(rest.pop("priority", 0)), **rest)


def chosen(*deployments: Deployment, run: tuple[int, ...] = (), unfit: tuple[int, ...] = ()) -> Choice:
    return choose(ranked(deployments), NOW, has_run=lambda d: d.id in run, fits=lambda d: d.id not in unfit)


def test_nothing_is_deployed() -> None:
    assert chosen() == Choice(Cause.NOTHING_DEPLOYED)


def test_the_higher_priority_wins_whatever_else_is_said() -> None:
    assert chosen(required(1, priority=1), available(2, "all", priority=2)).deployment == available(
        2, "all", priority=2
    )


def test_what_names_the_computer_wins_over_what_is_for_all() -> None:
    assert chosen(required(2, "all"), available(1)) == Choice(Cause.AVAILABLE, available(1))


def test_what_names_a_collection_is_between_the_computer_and_all() -> None:
    own, collection, everybody = available(1), required(2, "collection:lab"), required(3, "all")
    assert ranked((everybody, collection, own)) == (own, collection, everybody)


def test_required_wins_over_available_and_the_newer_over_the_older() -> None:
    assert chosen(available(3), required(1), required(2)) == Choice(Cause.REQUIRED, required(2))


def test_a_required_one_that_has_run_makes_room_for_the_next() -> None:
    assert chosen(required(1), available(2), run=(1,)) == Choice(Cause.AVAILABLE, available(2))
    assert chosen(required(1), required(2), run=(2,)) == Choice(Cause.REQUIRED, required(1))
    assert chosen(required(1), run=(1,)) == Choice(Cause.ALREADY_RUN)


def test_an_available_one_may_run_again() -> None:
    assert chosen(available(1), run=(1,)) == Choice(Cause.AVAILABLE, available(1))


def test_before_its_time_and_after_it() -> None:
    later, over = required(1, available_from=NOW + 1), required(2, expires_at=NOW)
    assert chosen(later) == Choice(Cause.NOT_YET)
    assert chosen(over) == Choice(Cause.EXPIRED)
    assert chosen(later, over) == Choice(Cause.NOT_YET)
    assert chosen(later, over, available(3)) == Choice(Cause.AVAILABLE, available(3))


def test_what_has_no_image_for_the_machine_is_passed_over() -> None:
    assert chosen(required(1, priority=9), available(2), unfit=(1,)) == Choice(Cause.AVAILABLE, available(2))
    assert chosen(required(1), available(2), unfit=(1, 2)) == Choice(Cause.NO_IMAGE_FOR_ARCH)
