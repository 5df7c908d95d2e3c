# SPDX-License-Identifier: Apache-2.0
"""What targets ask over HTTP, with the desk behind it: bodies, codes, pieces of captures, and secrets over TLS alone."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.content.wim_builder import make_wim
from tests.deployment.target_site import MAC, T, TargetSite, said
from tests.service.certificates import write_certificate

from dpd.content.boot_files import BootFiles
from dpd.sequence.exchange import MAX_LOG_BYTES, Hello, Reports, StepState, encode
from dpd.sequence.signed import read_signed
from dpd.service.boot_tree import BootTree
from dpd.service.http import target_routes
from dpd.service.http.doors import TargetDoor
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings
from dpd.site.records import Variable
from dpd.telemetry.journal import BootJournal

LOCAL = "127.0.0.1"


class Served:
    """The desk behind a listener, and a client."""

    def __init__(self, site: TargetSite, service: HttpService) -> None:
        self.site, self.service = site, service
        self.session = ""

    async def ask(self, method: str, path: str, body: Any = b"", *, tls: bool = False, **headers: str) -> tuple[int, Any]:  # fmt: skip
        """Status and JSON; `body` is sent as it is where it is bytes, else as JSON. Header names with _ for -."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await asyncio.to_thread(self._ask, method, path, content, tls, headers)

    def _ask(self, method: str, path: str, body: bytes, tls: bool, headers: dict[str, str]) -> tuple[int, Any]:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.session:
            said.setdefault("Authorization", f"Bearer {self.session}")
        if tls:
            context = ssl._create_unverified_context()  # whose certificate it is, is not what is tested
            client: http.client.HTTPConnection = http.client.HTTPSConnection(
                LOCAL, self.service.ports["https"], timeout=60, context=context
            )
        else:
            client = http.client.HTTPConnection(LOCAL, self.service.ports["http"], timeout=60)
        try:
            client.request(method, path, body, said)
            response = client.getresponse()
            return response.status, json.loads(response.read())
        finally:
            client.close()

    async def hello(self) -> dict[str, Any]:
        """Of a machine that was granted its boot."""
        hello = Hello(self.site.boot(address=LOCAL), (MAC,), "", "x64", "uefi", "0.1", "0" * 16)
        status, welcome = await self.ask("POST", "/target/hello", encode(hello))
        assert status == 200, welcome
        self.session = welcome["session"]
        found: dict[str, Any] = welcome
        return found

    async def begin(self) -> str:
        """The execution that it has taken."""
        welcome = await self.hello()
        body = {"deployment": welcome["offers"][0]["deployment"]}
        status, taken = await self.ask("POST", "/target/take", body)
        assert status == 200, taken
        return str(taken["execution"])


Serve = Callable[..., Awaitable[Served]]


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    with ExitStack() as stack:
        services: list[HttpService] = []

        async def served(certificate: bool = False, door: bool = True) -> Served:
            site = TargetSite(stack, tmp_path)
            site.deploy()
            tls = write_certificate(tmp_path) if certificate else ("", "")
            (tmp_path / "boot").mkdir()
            journal = BootJournal()
            target: TargetDoor | None = site.desk if door else None
            service = HttpService(
                HttpSettings(listen=LOCAL, port=0, tls_port=0, certificate=str(tls[0]), private_key=str(tls[1])),
                library=site.library,
                boot_tree=BootTree(BootFiles(tmp_path / "boot"), journal),
                multicast=None,
                journal=journal,
                target=target,
            )
            services.append(service)
            await service.start()
            return Served(site, service)

        yield served
        for each in services:
            await each.stop()


