# SPDX-License-Identifier: Apache-2.0
"""What clients get for what they ask, on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.service.http_site import (
    IMAGE,
    LARGE_BYTES,
    LOADER,
    MAC,
    Site,
    opened_site,
    read_all,
)

from dpd.content.boot_files import BootFiles
from dpd.content.manifest import decode_signed
from dpd.service.boot_tree import BootTree
from dpd.service.http import connections, request_body
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        yield site


class TestFiles:
    async def test_content_comes_whole_with_its_hash_as_validator(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001")
        assert (status, body) == (200, IMAGE)
        assert headers["ETag"] == f'"{hashlib.sha256(IMAGE).hexdigest()}"'
        assert headers["Content-Length"] == str(len(IMAGE))
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Location"] == "/content/LAB00001/3"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Last-Modified"].endswith("GMT")
        assert headers["Server"] == "dpd"
        assert "Transfer-Encoding" not in headers

    async def test_a_version_is_asked_by_its_number(self, site: Site) -> None:
        assert (await site.ask("/content/LAB00001/3"))[2] == IMAGE
        assert (await site.ask("/content/LAB00001/4"))[0] == 404
        status, _, body = await site.ask("/content/LAB00001/new")
        assert status == 400
        assert json.loads(body)["error"] == {
            "code": "bad_request",
            "message": 'source_version = "new": expected a whole number from 1 to 2147483647',
        }

    async def test_head_tells_what_get_would(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", method="HEAD", Range="bytes=5-9")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(IMAGE)))
        _, of_get, _ = await site.ask("/content/LAB00001")
        del headers["Date"], of_get["Date"]
        assert headers.items() == of_get.items()

    async def test_a_range_is_a_part(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", Range="bytes=1000-2001000")
        assert (status, body) == (206, IMAGE[1000:2001001])
        assert headers["Content-Range"] == f"bytes 1000-2001000/{len(IMAGE)}"
        assert headers["Content-Length"] == "2000001"

    async def test_the_end_is_a_suffix(self, site: Site) -> None:
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=-7")
        assert (status, body) == (206, IMAGE[-7:])

    async def test_a_list_of_ranges_gets_the_whole(self, site: Site) -> None:
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=0-1,5-6")
        assert (status, body) == (200, IMAGE)

    async def test_behind_the_end_is_nothing(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", Range=f"bytes={len(IMAGE)}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(IMAGE)}")
        assert json.loads(body)["error"]["code"] == "range_not_satisfiable"

    async def test_a_resume_goes_on_only_with_the_same_bytes(self, site: Site) -> None:
        etag = f'"{hashlib.sha256(IMAGE).hexdigest()}"'
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=100-", If_Range=etag)
        assert (status, body) == (206, IMAGE[100:])
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=100-", If_Range='"of another image"')
        assert (status, body) == (200, IMAGE)

    async def test_firmware_resumes_by_if_match(self, site: Site) -> None:
        assert (await site.ask("/content/LAB00001", Range="bytes=1-", If_Match='"other"'))[0] == 412

    async def test_what_the_client_has_is_not_sent_and_the_connection_stays(self, site: Site) -> None:
        _, headers, _ = await site.ask("/grubx64.efi")
        again = f"GET /grubx64.efi HTTP/1.1\r\nHost: dp\r\nIf-None-Match: {headers['ETag']}\r\n\r\n".encode()
        last = b"HEAD /grubx64.efi HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n\r\n"
        heads = (await site.talk(again + last)).split(b"\r\n\r\n")
        assert heads[0].startswith(b"HTTP/1.1 304 Not Modified\r\n")
        assert b"content-length" not in heads[0].lower()
        assert heads[1].startswith(b"HTTP/1.1 200 OK\r\n")

    @pytest.mark.parametrize(
        "path",
        [
            "/boot/grubx64.efi",
            "//grubx64.efi",  # shim, loaded from the root
            "/boot//grubx64.efi",
            "//boot///GRUBX64.EFI",
            "/boot/grubx64.efi?mac=52:54:00:00:00:01",
            "/boot/grubx64%2Eefi",
        ],
    )
    async def test_boot_files_by_any_spelling(self, site: Site, path: str) -> None:
        status, headers, body = await site.ask(path)
        assert (status, body) == (200, LOADER)
        assert headers["Content-Type"] == "application/efi"

    @pytest.mark.parametrize("path", ["/Boot/BCD", "/boot/BCD", "/boot/boot/bcd", "/boot/Boot%5CBCD", "/%5CBoot%5CBCD"])
    async def test_windows_spellings(self, site: Site, path: str) -> None:
        assert (await site.ask(path))[2] == b"hive"

    @pytest.mark.parametrize(
        ("name", "media_type"), [("large.iso", "application/vnd.efi-iso"), ("empty.img", "application/vnd.efi-img")]
    )
    async def test_firmware_is_told_the_kind_of_image(self, site: Site, name: str, media_type: str) -> None:
        _, headers, _ = await site.ask(f"/boot/{name}", method="HEAD")
        assert headers["Content-Type"] == media_type

    async def test_an_empty_file_is_empty(self, site: Site) -> None:
        status, headers, body = await site.ask("/empty.img")
        assert (status, headers["Content-Length"], body) == (200, "0", b"")

    @pytest.mark.parametrize(
        "path",
        ["/boot/../secret", "/..%2fsecret", "/%2e%2e/secret", "/boot/..%5csecret", "/", "/boot/", "/boot/" + "x" * 999],
    )
    async def test_nothing_else_is_served(self, site: Site, path: str) -> None:
        status, _, body = await site.ask(path)
        assert status == 404
        assert json.loads(body)["error"]["code"] in ("not_found", "bad_name")

    async def test_a_file_that_changed_since_it_was_indexed_is_refused(self, site: Site) -> None:
        (site.directory / "boot" / "grubx64.efi").write_bytes(b"half a copy")
        status, _, body = await site.ask("/grubx64.efi")
        assert status == 500
        assert "reload" in json.loads(body)["error"]["message"]

    async def test_a_removed_image_still_arrives_where_it_was_begun(self, site: Site) -> None:
        os.link(site.directory / "boot" / "large.iso", site.directory / "large")
        site.library.publish(site.directory / "large", "LARGE")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /content/LARGE HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        site.library.remove("LARGE")
        assert await read_all(reader) == LARGE_BYTES
        writer.close()


class TestManifestAndSessions:
    async def test_the_manifest_is_signed_and_of_this_version(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001/3/manifest")
        manifest = decode_signed(body, site.library.public_key())
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert (manifest.package_id, manifest.source_version, manifest.size_bytes) == ("LAB00001", 3, len(IMAGE))

    async def test_files_of_a_folder_are_asked_by_path(self, site: Site) -> None:
        folder = site.directory / "drivers"
        (folder / "net card").mkdir(parents=True)
        (folder / "net card" / "ä.inf").write_bytes(b"[Version]")
        (folder / "empty").touch()
        site.library.publish(folder, "DRV1")
        status, headers, body = await site.ask("/content/DRV1/1/files/net%20card/%C3%A4.inf")
        assert (status, body, headers["ETag"]) == (200, b"[Version]", f'"{hashlib.sha256(b"[Version]").hexdigest()}"')
        status, _, body = await site.ask("/content/DRV1/1/files/net%20card/%C3%A4.inf", Range="bytes=1-3")
        assert (status, body) == (206, b"Ver")
        assert (await site.ask("/content/DRV1/1/files/empty"))[::2] == (200, b"")
        for path in ("none", "net%20card", "../drivers/empty", "net%20card/..%2Fempty"):
            status, _, body = await site.ask(f"/content/DRV1/1/files/{path}")
            assert (status, json.loads(body)["error"]["code"]) == (404, "content_not_found")

    @pytest.mark.parametrize("path", ["DRV1", "DRV1/1", "DRV1/1/manifest", "DRV1/1/leaves/0"])
    async def test_a_folder_is_no_file(self, site: Site, path: str) -> None:
        folder = site.directory / "drivers"
        folder.mkdir()
        (folder / "a").touch()
        site.library.publish(folder, "DRV1")
        status, _, body = await site.ask(f"/content/{path}")
        assert (status, json.loads(body)["error"]["code"]) == (409, "several_files")

    async def test_no_manifest_without_content(self, site: Site) -> None:
        status, _, body = await site.ask("/content/OTHER/1/manifest")
        assert (status, json.loads(body)["error"]["code"]) == (404, "content_not_found")

    async def test_join_passes_what_it_was_told(self, site: Site) -> None:
        path = "/mc/sessions/LAB00001/join"
        status, _, body = await site.ask(f"{path}?source_version=3", method="POST", body=b'{"member": "a1"}')
        assert (status, json.loads(body)) == (200, {"session_id": "s1", "group": "239.192.0.1"})
        await site.ask(path, method="POST", body=b'{"member": "a2"}')
        assert site.door.asked == [
            ("LAB00001", 3, {"member": "a1"}, "127.0.0.1"),
            ("LAB00001", None, {"member": "a2"}, "127.0.0.1"),
        ]

    async def test_progress(self, site: Site) -> None:
        status, _, body = await site.ask("/mc/sessions/s1/progress", method="POST", body=b'{"verified": "01"}')
        assert (status, json.loads(body)) == (200, {"heard": {"verified": "01"}})

    async def test_complete(self, site: Site) -> None:
        status, _, body = await site.ask("/mc/sessions/s1/complete", method="POST", body=b"{}")
        assert (status, json.loads(body)) == (200, {"ok": True})

    @pytest.mark.parametrize(
        ("path", "body", "status", "code", "message"),
        [
            ("UNKNOWN/join", b"{}", 404, "content_not_found", "UNKNOWN"),
            ("P/join", b"", 400, "bad_request", "member: is missing"),
            ("P/join", b"[1]", 400, "bad_request", "Expected `object`"),
            ("P/join", b"{", 400, "bad_request", "no JSON object"),
            ("P/join", b"\xff", 400, "bad_request", "no JSON object"),
            ("P/join?source_version=-1", b"{}", 400, "bad_request", 'source_version = "-1"'),
            ("P/join", b" " * 65537, 413, "body_too_large", "65536"),
            ("s2/progress", b"{}", 409, "session_refused", "no session s2"),
            ("s2/complete", b"{}", 409, "session_refused", "no session s2"),
        ],
    )
    async def test_refusals(self, site: Site, path: str, body: bytes, status: int, code: str, message: str) -> None:
        answered, _, text = await site.ask(f"/mc/sessions/{path}", method="POST", body=body)
        error = json.loads(text)["error"]
        assert (answered, error["code"]) == (status, code)
        assert message in error["message"]

    @pytest.mark.parametrize(
        ("path", "method"), [("", "POST"), ("/1a", "GET"), ("/1a/run", "POST"), ("/1a/result", "POST")]
    )
    async def test_network_tests_are_refused_where_multicast_is_off(self, site: Site, path: str, method: str) -> None:
        """`tests/target/network_test/test_mc_test.py` has them answered."""
        status, _, body = await site.ask(f"/mc/test{path}", method=method, body=b"{}" if method == "POST" else None)
        assert status == 409
        assert "[multicast] enabled = false" in json.loads(body)["error"]["message"]
        wrong = "POST" if method == "GET" else "GET"
        assert (await site.ask(f"/mc/test{path}", method=wrong))[0] == 405

    async def test_a_client_that_waits_for_100_continue_is_not_left_waiting(self, site: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = "POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: dp\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()

    async def test_a_body_that_does_not_come_is_not_awaited_for_ever(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request_body, "BODY_S", 0.05)
        monkeypatch.setattr(connections, "LINGER_S", 0.05)
        answer = await site.talk(b"POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: dp\r\nContent-Length: 9\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")

    async def test_without_multicast_joining_is_refused(self, site: Site) -> None:
        boot_tree = BootTree(BootFiles(site.directory / "boot"), site.journal)
        service = HttpService(
            HttpSettings(listen="127.0.0.1", port=0),
            library=site.library,
            boot_tree=boot_tree,
            multicast=None,
            journal=site.journal,
        )
        await service.start()
        other = Site(service, site.library, site.directory, site.journal, site.door)
        status, _, body = await other.ask("/mc/sessions/LAB00001/join", method="POST", body=b"{}")
        assert (status, json.loads(body)["error"]["code"]) == (409, "session_refused")
        await service.stop()


class TestOthers:
    async def test_health(self, site: Site) -> None:
        status, _, body = await site.ask("/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/content/LAB00001", "GET, HEAD"),
            ("GET", "/mc/sessions/s1/join", "POST"),
            ("DELETE", "/", "GET, HEAD"),
        ],
    )
    async def test_other_methods(self, site: Site, method: str, path: str, allowed: str) -> None:
        status, headers, _ = await site.ask(path, method=method)
        assert (status, headers["Allow"]) == (405, allowed)

    async def test_what_is_counted(self, site: Site) -> None:
        await site.ask("/content/LAB00001", Range="bytes=0-99")
        await site.ask("/grubx64.efi")
        await site.ask("/missing")
        await site.ask("/healthz")
        await site.service.drain()
        stats = site.service.stats
        assert stats.requests == {"content": 1, "boot": 2, "other": 1}
        assert stats.responses == {"2xx": 3, "4xx": 1}
        assert (stats.sent_bytes, stats.ranges, stats.downloads) == (100 + len(LOADER), 1, 0)

    async def test_a_machines_story_tells_what_it_fetched(self, site: Site) -> None:
        await site.ask("/boot/GRUBX64.efi")
        await site.ask("/boot/revocations.efi")
        await site.ask("/content/LAB00001", method="HEAD")
        await site.service.drain()
        whole = {"kind": "boot", "offset": 0, "bytes": len(LOADER)}
        assert [(event.event, event.fields) for event in site.journal.story(MAC)] == [
            ("http", {"file": "grubx64.efi", "step": "started", **whole}),
            ("http", {"file": "grubx64.efi", "step": "finished", **whole}),
            ("http", {"file": "revocations.efi", "step": "missing"}),
        ]
