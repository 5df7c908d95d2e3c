# SPDX-License-Identifier: Apache-2.0
"""What is asked at the door for targets, and how a lost session comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.target.canned import Canned, serving

from dpd.errors import DpdError
from dpd.sequence.exchange import CaptureWish, Hello, Report, Resume, StepState
from dpd.target.distribution_point.connection import Refused, Unreachable
from dpd.target.distribution_point.desk import Desk, read_key

WELCOME = {"session": "ab" * 16, "computer": "PC1", "machine": "pc1", "server_time": 1.0, "offers": []}
HELLO = Hello("cd" * 16, ("52:54:00:00:00:01",), "", "x64", "bios", "t", "ef" * 16)
RECEIPT = {"next": 2, "cancel": ""}


@pytest.fixture
def canned() -> Iterator[Canned]:
    with serving() as server:
        yield server


def test_the_session_of_the_welcome_goes_with_everything_behind_it(canned: Canned) -> None:
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(str(handler.headers.get("Authorization")))
        send(handler, 200, WELCOME if handler.path == "/target/hello" else RECEIPT)

    canned.answer_with = answer
    desk = Desk(canned.url)
    assert desk.hello(HELLO).computer == "PC1"
    assert desk.report("ab" * 16, (Report(1, 1.0, "1", StepState.STARTED),)).next == 2
    assert seen == ["None", f"Bearer {'ab' * 16}"]
    assert json.loads(canned.asked[0][2])["wire"] == 1
    desk.close()


def test_a_session_that_the_point_knows_no_more_is_opened_again_and_the_question_asked_again(canned: Canned) -> None:
    known: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/target/resume":
            known.append("new")
            send(handler, 200, WELCOME)
        elif known:
            send(handler, 200, RECEIPT)
        else:
            send(handler, 401, {"error": {"code": "session_unknown", "message": "no such session"}})

    canned.answer_with = answer
    desk = Desk(canned.url)
    desk.continue_with(Resume("ab" * 16, "cd" * 16))
    assert desk.report("ab" * 16, ()).next == 2
    assert [path for _, path, _ in canned.asked] == ["/target/report", "/target/resume", "/target/report"]
    desk.close()


@pytest.mark.parametrize(("status", "kind"), [(403, Refused), (503, Unreachable)])
def test_refusals_are_told_in_the_points_words(canned: Canned, status: int, kind: type[DpdError]) -> None:
    canned.answer(status, {"error": {"code": "proof_used", "message": "boot the machine anew"}})
    desk = Desk(canned.url)
    with pytest.raises(kind, match="boot the machine anew") as refusal:
        desk.hello(HELLO)
    if isinstance(refusal.value, Refused):
        assert (refusal.value.status, refusal.value.code) == (403, "proof_used")
    desk.close()


def test_an_answer_that_is_none_is_told(canned: Canned) -> None:
    canned.answer(200, {"session": 7})
    desk = Desk(canned.url)
    with pytest.raises(DpdError, match="is it a newer or older dpd"):
        desk.hello(HELLO)
    desk.close()


def test_a_capture_is_begun_put_and_finished(canned: Canned) -> None:
    seen: list[tuple[str, str]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, str(handler.headers.get("Content-Range"))))
        if handler.path.endswith("/finish"):
            send(handler, 200, {"package_id": "CAP1", "source_version": 2})
        else:
            send(handler, 200, {"offset": 5, "capture": "c7"})

    canned.answer_with = answer
    desk = Desk(canned.url)
    assert desk.begin_capture(CaptureWish("ab" * 16, "CAP1", 10)).capture == "c7"
    assert desk.finish_capture("c7", "00" * 32).source_version == 2
    desk.close()
    assert seen == [("/target/captures", "None"), ("/target/captures/c7/finish", "None")]


def test_the_key_beside_the_program_is_read_or_told(tmp_path: Path) -> None:
    place = tmp_path / "signing-key"
    assert read_key(place) is None
    place.write_text("ab" * 32 + "\n")
    assert read_key(place) == bytes.fromhex("ab" * 32)
    for wrong in ("ab" * 31, "no hex"):
        place.write_text(wrong)
        with pytest.raises(DpdError, match="expected dpd's public key as 64 hexadecimal digits"):
            read_key(place)


def send(handler: BaseHTTPRequestHandler, status: int, body: object) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