def code_of(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


async def test_a_machine_takes_its_sequence_and_tells_what_becomes_of_it(serve: Serve) -> None:
    served = await serve()
    welcome = await served.hello()
    assert (welcome["computer"], welcome["machine"], welcome["server_time"]) == ("PC1", "pc1", T)
    (offer,) = welcome["offers"]
    assert (offer["sequence"], offer["version"], offer["purpose"]) == ("debian", 3, "required")
    status, taken = await served.ask("POST", "/target/take", {"deployment": offer["deployment"]})
    assert (status, taken["variables"]) == (200, [])
    assert read_signed(taken["document"], served.site.library.public_key())[0].version == 3
    reports = said(taken["execution"], ("1", StepState.STARTED), ("1", StepState.RESTARTING))
    assert await served.ask("POST", "/target/report", encode(reports)) == (200, {"next": 3, "cancel": ""})
    served.session = ""
    body = {"execution": taken["execution"], "resume": taken["resume"]}
    status, again = await served.ask("POST", "/target/resume", body)
    assert (status, again["offers"]) == (200, [])
    served.session = again["session"]
    reports = said(taken["execution"], *[("1", StepState.STARTED)] * 2, ("", StepState.SEQUENCE_DONE))
    assert await served.ask("POST", "/target/report", encode(reports)) == (200, {"next": 4, "cancel": ""})
    assert served.site.store.runs.all()[0].finished_at


async def test_each_refusal_has_a_status_and_a_code(serve: Serve) -> None:
    served = await serve()
    hello = {"wire": 1, "proof": "0" * 32, "macs": [MAC], "guid": "", "arch": "x64", "firmware": "uefi", "agent": "", "boot": "0" * 16}  # fmt: skip
    assert code_of(await served.ask("POST", "/target/hello", hello)) == (403, "no_ticket")
    served.site.boot(address=LOCAL)
    assert code_of(await served.ask("POST", "/target/hello", hello)) == (403, "proof_wrong")
    assert code_of(await served.ask("POST", "/target/hello", hello | {"wire": 2})) == (400, "bad_request")
    assert code_of(await served.ask("POST", "/target/hello", b"{")) == (400, "bad_request")
    assert code_of(await served.ask("POST", "/target/hello", b" " * 70000)) == (413, "body_too_large")
    assert code_of(await served.ask("POST", "/target/take", {"deployment": 1})) == (401, "session_unknown")
    served.session = "00"
    assert code_of(await served.ask("POST", "/target/take", {"deployment": 1})) == (401, "session_unknown")
    resume = {"execution": "0" * 16, "resume": "0" * 64}
    assert code_of(await served.ask("POST", "/target/resume", resume)) == (403, "resume_wrong")
    await served.hello()
    assert code_of(await served.ask("POST", "/target/take", {"deployment": 99})) == (409, "not_offered")
    assert code_of(await served.ask("POST", "/target/report", encode(Reports("0" * 16, ())))) == (
        404,
        "execution_unknown",
    )
    assert code_of(await served.ask("POST", "/target/nothing")) == (404, "not_found")
    assert code_of(await served.ask("GET", "/target/hello")) == (405, "method_not_allowed")


async def test_a_sequence_of_a_newer_dpd_is_refused_for_good(serve: Serve) -> None:
    served = await serve()
    book = served.site.store.sequences
    newest, *_ = book.versions("debian")
    strange = newest.text.replace('do = "', 'do = "strange_', 1)
    book.by_name = {"debian": (replace(newest, text=strange),)}
    hello = Hello(served.site.boot(address=LOCAL), (MAC,), "", "x64", "uefi", "0.1", "0" * 16)
    status, answer = await served.ask("POST", "/target/hello", encode(hello))
    assert (status, answer["error"]["code"]) == (422, "sequence_damaged")
    assert "is this dpd older than the one that it was published at?" in answer["error"]["message"]


async def test_without_a_door_there_are_no_sequences(serve: Serve) -> None:
    served = await serve(door=False)
    assert code_of(await served.ask("POST", "/target/hello", {})) == (404, "no_sequences")


async def test_what_is_secret_is_given_over_tls_alone(serve: Serve) -> None:
    served = await serve(certificate=True)
    served.site.store.set_variable(Variable("PC1", "Pass", "hunter2", secret=True), "test")
    welcome = await served.hello()
    body = {"deployment": welcome["offers"][0]["deployment"]}
    status, refused = await served.ask("POST", "/target/take", body, X_Forwarded_Proto="https")
    assert (status, refused["error"]["code"]) == (403, "tls_required")
    assert "hunter2" not in json.dumps(refused)
    status, taken = await served.ask("POST", "/target/take", body, tls=True)
    assert (status, taken["variables"]) == (200, [{"name": "Pass", "value": "hunter2", "secret": True}])


async def test_a_log_is_text_of_bounded_length(serve: Serve) -> None:
    served = await serve()
    path = f"/target/log?execution={await served.begin()}"
    assert await served.ask("PUT", path, b"disk too small\n") == (200, {})
    assert served.site.logs.read(path.partition("=")[2]) == "disk too small\n"
    assert (await served.ask("PUT", path, b"x" * MAX_LOG_BYTES))[0] == 200
    assert code_of(await served.ask("PUT", path, b"x" * (MAX_LOG_BYTES + 1))) == (413, "body_too_large")
    assert code_of(await served.ask("PUT", "/target/log?execution=x", b"x")) == (404, "execution_unknown")


async def test_a_capture_comes_in_pieces_and_goes_on_where_it_broke_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_routes, "PIECE_BYTES", 1000)
    served, image = await serve(), make_wim()
    wish = {"execution": await served.begin(), "package_id": "LAB00009", "size_bytes": len(image)}
    status, place = await served.ask("POST", "/target/captures", wish)
    assert (status, place["offset"]) == (200, 0)
    path, size = f"/target/captures/{place['capture']}", len(image)

    async def put(start: int, end: int, said: str = "") -> tuple[int, Any]:
        span = said or f"bytes {start}-{end - 1}/{size}"
        return await served.ask("PUT", path, image[start:end], Content_Range=span)

    half = size // 2
    assert await put(0, half) == (200, {"offset": half, "capture": place["capture"]})
    assert await put(half + 10, size) == (200, {"offset": half, "capture": place["capture"]})  # a gap is not taken
    assert (await served.ask("POST", "/target/captures", wish))[1]["offset"] == half
    assert (await put(half - 10, size))[1]["offset"] == size
    for wrong in ("", "bytes 5-4/10", f"bytes 0-{size}/{size}", "bytes */10", f"bytes 0-9/{1 << 51}"):
        assert code_of(await put(0, 10, wrong or "items 0-9/10")) == (400, "bad_request")
    assert code_of(await put(0, 20, f"bytes 0-9/{size}")) == (400, "bad_request")
    status, captured = await served.ask("POST", f"{path}/finish", {"sha256": hashlib.sha256(image).hexdigest()})
    assert (status, captured) == (200, {"package_id": "LAB00009", "source_version": 1})
    assert code_of(await served.ask("PUT", "/target/captures/none", b"x", Content_Range="bytes 0-0/1")) == (
        404,
        "capture_unknown",
    )


