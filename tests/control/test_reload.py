# SPDX-License-Identifier: Apache-2.0
"""A daemon's doors over SIGHUP: renewed certificate, authority and roles count from then on; what is open stays open."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.authority import Authority
from tests.daemon_process import PATIENCE_S, DaemonProcess
from tests.nats_server import free_port

from dpd.control.access.callers import Role
from dpd.control.access.roles_file import add_token


class Place:
    """A daemon with TLS, one token and one client's certificate."""

    def __init__(self, folder: Path) -> None:
        self.servers = Authority(folder / "servers", "Servers")
        self.clients = Authority(folder / "clients", "Clients")
        self.roles = folder / "roles.toml"
        self.token = add_token(self.roles, "bea", Role.OPERATOR)
        with self.roles.open("a") as file:
            file.write('[[certificate]]\nname = "site.example"\nrole = "admin"\n')
        self.certificate, self.key = self.servers.issue("dp")
        self.port = free_port()
        self.opened: list[http.client.HTTPSConnection] = []
        self.daemon = DaemonProcess(folder / "state")
        control = f'[control]\nlisten = "127.0.0.1:{self.port}"\nroles_file = "{self.roles}"\n'
        control += f'certificate = "{self.certificate}"\nprivate_key = "{self.key}"\n'
        control += f'client_ca_file = "{self.clients.file}"\n'
        self.daemon.config.write_text(self.daemon.config.read_text().replace("[control]\n", control))

    def connect(self, *pair: str) -> http.client.HTTPSConnection:
        """With this certificate and key, or none."""
        context = ssl.create_default_context(cafile=str(self.servers.file))
        if pair:
            context.load_cert_chain(*pair)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=PATIENCE_S)
        self.opened.append(connection)
        return connection

    def subject(self) -> str:
        connection = self.connect()
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = connection.sock.getpeercert()
        connection.close()
        assert shown is not None
        return dict(part[0] for part in shown["subject"])["commonName"]  # type: ignore[misc]


def who(connection: http.client.HTTPConnection, token: str = "") -> Any:
    connection.request("GET", "/v1/caller", headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    return response.status, json.loads(response.read()).get("name")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.daemon.ready():
        yield place
    for connection in place.opened:
        connection.close()


def test_certificates_are_renewed_without_a_restart_and_without_dropping_anybody(place: Place) -> None:
    by_token, by_certificate = place.connect(), place.connect(*place.clients.issue("site.example"))
    assert who(by_token, place.token) == (200, "token bea")
    assert who(by_certificate) == (200, "certificate site.example")
    by_token.request("GET", "/v1/events?after=0&wait_s=60", headers={"Authorization": f"Bearer {place.token}"})  # waits
    newer = Authority(place.clients.file.parent / "newer", "Clients")
    shutil.copy(newer.file, place.clients.file)
    for new, old in zip(place.servers.issue("renewed"), (place.certificate, place.key), strict=True):
        Path(new).rename(old)
    assert place.subject() == "dp"
    place.daemon.signal(signal.SIGHUP)
    place.daemon.wait_logged("reloaded")
    assert place.subject() == "renewed"
    assert who(by_certificate) == (200, "certificate site.example")  # on the connection that it has
    assert who(place.connect(*newer.issue("site.example"))) == (200, "certificate site.example")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        who(place.connect(*place.clients.issue("site.example", file="old")))
    place.daemon.signal(signal.SIGTERM)  # which ends the waiting, with an answer
    response = by_token.getresponse()
    assert (response.status, "events" in json.loads(response.read())) == (200, True)
    place.daemon.wait_ended()


def test_a_certificate_that_cannot_be_used_is_told_and_the_old_one_goes_on(place: Place) -> None:
    Path(place.certificate).write_text("no certificate")
    place.daemon.signal(signal.SIGHUP)
    told = place.daemon.wait_logged("certificate kept as it was")["error"]
    assert told.startswith(f'control.certificate = "{place.certificate}": expected a PEM chain')
    assert place.subject() == "dp"


def test_roles_change_with_their_file_without_any_signal(place: Place) -> None:
    connection = place.connect()
    assert who(connection, place.token) == (200, "token bea")
    place.roles.write_text(place.roles.read_text().replace('"bea"', '"cay"'))
    assert who(connection, place.token) == (200, "token cay")
    assert place.daemon.wait_logged("who is known has changed")["tokens"] == 1
    place.roles.write_text("[[token")
    assert who(connection, place.token) == (200, "token cay")
    assert "not TOML" in place.daemon.wait_logged("roles file")["problem"]
    place.roles.unlink()
    assert who(connection, place.token)[0] == 401
