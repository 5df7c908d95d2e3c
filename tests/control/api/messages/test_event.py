# SPDX-License-Identifier: Apache-2.0
"""Status messages as the API tells them."""

from __future__ import annotations

from msgspec import json

from dpd.control.api.messages.event import list_of, reply_of
from dpd.control.operations.message import Page, Position
from dpd.telemetry.status_messages import Severity, StatusMessage

MESSAGE = StatusMessage(7, 1000.5, "job.done", 2004, Severity.INFO, {"job": 4, "kind": "pull", "share": 0.5})


def test_a_message_brings_its_sentence_and_where_to_go_on() -> None:
    assert json.decode(json.encode(reply_of(MESSAGE, "feed"))) == {
        "position": "feed-7",
        "sequence": 7,
        "at": 1000.5,
        "event": "job.done",
        "message_id": 2004,
        "severity": "info",
        "text": "Job 4 (pull) is done.",
        "fields": {"job": 4, "kind": "pull", "share": 0.5},
    }


def test_a_page_tells_what_was_missed() -> None:
    told = json.decode(json.encode(list_of(Page([MESSAGE], Position("feed", 9), (3, 6)))))
    assert (told["position"], told["missed"]) == ("feed-9", {"first": 3, "last": 6})
    assert [each["position"] for each in told["messages"]] == ["feed-7"]