async def test_a_capture_that_is_no_image_is_refused_for_good_and_not_sent_again_and_again(serve: Serve) -> None:
    served, junk = await serve(), b"no image " * 100
    wish = {"execution": await served.begin(), "package_id": "LAB00009", "size_bytes": len(junk)}
    path = f"/target/captures/{(await served.ask('POST', '/target/captures', wish))[1]['capture']}"
    await served.ask("PUT", path, junk, Content_Range=f"bytes 0-{len(junk) - 1}/{len(junk)}")
    answer = await served.ask("POST", f"{path}/finish", {"sha256": hashlib.sha256(junk).hexdigest()})
    assert code_of(answer) == (422, "image_wrong")
    assert "for LAB00009: no WIM: starts with" in json.dumps(answer[1])


async def test_a_capture_that_stalls_is_not_awaited_for_ever(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_routes, "STALL_S", 0.05)
    served = await serve()
    wish = {"execution": await served.begin(), "package_id": "LAB00009", "size_bytes": 1000}
    _, place = await served.ask("POST", "/target/captures", wish)
    head = f"PUT /target/captures/{place['capture']} HTTP/1.1\r\nHost: dp\r\nContent-Length: 1000\r\nAuthorization: Bearer {served.session}\r\nContent-Range: bytes 0-999/1000\r\n\r\nhalf"
    reader, writer = await asyncio.open_connection(LOCAL, served.service.ports["http"])
    writer.write(head.encode())
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_more_than_the_disk_may_take_is_told(serve: Serve) -> None:
    served = await serve()
    wish = {"execution": await served.begin(), "package_id": "LAB00009", "size_bytes": 1 << 31}
    assert code_of(await served.ask("POST", "/target/captures", wish)) == (409, "deployment_refused")
