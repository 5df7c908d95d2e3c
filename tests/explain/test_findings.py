# SPDX-License-Identifier: Apache-2.0
"""What judges read out of a case."""

from __future__ import annotations

from tests.explain.stories import AT, boot_reply, discover, event, ignored, offer, tftp

from dpd.explain.findings import Case, Surroundings, number_of, plain_name, text_of
from dpd.telemetry.boot_story import Attempt
from dpd.telemetry.journal import BootEvent


def case(*events: BootEvent, now: float = 50, server: str = "") -> Case:
    return Case(Attempt(events), (), Surroundings(AT + now, server))


def test_the_server_is_the_one_that_the_machine_was_told() -> None:
    assert case(discover(), offer(), server="192.0.2.1").server == "10.0.0.1"
    assert case(discover(), server="192.0.2.1").server == "192.0.2.1"
    assert case(discover()).server == "this server"


def test_silence_counts_from_the_last_event() -> None:
    assert not case(discover(), tftp(40)).is_over
    assert case(discover(), tftp(30)).is_over


def test_a_failure_is_mended_by_a_file_after_it() -> None:
    failure = ignored("no_rule", 3)
    assert case(discover(), failure, tftp(6)).unmended("ignored") is None
    assert case(discover(), tftp(2), failure).unmended("ignored") is failure


def test_the_newest_of_each_is_taken() -> None:
    told = case(
        discover(), offer(loader="first.efi"), boot_reply(), tftp(6, "one"), tftp(7, "two"), ignored("no_rule", 8)
    )
    assert told.loader == "ipxe.efi"
    assert told.last_fetched is not None
    assert text_of(told.last_fetched, "file") == "two"
    assert told.ignored("no_rule") is not None
    assert told.ignored("too_early") is None


def test_fields_that_are_not_there_have_a_default() -> None:
    assert text_of(event(0, "tftp", file=""), "file", "its file") == "its file"
    assert number_of(event(0, "tftp", bytes="many"), "bytes") == 0


def test_names_are_compared_in_any_case_and_with_any_slashes() -> None:
    assert plain_name("\\Boot\\BCD") == plain_name("/boot/bcd") == "boot/bcd"
