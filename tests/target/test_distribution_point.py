# SPDX-License-Identifier: Apache-2.0
"""What a receiver makes of a distribution point's answers, of strange ones, and of none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.service.receiver import Membership
from dpd.target import distribution_point
from dpd.target.distribution_point import DistributionPoint, Unreachable

JOINED = {
    "session_id": "0000004d", "session": 77, "epoch": 5, "member": "00000000000000ff",
    "group": "239.192.0.9", "port": 63001, "sender": "192.0.2.1", "feedback_port": 40000,
}  # fmt: skip


@dataclass
class Canned:
    """A server with one answer for everything; remembers what it was asked."""

    status: int = 200
    body: bytes = b"{}"
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    url: str = ""

    def answer(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def canned() -> Iterator[Canned]:
    canned = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            canned.asked.append((self.command, self.path, self.rfile.read(length)))
            self.send_response(canned.status)
            self.send_header("Content-Length", str(len(canned.body)))
            self.end_headers()
            self.wfile.write(canned.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    canned.url = f"http://127.0.0.1:{server.server_port}"
    yield canned
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def point(canned: Canned) -> DistributionPoint:
    return DistributionPoint(canned.url)


def join(point: DistributionPoint) -> tuple[str, Membership]:
    return point.join("LAB00001", 3, verified=b"\x05", credit=100, slots=16)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://dp:8080", "dp", 8080), ("http://dp/", "dp", 80), ("http://[2001:db8::1]:81", "2001:db8::1", 81)],
)
def test_an_address_is_host_and_port(url: str, host: str, port: int) -> None:
    point = DistributionPoint(url)
    assert (point.host, point.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "dp:8080",
        "https://dp",
        "http://",
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
    assert wish | {"name": ""} == {"wire": [1], "verified": "05", "credit": 100, "slots": 16, "name": ""}


def test_a_sender_without_a_fixed_address_is_where_http_is(canned: Canned, point: DistributionPoint) -> None:
    canned.answer(200, JOINED | {"sender": ""})
    assert join(point)[1].feedback == ("127.0.0.1", 40000)


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
    [(404, ContentNotFound), (409, SessionError), (400, DpdError), (500, Unreachable), (503, Unreachable)],
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
    assert json.loads(body) == {"member": "00000000000000ff", "lost": 3}


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match="Connection refused; is dpd running there, and is the port open"):
            DistributionPoint(url).fetch_manifest("LAB00001", None)


def test_a_name_that_leads_nowhere_is_unreachable() -> None:
    point = DistributionPoint("http://no-such-host.invalid:8080")
    with pytest.raises(Unreachable):
        point.fetch_manifest("LAB00001", None)
    with pytest.raises(Unreachable):
        point.local_address()


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution_point, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        point = DistributionPoint(f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(Unreachable, match="timed out"):
            point.fetch_manifest("LAB00001", None)


def test_the_local_address_is_that_of_the_way_there(point: DistributionPoint) -> None:
    assert point.local_address() == "127.0.0.1"
