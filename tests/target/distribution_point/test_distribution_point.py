# SPDX-License-Identifier: Apache-2.0
"""What a receiver makes of a distribution point's answers, of strange ones, and of none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.target.canned import Canned, serving

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.service.receiving.receiver import Membership
from dpd.target.distribution_point.connection import Refused
from dpd.target.distribution_point.distribution_point import DistributionPoint, Unicast, Unreachable

JOINED = {
    "session_id": "0000004d", "session": 77, "epoch": 5, "member": "00000000000000ff",
    "group": "239.192.0.9", "port": 63001, "sender": "192.0.2.1", "feedback_port": 40000,
}  # fmt: skip


@pytest.fixture
def canned() -> Iterator[Canned]:
    with serving() as canned:
        yield canned


@pytest.fixture
def point(canned: Canned) -> Iterator[DistributionPoint]:
    point = DistributionPoint(canned.url)
    yield point
    point.close()


def join(point: DistributionPoint) -> tuple[str, Membership | Unicast]:
    return point.join("LAB00001", 3, verified=b"\x05", credit=100, slots=16)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://dp:8080", "dp", 8080),
        ("http://dp/", "dp", 80),
        ("http://[2001:db8::1]:81", "2001:db8::1", 81),
        ("https://dp", "dp", 443),
        ("https://dp:8443", "dp", 8443),
    ],
)
def test_an_address_is_host_and_port(url: str, host: str, port: int) -> None:
    point = DistributionPoint(url)
    assert (point.host, point.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "dp:8080",
        "ftp://dp:8080",
        "http://",
        "http://dp:0",
        "http://dp:port",
        "http://dp:99999",
        "http://dp/path",
        "http://[::1",
        "http://a b",
        f"http://{'ü' * 70}",
        "",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(DpdError, match="expected the address of a distribution point such as http://dp:8080"):
        DistributionPoint(url)


def test_a_manifest_is_asked_for_by_its_version_or_as_the_newest(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, b"signed")
    assert point.fetch_manifest("LAB00001", None) == b"signed"
    assert point.fetch_manifest("A/../B", 3) == b"signed"
    assert [path for _, path, _ in canned.asked] == ["/content/LAB00001/manifest", "/content/A%2F..%2FB/3/manifest"]


def test_a_join_tells_what_the_receiver_has_and_can_hold(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, JOINED)
    session_id, membership = join(point)
    assert session_id == "0000004d"
    assert membership == Membership(77, 5, 255, "239.192.0.9", 63001, ("192.0.2.1", 40000))
    ((method, path, body),) = canned.asked
    assert (method, path) == ("POST", "/mc/sessions/LAB00001/join?source_version=3")
    wish = json.loads(body)
    wanted = {"wire": [1], "verified": "05", "credit": 100, "slots": 16, "name": "", "member": "", "ciphers": []}
    assert wish | {"name": ""} == wanted


def test_a_join_tells_who_the_receiver_was_and_which_ciphers_it_can_open(
    canned: Canned, point: DistributionPoint
) -> None:
    canned.answer(200, JOINED)
    point.join("LAB00001", 3, verified=b"", credit=1, slots=4, member="00ff", ciphers=("aes-128-gcm",))
    wish = json.loads(canned.asked[0][2])
    assert (wish["member"], wish["ciphers"]) == ("00ff", ["aes-128-gcm"])


def test_everything_that_a_session_may_be_is_read(canned: Canned, point: DistributionPoint) -> None:
    answer = {
        "class": 1, "group": "ff35::6470:9", "source": "2001:DB8::1", "sender": "2001:db8::1", "public_key": "11" * 32,
        "friendly": True, "floor_kib_s": 256, "starts_in_s": 12.5, "waiting": "for 3 more", "cipher": "aes-128-gcm", "key": "22" * 16,
        "salt": "33" * 4, "mode": "multicast",
    }  # fmt: skip
    canned.answer(200, JOINED | answer)
    _, place = join(point)
    assert place == Membership(
        77, 5, 255, "ff35::6470:9", 63001, ("2001:db8::1", 40000), 1, "2001:db8::1", bytes([0x11] * 32), True, 256,
        12.5, "for 3 more", "aes-128-gcm", bytes([0x22] * 16), bytes([0x33] * 4),
    )  # fmt: skip
    assert "key=" not in repr(place).replace("public_key=", ""), "keys do not belong into logs"


def test_a_join_may_be_answered_with_http_alone(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, {"wire": 1, "mode": "unicast", "session_id": "4d", "member": "ff", "reason": "full"})
    assert join(point) == ("4d", Unicast(255, "full"))


def test_manifest_join_and_completion_take_one_connection(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, JOINED)
    point.fetch_manifest("LAB00001", None)
    join(point)
    point.complete("4d", 255, {})
    assert len(canned.asked) == 3
    assert canned.connections == 1


def test_a_sender_without_a_fixed_address_is_where_http_is(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, JOINED | {"sender": ""})
    place = join(point)[1]
    assert isinstance(place, Membership)
    assert place.feedback == ("127.0.0.1", 40000)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        JOINED | {"member": 7},
        JOINED | {"member": "xyz"},
        JOINED | {"session": None},
        JOINED | {"group": "192.0.2.9"},
        JOINED | {"group": "somewhere"},
        JOINED | {"port": 0},
        JOINED | {"port": 70000},
        JOINED | {"feedback_port": "-1"},
        JOINED | {"source": "nowhere"},
        JOINED | {"public_key": "1234"},
        JOINED | {"cipher": "rot13"},
        JOINED | {"cipher": "aes-128-gcm", "key": "11", "salt": "33" * 4},
        JOINED | {"starts_in_s": "soon"},
        {"mode": "unicast", "session_id": "4d"},
    ],
)
def test_a_join_answered_with_nonsense_is_told(
    canned: Canned, point: DistributionPoint, answer: dict[str, Any]
) -> None:
    canned.answer(200, answer)
    with pytest.raises(SessionError, match="its answer to the join cannot be read"):
        join(point)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b""])
def test_an_answer_that_is_no_object_asks_whether_this_is_the_right_place(
    canned: Canned, point: DistributionPoint, body: bytes
) -> None:
    canned.answer(200, body)
    with pytest.raises(SessionError, match="is this a distribution point"):
        join(point)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, ContentNotFound), (409, SessionError), (400, Refused), (500, Unreachable), (503, Unreachable)],
)
def test_a_refusal_is_told_in_the_servers_words(
    canned: Canned, point: DistributionPoint, status: int, kind: type
) -> None:
    canned.answer(status, {"error": {"code": "x", "message": "because of this"}})
    with pytest.raises(DpdError) as caught:
        join(point)
    assert type(caught.value) is kind
    assert str(caught.value) == f"{canned.url}: because of this"


def test_a_refusal_without_words_is_told_by_its_status(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(502, b"<html>Bad Gateway</html>")
    with pytest.raises(Unreachable, match="HTTP 502 for /content/LAB00001/manifest"):
        point.fetch_manifest("LAB00001", None)


def test_completion_names_member_and_counts(canned: Canned, point: DistributionPoint) -> None:
    point.complete("0000004d", 255, {"lost": 3})
    ((method, path, body),) = canned.asked
    assert (method, path) == ("POST", "/mc/sessions/0000004d/complete")
    assert json.loads(body) == {"member": "00000000000000ff", "statistics": {"lost": 3}}


def test_progress_over_http_names_member_and_slabs(canned: Canned, point: DistributionPoint) -> None:
    connection = point.open_connection()
    point.report_progress("4d", 255, b"\x05", connection)
    connection.close()
    ((method, path, body),) = canned.asked
    assert (method, path) == ("POST", "/mc/sessions/4d/progress")
    assert json.loads(body) == {"member": "00000000000000ff", "verified": "05"}


def test_a_name_that_leads_nowhere_is_unreachable() -> None:
    point = DistributionPoint("http://no-such-host.invalid:8080")
    with pytest.raises(Unreachable):
        point.fetch_manifest("LAB00001", None)
    with pytest.raises(Unreachable):
        point.local_address()


def test_the_local_address_is_that_of_the_way_there(point: DistributionPoint) -> None:
    assert point.local_address() == "127.0.0.1"
