# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire between a target and its point: what is said is what is heard, and nothing else counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.errors import MalformedMessage
from dpd.sequence.exchange import (
    Captured,
    CaptureEnd,
    CapturePlace,
    CaptureWish,
    Hello,
    Offer,
    Receipt,
    Refusal,
    Report,
    Reports,
    Resume,
    StepState,
    Take,
    Taken,
    Welcome,
    decode,
    encode,
)
from dpd.sequence.variables import Variable

TOKEN = "ab" * 16
HELLO = Hello(TOKEN, ("52:54:00:12:34:56",), "", "x64", "uefi", "0.1", "cd" * 8, {"ram_bytes": 1 << 30})
MESSAGES = [
    HELLO,
    Welcome(TOKEN, "PC-1", "pc-1", 1000.5, (Offer(7, "", "debian", 3, "required", "Grüße"),)),
    Take(7),
    Taken(TOKEN, '{"a":1}', (Variable("Password", "secret\n", True), Variable("A", "")), TOKEN),
    Resume(TOKEN, TOKEN),
    Reports(TOKEN, (Report(1, 5.0, "2.1", StepState.STARTED), Report(0, 6.0, "2.1", StepState.PROGRESS, "x", 1, 2, 3))),
    Receipt(2, "the operator said so"),
    CaptureWish(TOKEN, "CAP00001", 1 << 40),
    CapturePlace(5, "x1"),
    CaptureEnd("0" * 64),
    Captured("CAP00001", 2),
    Refusal("proof_used", "start the machine again"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_what_is_said_is_heard(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_a_key_of_another_release_is_left_alone(message: Any) -> None:
    body = json.loads(encode(message)) | {"of_next_year": [1]}
    assert decode(type(message), json.dumps(body).encode()) == message


@pytest.mark.parametrize("kind", [type(each) for each in MESSAGES])
@settings(max_examples=30)
@given(
    body=st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_other_bytes_are_no_message(kind: Any, body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(kind, body)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        (HELLO, {"wire": 2}, "wire"),
        (HELLO, {"wire": None}, "missing"),
        (HELLO, {"proof": "zz"}, "value"),
        (HELLO, {"macs": ["52-54-00-12-34-56"]}, "value"),
        (HELLO, {"macs": "52:54:00:12:34:56"}, "value"),
        (HELLO, {"facts": []}, "value"),
        (HELLO, {"agent": "a" * 65}, "value"),
        (HELLO, {"agent": "\ud800"}, "value"),
        (Take(7), {"deployment": True}, "value"),
        (Take(7), {"deployment": 0}, "value"),
        (Receipt(2), {"next": 0}, "value"),
        (CaptureWish(TOKEN, "A", 1), {"package_id": "../etc"}, "value"),
        (CaptureEnd("0" * 64), {"sha256": "0" * 63}, "value"),
        (Captured("A", 1), {"package_id": ""}, "value"),
        (Refusal("a", ""), {"error": "not a code"}, "value"),
        (Variable("A", ""), {"secret": 1}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"state": "finished"}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"step": "0"}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"step": "1."}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"at": float("nan")}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"number": -1}, "value"),
        (Report(1, 0.0, "1", StepState.DONE), {"message": "m" * 1001}, "value"),
        (Reports(TOKEN, ()), {"reports": [{}] * 129}, "value"),
        (Reports(TOKEN, ()), {"reports": ["x"]}, "json"),
        (Offer(1, "", "s", 1, "required"), {"purpose": "wished"}, "value"),
    ],
)
def test_a_value_out_of_its_range_is_refused(kind: Any, change: dict[str, Any], reason: str) -> None:
    body = json.loads(encode(kind)) | change
    with pytest.raises(MalformedMessage) as refused:
        decode(type(kind), json.dumps(body).encode())
    assert refused.value.reason == reason


def test_what_opens_doors_is_in_no_repr() -> None:
    shown = "".join(map(repr, MESSAGES))
    assert "secret\n" not in shown
    assert repr("secret\n") not in shown
    assert f"proof='{TOKEN}'" not in shown
    assert f"session='{TOKEN}'" not in shown
    assert f"resume='{TOKEN}'" not in shown
