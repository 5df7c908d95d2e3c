# SPDX-License-Identifier: Apache-2.0
"""What goes over the bus, as bytes."""

from __future__ import annotations

import itertools

import pytest

from dpd.bus.messages import Answer, Ask, BusCaller, Desired, DesiredPackage, SharedRun, StatusReport, decode, encode
from dpd.errors import BusError


def test_an_ask_comes_back_as_it_was() -> None:
    ask = Ask("0123456789", "POST", "/v1/jobs?x=1", '{"a":"ä"}', "application/json", BusCaller("anna", "operator"), 4)
    assert decode(Ask, encode(ask)) == ask


def test_what_an_older_site_does_not_say_has_its_default() -> None:
    assert decode(Answer, b'{"sequence":0,"new":1}') == Answer(0)
    assert decode(Desired, b'{"packages":[{"package_id":"A"}]}') == Desired([DesiredPackage("A", None, 2)])


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (Ask, b"", "ask: "),
        (Ask, b'{"id":"short"}', r"ask: .*length >= 8.*\$\.id"),
        (Answer, b'{"sequence":"x"}', r"answer: .*\$\.sequence"),
        (Desired, b'{"packages":[{"package_id":"A","source_version":0}]}', r"desired: .*source_version"),
        (Ask, b"\xff\xfe", "ask: "),
    ],
)
def test_what_is_no_message_names_the_field(kind: type, data: bytes, message: str) -> None:
    with pytest.raises(BusError, match=message):
        decode(kind, data)


def test_the_weightier_word_about_a_run_holds_in_whatever_order_they_come() -> None:
    began = SharedRun(1, "pc", "m", 100.0)
    finished = SharedRun(1, "pc", "m", 100.0, 160.0)
    cleared = SharedRun(1, "pc", "", 100.0, 0.0, is_cleared=True)
    again = SharedRun(1, "pc", "m", 200.0)
    for words in itertools.permutations([began, finished, cleared, again]):
        assert max(words, key=lambda each: each.weight) is again
    for words in itertools.permutations([began, finished, cleared]):
        assert max(words, key=lambda each: each.weight) is cleared
    assert began.weight < finished.weight


def test_the_name_of_a_status_message_is_its_series_and_number() -> None:
    report = StatusReport("p1", "cafe", 7, 1.0, "job.done", 2005, "info", {"job": 1})
    assert report.name == "p1-cafe-7"
    assert decode(StatusReport, encode(report)) == report
