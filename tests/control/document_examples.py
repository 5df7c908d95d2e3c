# SPDX-License-Identifier: Apache-2.0
"""A dpd that runs, asked by schemathesis whatever its own OpenAPI document allows, and what it forbids: it is never to fail,
and to answer nothing that the document does not tell.

DPD_API_EXAMPLES says how many requests of each kind (allowed, forbidden) every operation gets; a failure prints the request
as a curl command.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis.generation.case import Case
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.daemon_process import DaemonProcess
from tests.nats_server import free_port

from dpd.control.access.listener import MAX_TARGET_BYTES
from dpd.control.api.openapi import JSON, Route

EXAMPLES = int(os.environ.get("DPD_API_EXAMPLES", "4"))
TOKEN = "t" * 20
TIMEOUT_S = 60.0
WITHOUT_END = "text/event-stream"
# Such as is there, or could be.
THERE: dict[str, Any] = {
    "package_id": "LAB00001",
    "source_version": 1,
    "computer": "PC-1",
    "collection": "lab",
    "point": "p1",
    "dp": "p1",
    "dp_group": "g1",
    "group": "g1",
    "name": "p1",
    "deployment": 1,
    "job": 1,
    "root": 0,
    "mac": "52:54:00:12:34:56",
    "machine": "52:54:00:12:34:56",
    "macs": ["52:54:00:12:34:57"],
    "guid": "",
    "boot_image": "",
    "target": "all",
    "purpose": "available",
    "network": "10.1.0.0/16",
    "points": ["p1"],
    "address": "10.1.2.3",
    "computers": ["PC-1"],
    "reason": "",
}
FILES = frozenset({"path", "repository", "sdi", "ca_file", "files"})


@schemathesis.serializer("text/csv", "application/x-tar", "application/toml")
def _as_text(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


class Api:
    """The daemon, its address, and its document as schemathesis reads it."""

    def __init__(self, folder: Path, daemon: DaemonProcess, port: int) -> None:
        self.folder = folder
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"
        self.log = Drained(daemon)
        self.is_changed = True
        self.answers: Counter[int] = Counter()
        document = self.ask("GET", "/openapi.json")
        self.paths = document["paths"]
        self.schema = schemathesis.openapi.from_dict(document)
        self.schema.config.update(base_url=self.base)

    @staticmethod
    def open_tcp(folder: Path, daemon: DaemonProcess) -> int:
        """Let the daemon listen on TCP too; the port."""
        port = free_port()
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        control = f'[control]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{folder}/token"\n'
        daemon.config.write_text(daemon.config.read_text().replace("[control]\n", control))
        return port

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.session.request(method, self.base + path, json=body, timeout=TIMEOUT_S)
        assert reply.status_code == 200, reply.text
        return reply.json() if reply.headers["Content-Type"].startswith(JSON) else reply.text

    def fill(self) -> None:
        """Something of each kind is there, and content is taken and handed out."""
        if not self.is_changed:
            return
        self.is_changed = False
        for path in ("/v1/maintenance", "/v1/pxe/maintenance"):
            self._maybe("PATCH", path, {"reason": ""})
        image = self.folder / "lab.img"
        image.write_bytes(b"an image\n" * 1000)
        self._maybe("POST", "/v1/content", {"path": str(image), "package_id": "LAB00001"})
        for path, body in (
            ("/v1/computers", {"name": "PC-1", "macs": ["52:54:00:12:34:56"]}),
            ("/v1/collections", {"name": "lab"}),
            ("/v1/variables", {"target": "collection:lab", "name": "Zone", "value": "Berlin"}),
            ("/v1/points", {"name": "p1", "groups": ["g1"]}),
            ("/v1/deployments", {"target": "collection:lab", "purpose": "available"}),
        ):
            self._maybe("POST", path, body)

    def _maybe(self, method: str, path: str, body: Any) -> None:
        """It may be there already; a site server has no content."""
        if method.lower() in self.paths.get(path, {}):
            self.session.request(method, self.base + path, json=body, timeout=TIMEOUT_S)

    def send(self, case: Case[Any]) -> None:
        """Ask, and hold the answer against the document."""
        self._keep_in_folder(case)
        target = requests.Request(case.method, self.base, params=case.query or {}).prepare().path_url
        if len(target) > MAX_TARGET_BYTES - 2000:
            return  # aiohttp says no, before anything of dpd's
        self.is_changed |= case.method != "GET"
        response = case.call(session=self.session, timeout=TIMEOUT_S)
        self.answers[response.status_code] += 1
        checks = [
            _never_fails,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            response_headers_conformance,
        ]
        if case.media_type in (None, JSON) and response.status_code != 413:
            checks.append(negative_data_rejection)
        case.validate_response(response, checks=checks)

    def _keep_in_folder(self, case: Case[Any]) -> None:
        """The daemon may be root: no path leads out of the test's folder. And nobody waits for events for minutes."""
        if isinstance(case.body, dict):
            case.body = {name: self._kept(name, value) for name, value in case.body.items()}
        if case.query and "wait_s" in case.query:
            case.query["wait_s"] = _short(case.query["wait_s"])

    def _kept(self, name: str, value: Any) -> Any:
        if name in FILES and isinstance(value, str) and value.startswith("/"):
            return str(self.folder) + value.replace("..", "__")
        return [self._kept(name, each) for each in value] if isinstance(value, list) else value


