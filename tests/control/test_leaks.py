# SPDX-License-Identifier: Apache-2.0
"""A daemon full of secrets, asked everything, rightly and wrongly: none of them comes out by log, event, status, job or refusal."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import http.server
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.authority import Authority
from tests.daemon_process import DaemonProcess
from tests.nats_server import free_port

from dpd.control.access.callers import Role
from dpd.control.access.roles_file import add_token
from dpd.control.api.table import ROUTES

CONTENT = b"a file behind a token\n" * 1000
ADMIN_TOKEN = "SECRETadmin" + "a" * 20
PIN = "SECRETpin4711"
S3_KEY = "SECRETs3key" + "b" * 20
URL_TOKEN = "SECRETurltoken"
PASSWORD = "SECRETpassword"
WRONG_TOKEN = "SECRETguess" + "c" * 20
PATIENCE_S = 30.0


class _Origin(http.server.BaseHTTPRequestHandler):
    """Gives a file to who has the token; refuses others, and S3 requests, repeating all that they sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == f"/lab.img?token={URL_TOKEN}":
            self._answer(200, CONTENT)
        elif self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", f"ftp://{PASSWORD}@other/?{URL_TOKEN}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._answer(403, f"<Error>{self.path} {self.headers}</Error>".encode())

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ends a connection in the midst of an answer."""


@pytest.fixture
def origin() -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), _Origin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Place:
    """A daemon with every kind of secret, and all that it says."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.said: list[str] = []
        self.daemon = DaemonProcess(folder / "state")
        self.authority = Authority(folder / "authority")
        certificate, key = self.authority.issue("dp")
        self.key = Path(key).read_text()
        self.operator = add_token(folder / "roles.toml", "bea", Role.OPERATOR)
        files = {"token": ADMIN_TOKEN, "pin": PIN, "bus-token": "SECRETbustoken"}
        files["s3.toml"] = f'access_key_id = "AKIA0"\nsecret_access_key = "{S3_KEY}"\n'
        for name, text in files.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        text = self.daemon.config.read_text()
        control = (
            f'listen = "127.0.0.1:{self.port}"\ntoken_file = "{folder}/token"\nroles_file = "{folder}/roles.toml"\n'
        )
        control += f'certificate = "{certificate}"\nprivate_key = "{key}"\n'
        text = text.replace("[control]\n", f"[control]\n{control}")
        text = text.replace("[pxe]\n", f'[pxe]\npin_file = "{folder}/pin"\n')
        text = text.replace("[daemon]\n", '[daemon]\nlog_level = "debug"\n')
        text += f'[bus]\nurl = "nats://127.0.0.1:{free_port()}"\ntoken_file = "{folder}/bus-token"\n'
        text += "[distribution]\nattempts = 1\n"
        text += f'[[distribution.source]]\nname = "s3"\nurl = "s3://bucket/x"\nendpoint = "{origin}"\n'
        text += f'credentials_file = "{folder}/s3.toml"\n'
        self.daemon.config.write_text(text)

    @property
    def secrets(self) -> list[str]:
        key_line = self.key.splitlines()[1]
        hashes = [hashlib.sha256(each.encode()).hexdigest() for each in (self.operator, ADMIN_TOKEN)]
        return ["SECRET", self.operator, key_line, *hashes]

    def ask(self, method: str, target: str, body: Any = None, authorization: str | None = None) -> Any:
        """By TCP where a header is given, else by the Unix socket. What comes is kept; JSON is read."""
        if authorization is None:
            connection: http.client.HTTPConnection = _UnixConnection(self.daemon.control_socket)
        else:
            trusting = ssl.create_default_context(cafile=str(self.authority.file))
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=trusting, timeout=PATIENCE_S)
        headers = {"Authorization": authorization} if authorization else {}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, target, data, headers | {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        connection.close()
        self.said.append(f"{method} {target.partition('?')[0]}: {response.headers} {text}")
        return json.loads(text) if response.headers.get_content_type() == "application/json" else text

    def ended(self, job: int) -> Any:
        """A job when it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.ask("GET", f"/v1/jobs/{job}"))["state"] not in ("done", "failed", "cancelled"):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("dpd", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


def _order(url: str, package_id: str, sha256: str) -> dict[str, Any]:
    return {"kind": "distribute", "package_id": package_id, "url": url, "sha256": sha256}


def test_secrets_come_out_nowhere(tmp_path: Path, origin: str) -> None:
    place = Place(tmp_path, origin)
    with place.daemon.ready() as daemon:
        assert daemon.process.stderr is not None
        fcntl.fcntl(daemon.process.stderr, fcntl.F_SETPIPE_SZ, 1 << 20)  # the log is read at the end
        _ask_rightly(place, origin)
        _ask_wrongly(place, origin)
        _look_at_everything(place)
        _signal(place)
        daemon.signal(signal.SIGTERM)
        _, rest = daemon.wait_ended()
    log = "\n".join(json.dumps(line, ensure_ascii=False) for line in daemon.log) + rest
    spool = b"".join(path.read_bytes() for path in daemon.state.glob("messages.db*")).decode("latin-1")
    everything = {"log": log, "spool": spool} | {f"answer {n} ({t[:60]})": t for n, t in enumerate(place.said)}
    assert "job.failed" in log.replace("job failed", "job.failed")
    leaks = {where: secret for where, text in everything.items() for secret in place.secrets if secret in text}
    around = {where: everything[where].partition(secret) for where, secret in leaks.items()}
    assert not leaks, {where: before[-300:] + secret + after[:100] for where, (before, secret, after) in around.items()}


def _ask_rightly(place: Place, origin: str) -> None:
    """The job goes on with its token, and nobody sees it."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    job = place.ask("POST", "/v1/jobs", _order(f"{origin}/lab.img?token={URL_TOKEN}", "LAB00001", sha256))
    assert job["options"] == {"url": f"{origin}/lab.img?…", "sha256": sha256}
    assert place.ended(job["id"])["state"] == "done"
    assert place.ask("GET", "/v1/content/LAB00001")["sha256"] == sha256
    by_token = place.ask("GET", "/v1/caller", authorization=f"Bearer {place.operator}")
    assert by_token == {"name": "token bea", "role": "operator", "door": "tcp"}
    assert place.ask("GET", "/v1/caller", authorization=f"Bearer {ADMIN_TOKEN}")["role"] == "admin"


def _ask_wrongly(place: Place, origin: str) -> None:
    failing = [
        _order(f"{origin}/none.img?token={URL_TOKEN}x", "LAB00002", "0" * 64),
        _order(f"{origin}/elsewhere?{URL_TOKEN}", "LAB00003", "0" * 64),
        _order(f"{origin}/lab.img?token={URL_TOKEN}", "LAB00004", "0" * 64),  # not what comes
        {"kind": "distribute", "package_id": "LAB00005"},
    ]
    for order in failing:
        job = place.ended(place.ask("POST", "/v1/jobs", order)["id"])
        assert job["state"] == "failed", job
        place.ask("POST", f"/v1/jobs/{job['id']}/retry")
    for url in (
        f"http://bea:{PASSWORD}@127.0.0.1/x",
        f"http://bea:{PASSWORD}/{PASSWORD}@127.0.0.1/x",
        f"http://bea:{PASSWORD}@[::1/x?{URL_TOKEN}",
        f"ftp://bea:{PASSWORD}@127.0.0.1/x",
        f"http:{PASSWORD}@/",
    ):
        refused = place.ask("POST", "/v1/jobs", _order(url, "LAB00009", "0" * 64))
        assert refused["error"]["code"] == "bad_request", refused
    for header in (f"Bearer {WRONG_TOKEN}", f"Basic {WRONG_TOKEN}", WRONG_TOKEN, f"Bearer {place.operator}x"):
        assert place.ask("GET", "/v1/status", authorization=header)["error"]["code"] == "unauthorized"
    for line in (f"Authorization: Bearer {WRONG_TOKEN}\0", f"X{WRONG_TOKEN}", f"X: {'x' * 10000}{WRONG_TOKEN}"):
        _send_no_http(place, f"GET /v1/status?token={WRONG_TOKEN} HTTP/1.1\r\nHost: dpd\r\n{line}\r\n\r\n")
    _send_no_http(place, f"GET /{WRONG_TOKEN}\1 HTTP/1.1\r\n\r\n")
    assert place.ask("GET", f"/v1/status?access_token={ADMIN_TOKEN}")["error"]["code"] == "bad_request"
    for body in (f'{{"url": "{WRONG_TOKEN}"'.encode(), {"token": WRONG_TOKEN}, f'"{WRONG_TOKEN}"'.encode()):
        assert place.ask("POST", "/v1/jobs", body)["error"]["code"] == "bad_request"


def _send_no_http(place: Place, text: str) -> None:
    """What aiohttp itself refuses, with a quotation for whoever sent it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(place.daemon.control_socket)
        connection.sendall(text.encode())
        assert b" 400 " in connection.recv(65536)


def _look_at_everything(place: Place) -> None:
    examples = {"package_id": "LAB00001", "job": "1", "source": "s3", "mac": "525400123456", "machine": "525400123456"}
    for route in ROUTES:
        if route.method == "GET" and route.placeholders <= set(examples) and "stream" not in route.path:
            place.ask("GET", route.path.format(**{name: examples[name] for name in route.placeholders}))
    events = place.ask("GET", "/v1/events?after=0")["events"]
    assert any(event["event"] == "job.failed" for event in events)


def _signal(place: Place) -> None:
    daemon = place.daemon
    daemon.signal(signal.SIGUSR1)
    daemon.wait_logged("status snapshot")
    good = daemon.config.read_text()
    for wrong in (f"https://bea:{PASSWORD}@mirror/x", f"https://mirror/x?token={URL_TOKEN}"):
        daemon.config.write_text(f'{good}\n[[distribution.source]]\nname = "web"\nurl = "{wrong}"\n')
        daemon.signal(signal.SIGHUP)
        told = daemon.wait_logged("settings kept as they were")["error"]
        assert "without a name, password or token in it" in told
    daemon.config.write_text(good)
    add_token(place.folder / "roles.toml", "cay", Role.VIEWER)
    (place.folder / "token").write_text("SECRET too short")
    daemon.signal(signal.SIGHUP)
    daemon.wait_logged("reloaded")
