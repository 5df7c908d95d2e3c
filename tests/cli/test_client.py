# SPDX-License-Identifier: Apache-2.0
"""The client of the control API: daemons that do not run, refuse half-way or are no dpd at all."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.daemon_process import DaemonProcess

from dpd.cli import client as cli_client
from dpd.cli.client import AIM, Aim, Client, DaemonUnreachable, RefusedByDaemon, plain_name

REFUSAL = b'{"error": {"code": "library_full", "message": "no room"}}'


@contextmanager
def answering(path: Path, answer: bytes, *, read_first: int = 1) -> Iterator[Client]:
    """A server that answers one request after its first bytes, reads no further and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(read_first)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(str(path))
        thread.join(10)


def reply(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


def test_a_dead_socket_is_told(dead_socket: str) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        Client(dead_socket).get("status")
    assert str(caught.value) == (
        f"dpd does not run: nobody listens at {dead_socket}; `systemctl start dpd` starts it, --socket or DPD_SOCKET names another socket"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_socket_of_another_group_is_told(daemon: DaemonProcess) -> None:
    path = Path(daemon.control_socket)
    path.chmod(0o600)  # this process keeps root's groups
    above = {each: each.stat().st_mode for each in path.parents[:-1]}
    for each, mode in above.items():
        each.chmod(mode | 0o111)
    os.seteuid(65534)
    try:
        with pytest.raises(DaemonUnreachable) as caught:
            Client(daemon.control_socket).get("status")
    finally:
        os.seteuid(0)
        path.chmod(0o660)
        for each, mode in above.items():
            each.chmod(mode)
    assert str(caught.value) == (
        f"{daemon.control_socket}: not permitted; become root, or a member of the group that owns the socket (control.socket_group)"
    )


def test_a_refusal_in_the_middle_of_an_upload_is_read_although_the_rest_is_not_sent(tmp_path: Path) -> None:
    image = tmp_path / "large.img"
    with image.open("wb") as file:
        file.truncate(1 << 30)
    sent: list[int] = []
    with (
        answering(tmp_path / "s", reply("507 Insufficient Storage", REFUSAL)) as client,
        image.open("rb") as file,
        pytest.raises(RefusedByDaemon) as caught,
    ):
        list(client.upload(file, "content", size_bytes=image.stat().st_size, sent=sent.append, package_id="LAB1"))
    assert (caught.value.code, str(caught.value)) == ("library_full", "no room")
    assert len(sent) < 64


def test_an_error_line_at_the_end_is_a_refusal(tmp_path: Path) -> None:
    body = b'{"progress": {"done_bytes": 1, "total_bytes": 2}}\n' + REFUSAL + b"\n"
    with answering(tmp_path / "s", reply("200 OK", body)) as client:
        lines = client.follow("content", "LAB1", "verify")
        assert next(lines) == {"progress": {"done_bytes": 1, "total_bytes": 2}}
        with pytest.raises(RefusedByDaemon, match="no room"):
            next(lines)


def test_a_stream_that_ends_without_an_outcome_is_told(tmp_path: Path) -> None:
    body = b'{"progress": {"done_bytes": 1, "total_bytes": 2}}\n'
    with (
        answering(tmp_path / "s", reply("200 OK", body)) as client,
        pytest.raises(RefusedByDaemon, match="the daemon ended before the job did"),
    ):
        list(client.follow("content", "LAB1", "verify"))


def test_a_stream_cut_off_in_the_middle_is_told(tmp_path: Path) -> None:
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"progress": '
    with (
        answering(tmp_path / "s", answer) as client,
        pytest.raises(DaemonUnreachable, match="the connection broke off"),
    ):
        list(client.follow("content", "LAB1", "verify"))


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff"])
def test_a_socket_that_is_not_of_dpd_is_told(tmp_path: Path, body: bytes) -> None:
    with (
        answering(tmp_path / "s", reply("404 Not Found", body)) as client,
        pytest.raises(RefusedByDaemon, match=r"status 404 and no JSON: is this socket dpd's\?"),
    ):
        client.get("status")


def test_a_daemon_that_ends_before_it_answers_is_told(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "s", b"") as client,
        pytest.raises(DaemonUnreachable, match="the connection broke off"),
    ):
        client.get("status")


@pytest.mark.parametrize(
    ("name", "sent"), [("install.wim", "install.wim"), (".hidden.wim", "hidden.wim"), ("...", "image")]
)
def test_names_are_sent_as_the_daemon_takes_them(name: str, sent: str) -> None:
    assert plain_name(Path(name)) == sent


# ---- a site server that waits for a point

STATUS = b'{"role": "site"}'


@contextmanager
def waiting_site(path: Path, probe: Callable[[int, socket.socket], bool]) -> Iterator[tuple[Client, list[int]]]:
    """A site server that answers a question for a point when `probe`, which is called with each further connection, has said
    True; the client that asks, and the probes."""
    probes: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            asking, _ = listener.accept()
            with asking:
                asking.recv(1)
                while True:
                    probing, _ = listener.accept()
                    with probing:
                        probing.recv(1)
                        probes.append(len(probes) + 1)
                        is_over = probe(probes[-1], probing)
                    if is_over:
                        break
                with suppress(BrokenPipeError):  # who asks may have given up
                    asking.sendall(reply("200 OK", b'{"done": true}'))

        thread = threading.Thread(target=serve)
        thread.start()
        token = AIM.set(Aim(str(path), "branch-1"))
        try:
            yield Client(""), probes
        finally:
            AIM.reset(token)
            thread.join(30)
            assert not thread.is_alive()


def test_a_command_waits_as_long_as_the_site_server_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bus.ask_timeout_s may be ten minutes, which is more than a command waits for its own daemon."""
    monkeypatch.setattr(cli_client, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(cli_client, "PROBE_S", 0.3)

    def probe(number: int, connection: socket.socket) -> bool:
        connection.sendall(reply("200 OK", STATUS))
        return number == 4

    with waiting_site(tmp_path / "s", probe) as (client, probes):
        assert client.get("status") == {"done": True}
    assert probes == [1, 2, 3, 4]


def test_a_command_does_not_wait_for_a_site_server_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_client, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(cli_client, "PROBE_S", 0.1)
    told = threading.Event()

    def probe(number: int, connection: socket.socket) -> bool:
        return told.wait(30)

    with waiting_site(tmp_path / "s", probe) as (client, _):
        with pytest.raises(DaemonUnreachable, match="no answer in time; `journalctl -u dpd-site`"):
            client.post("sessions", body={})
        told.set()


def test_a_command_hears_at_once_of_a_site_server_that_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_client, "PROBE_S", 60.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def go() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=go)
        thread.start()
        token = AIM.set(Aim(str(tmp_path / "s"), "branch-1"))
        try:
            with pytest.raises(DaemonUnreachable, match="the connection broke off"):
                Client("").get("status")
        finally:
            AIM.reset(token)
        thread.join(30)