class Drained:
    """Reads a daemon's log, so that it never waits for a reader; keeps what tells of a fault."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.faults: list[bytes] = []
        self.lines: list[bytes] = []
        self._log = daemon.process.stderr
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """When the process has ended: wait for its last line."""
        self._thread.join(TIMEOUT_S)

    def _read(self) -> None:
        assert self._log is not None
        for line in self._log:
            self.lines.append(line)
            if b'"exception":' in line:
                self.faults.append(line)


def _short(wait_s: Any) -> Any:
    try:
        return min(float(wait_s), 0.01)
    except (TypeError, ValueError):
        return wait_s


def _never_fails(context: Any, response: Any, case: Case[Any]) -> None:
    """No fault of ours; "not now", "no room" and "no source has it" are answers, where the document has them."""
    if response.status_code >= 500:
        code = response.json()["error"]["code"]
        assert code in ("unavailable", "library_full", "source_unavailable", "bus_unavailable", "bus_failed"), (
            response.text
        )


def ask_examples(api: Api, cases: Any, names: st.SearchStrategy[frozenset[str]], examples: int) -> None:
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(cases, names)
    def ask(case: Case[Any], there: frozenset[str]) -> None:
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                place.update({name: THERE[name] for name in there if name in place})
        if not _is_mended(case, there):
            api.send(case)

    ask()


def _is_mended(case: Case[Any], there: frozenset[str]) -> bool:
    """Whether all that was wrong with the request was in the place of what is there."""
    if case.meta is None:
        return False
    data = case.meta.phase.data
    wrong = {data.parameter, *(each.parameter for each in data.mutations)} - {None}
    return bool(wrong) and wrong <= there


def hold_to_document(api: Api, route: Route, examples: int = EXAMPLES, always: frozenset[str] = frozenset()) -> None:
    """Ask for one operation in many ways, of what is there `always` those. Raises where an answer is a fault, or not what the
    document tells."""
    api.fill()
    operation = api.schema[route.path][route.method]
    allowed = operation.as_strategy(schemathesis.GenerationMode.POSITIVE)
    forbidden = operation.as_strategy(schemathesis.GenerationMode.NEGATIVE)
    likely = st.sets(st.sampled_from(sorted(THERE))).map(always.union)
    ask_examples(api, allowed, likely, examples)
    if route.parameters is not None or route.body is not None or route.upload_type:
        ask_examples(api, forbidden, st.just(always), examples)
    assert api.log.faults == []


def has_end(route: Route) -> bool:
    """It is no stream of events."""
    return route.reply_type != WITHOUT_END
