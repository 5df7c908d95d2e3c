# SPDX-License-Identifier: Apache-2.0
"""What HTTP clients may ask for, and the answers.

Firmware sets the rules here: a length always and no chunks, no redirects, strong validators for a resume, names in any
case and with any number of slashes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from aiohttp import hdrs, web

from dpd.content.boot_files import BootFiles, explain_miss
from dpd.content.library import Content, Library
from dpd.content.manifest import MAX_SOURCE_VERSION
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, DpdError, MalformedMessage, SessionError
from dpd.protocol.http.conditions import Conditions, Representation, Selection, http_date, select
from dpd.protocol.multicast.geometry import Geometry
from dpd.service.connections import STALL_S, Connection, ConnectionStats, error_response, is_tls, send_extent
from dpd.service.doors import MulticastDoor, ProbeDoor
from dpd.service.leaf_source import LeafSource
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 65536
BODY_S = 30.0
RETRY_AFTER_S = 5

# UEFI firmware takes the kind of image from the media type or the suffix (UEFI 2.10, 24.7.3.5): both are given.
MEDIA_TYPES = {".efi": "application/efi", ".iso": "application/vnd.efi-iso", ".img": "application/vnd.efi-img"}

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class HttpStats(ConnectionStats):
    """What the HTTP service counts."""

    requests: dict[str, int] = counts("Requests by kind", "kind")
    responses: dict[str, int] = counts("Answers by status class", "class")
    ranges: int = counter("Answers that carried a part of a file")


class _Refusal(Exception):
    """A request that gets an error; carries the answer."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = error_response(status, code, message, headers)


def _refusal_of(error: DpdError) -> _Refusal:
    match error:
        case ContentNotFound():
            return _Refusal(404, "content_not_found", str(error))
        case SessionError():
            return _Refusal(409, "session_refused", str(error))
        case MalformedMessage():
            return _Refusal(400, "bad_request", str(error))
        case ContentError():
            return _Refusal(500, "content_corrupt", str(error))
    return _Refusal(500, "failed", str(error))


@dataclass(frozen=True, slots=True)
class _Served:
    """A file that a request found. `open` blocks and returns a descriptor."""

    kind: str
    name: str
    representation: Representation
    open: Callable[[], int]
    location: str = ""


class Routes:
    """What is asked for, and the answer. Disk and locks are in worker threads; an index look-up is inline."""

    def __init__(
        self,
        library: Library,
        boot_files: BootFiles,
        multicast: MulticastDoor | None,
        journal: BootJournal,
        stats: HttpStats,
        probe: ProbeDoor | None = None,
    ) -> None:
        self._library = library
        self._boot_files = boot_files
        self._multicast = multicast
        self._journal = journal
        self._stats = stats
        self._probe = probe
        self._leaves = LeafSource(library)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens; what is not our peer's fault is logged."""
        kind, methods, answer = self._route(request.path)
        bump(self._stats.requests, kind)
        try:
            _check_welcome(request, methods)
            response = await answer(request)
        except _Refusal as refusal:
            response = refusal.response
        except DpdError as error:
            response = _refusal_of(error).response
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("HTTP request failed", extra={"peer": request.remote, "kind": kind})
            response = error_response(500, "failed", "dpd failed to answer; its log tells why")
        bump(self._stats.responses, f"{response.status // 100}xx")
        return await _send(request, response)

    def _route(self, path: str) -> tuple[str, tuple[str, ...], Answer]:
        """Kind, methods and answer. Empty segments do not count: shim asks for //grubx64.efi."""
        read, write = (hdrs.METH_GET, hdrs.METH_HEAD), (hdrs.METH_POST,)
        match [segment for segment in path.split("/") if segment]:
            case ["content", package_id]:
                return "content", read, partial(self._send_content, package_id, None)
            case ["content", package_id, "manifest"]:
                return "manifest", read, partial(self._send_manifest, package_id, None)
            case ["content", package_id, version]:
                return "content", read, partial(self._send_content, package_id, version)
            case ["content", package_id, version, "manifest"]:
                return "manifest", read, partial(self._send_manifest, package_id, version)
            case ["content", package_id, version, "leaves", slab]:
                return "leaves", read, partial(self._send_leaves, package_id, version, slab)
            case ["mc", "sessions", package_id, "join"]:
                return "join", write, partial(self._join, package_id)
            case ["mc", "sessions", session_id, "progress"]:
                return "progress", write, partial(self._progress, session_id)
            case ["mc", "sessions", session_id, "complete"]:
                return "complete", write, partial(self._complete, session_id)
            case ["mc", "test"]:
                return "test", write, partial(self._test, "open", "")
            case ["mc", "test", test_id]:
                return "test", read, partial(self._test, "status", test_id)
            case ["mc", "test", test_id, ("run" | "result") as verb]:
                return "test", write, partial(self._test, verb, test_id)
            case ["healthz"]:
                return "other", read, _tell_health
            case segments:
                return "boot", read, partial(self._send_boot_file, segments)

    async def _send_boot_file(self, segments: list[str], request: web.BaseRequest) -> web.StreamResponse:
        """Below /boot, and below the root for loaders that forget where they came from; /boot/BCD may be boot/BCD."""
        name = "/".join(segments)
        short = name.removeprefix("boot/")
        file = self._boot_files.lookup(short) or self._boot_files.lookup(name)
        if file is None:
            self._tell(request, short, step="missing")
            raise _Refusal(404, "not_found", explain_miss(short))
        representation = Representation(f'"{file.etag}"', file.mtime_ns // 10**9, file.size_bytes)
        return await self._send_file(
            request, _Served("boot", file.name, representation, partial(self._boot_files.open, file))
        )

    async def _send_content(self, package_id: str, version: str | None, request: web.BaseRequest) -> web.StreamResponse:
        content = await asyncio.to_thread(self._library.find, package_id, _parse_version(version))
        return await self._send_file(request, self._served(content))

    def _served(self, content: Content) -> _Served:
        representation = Representation(f'"{content.sha256}"', int(content.added_at), content.size_bytes)
        location = f"/content/{content.package_id}/{content.source_version}"
        return _Served("content", content.name, representation, partial(self._library.open_blob, content), location)

    async def _send_manifest(
        self, package_id: str, version: str | None, request: web.BaseRequest
    ) -> web.StreamResponse:
        def read() -> bytes:
            return self._library.manifest(self._library.find(package_id, _parse_version(version)))

        return web.Response(body=await asyncio.to_thread(read), content_type="application/json")

    async def _send_leaves(
        self, package_id: str, version: str, slab: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Where a receiver's slab is damaged: a hash of each symbol, that it keeps the good ones."""
        content = await asyncio.to_thread(self._library.find, package_id, _parse_version(version))
        count = Geometry(content.size_bytes).slab_count
        if not (slab.isascii() and slab.isdigit() and len(slab) < 12 and int(slab) < count):
            message = f"{content} has slabs 0 to {count - 1}, and none called {slab[:40]!r}"
            raise _Refusal(404, "slab_not_found", message)
        leaves = await self._leaves.leaves(content, int(slab))
        if leaves is None:
            message = "too many wait for leaves of other slabs; try again soon, or fetch the slab itself"
            raise _Refusal(503, "leaves_busy", message, {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})
        return web.Response(body=leaves, content_type="application/octet-stream")

    async def _join(self, package_id: str, request: web.BaseRequest) -> web.StreamResponse:
        version = _parse_version(request.rel_url.query.get("source_version"))
        body = await _read_body(request)
        join = partial(self._open_door().join, is_secure=_is_secure(request))
        return web.json_response(await asyncio.to_thread(join, package_id, version, body, _address_of(request)))

    async def _progress(self, session_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await _read_body(request)
        return web.json_response(await asyncio.to_thread(self._open_door().progress, session_id, body))

    async def _complete(self, session_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await _read_body(request)
        return web.json_response(await asyncio.to_thread(self._open_door().complete, session_id, body))

    def _open_door(self) -> MulticastDoor:
        if self._multicast is None:
            raise SessionError("multicast is off here: [multicast] enabled = false in the settings")
        return self._multicast

    async def _test(self, verb: str, test_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await _read_body(request) if request.method == hdrs.METH_POST else {}
        door = self._probe_door()
        match verb:
            case "open":
                work = partial(door.open, body, _address_of(request))
            case "run":
                work = partial(door.run, test_id)
            case "result":
                work = partial(door.finish, test_id, body)
            case _:
                work = partial(door.status, test_id)
        return web.json_response(await asyncio.to_thread(work))

    def _probe_door(self) -> ProbeDoor:
        if self._probe is None:
            raise SessionError("multicast is off here: [multicast] enabled = false in the settings")
        return self._probe

    async def _send_file(self, request: web.BaseRequest, served: _Served) -> web.StreamResponse:
        body = request.method == hdrs.METH_GET
        selection = select(_conditions_of(request), served.representation, ranges=body)
        response = _file_response(served, selection)
        if body and selection.length:
            descriptor = await asyncio.to_thread(served.open)
            try:
                await self._send_body(request, response, served, selection, descriptor)
            finally:
                os.close(descriptor)
        return response

    async def _send_body(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        served: _Served,
        selection: Selection,
        descriptor: int,
    ) -> None:
        self._stats.ranges += selection.status == 206
        fields: dict[str, str | int] = {"kind": served.kind, "offset": selection.offset, "bytes": selection.length}
        self._tell(request, served.name, step="started", **fields)
        await _begin(request, response)
        try:
            await send_extent(request, descriptor, selection.offset, selection.length, self._stats)
        except (ConnectionError, asyncio.CancelledError) as error:
            self._tell(request, served.name, step="broken", reason=str(error), **fields)
            raise
        except ContentCorrupt as error:
            self._tell(request, served.name, step="broken", reason=str(error), **fields)
            log.error("file cannot be sent whole", extra={"file": served.name, "reason": str(error)})
            raise ConnectionResetError("cut") from None  # the head is out: there is no other way to tell the client
        self._tell(request, served.name, step="finished", **fields)

    def _tell(self, request: web.BaseRequest, file: str, *, step: str, **fields: str | int) -> None:
        """Into the machine's story, and into the log: one line for each download when it has ended."""
        peer = _address_of(request)
        self._journal.note_address(peer, "http", file=file, step=step, **fields)
        level = logging.DEBUG if step == "started" else logging.INFO
        log.log(level, "http download", extra={"peer": peer, "file": file, "step": step, **fields})


def _check_welcome(request: web.BaseRequest, methods: tuple[str, ...]) -> None:
    if isinstance(request.protocol, Connection) and request.protocol.over_limit:
        request.protocol.close()
        raise _Refusal(
            503,
            "too_many_connections",
            "as many connections as [http] max_connections allows are open; try again soon",
            {hdrs.RETRY_AFTER: str(RETRY_AFTER_S), hdrs.CONNECTION: "close"},
        )
    if request.method not in methods:
        allowed = ", ".join(methods)
        message = f"method {request.method} is not allowed here; allowed: {allowed}"
        raise _Refusal(405, "method_not_allowed", message, {hdrs.ALLOW: allowed})


async def _tell_health(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"status": "ok"})


def _file_response(served: _Served, selection: Selection) -> web.StreamResponse:
    """The head, with the validators by which a broken download can be taken up again."""
    size = served.representation.size_bytes
    headers: dict[str, str] = {
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.ETAG: served.representation.etag,
        hdrs.LAST_MODIFIED: http_date(served.representation.modified_s),
    }
    if selection.status == 412:
        raise _Refusal(
            412, "precondition_failed", f"{served.name} is not the one that If-Match or the date names", headers
        )
    if selection.status == 416:
        headers[hdrs.CONTENT_RANGE] = f"bytes */{size}"
        raise _Refusal(
            416, "range_not_satisfiable", f"{served.name} has {size} bytes; the range begins behind its end", headers
        )
    if served.location:
        headers[hdrs.CONTENT_LOCATION] = served.location
    if selection.status == 304:
        return web.StreamResponse(status=304, headers=headers)
    if selection.status == 206:
        headers[hdrs.CONTENT_RANGE] = f"bytes {selection.offset}-{selection.offset + selection.length - 1}/{size}"
    headers[hdrs.CONTENT_TYPE] = MEDIA_TYPES.get(os.path.splitext(served.name)[1].lower(), "application/octet-stream")
    response = web.StreamResponse(status=selection.status, headers=headers)
    response.content_length = selection.length
    return response


async def _begin(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.setdefault(hdrs.SERVER, "dpd")  # or aiohttp tells its own version and Python's
    await response.prepare(request)


async def _send(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """Send what is small, here and not in aiohttp, which would wait for ever for a client that does not read."""
    try:
        async with asyncio.timeout(STALL_S):
            await _begin(request, response)
            await response.write_eof()
    except TimeoutError:
        raise ConnectionResetError("the client does not read") from None
    return response


def _address_of(request: web.BaseRequest) -> str:
    """The client's address as DHCP knows it; a dual-stack listener shows IPv4 as ::ffff:192.0.2.1."""
    return (request.remote or "").removeprefix("::ffff:")


def _is_secure(request: web.BaseRequest) -> bool:
    """Whether the connection is TLS. The transport knows; a header such as X-Forwarded-Proto would be the client's word."""
    return request.transport is not None and is_tls(request.transport)


def _conditions_of(request: web.BaseRequest) -> Conditions:
    def field(name: str) -> str | None:
        lines = request.headers.getall(name, [])
        return ", ".join(lines) if lines else None

    return Conditions(
        if_match=field(hdrs.IF_MATCH),
        if_unmodified_since=field(hdrs.IF_UNMODIFIED_SINCE),
        if_none_match=field(hdrs.IF_NONE_MATCH),
        if_modified_since=field(hdrs.IF_MODIFIED_SINCE),
        if_range=field(hdrs.IF_RANGE),
        range=field(hdrs.RANGE),
    )


def _parse_version(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= MAX_SOURCE_VERSION:
        return int(text)
    expected = f"expected a whole number from 1 to {MAX_SOURCE_VERSION}"
    raise _Refusal(400, "bad_request", f'source_version = "{text[:40]}": {expected}')


async def _read_body(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object that a request carries; none is an empty one."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    text = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while chunk := await request.content.readany():
                text += chunk
                if len(text) > MAX_BODY_BYTES:
                    raise _Refusal(413, "body_too_large", f"the body has more than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise _Refusal(408, "request_timeout", f"the body did not come within {BODY_S:.0f} s") from None
    except web.RequestPayloadError as error:
        raise _Refusal(400, "bad_request", f"the body cannot be read: {error}") from None
    try:
        return msgspec.json.decode(bytes(text), type=dict[str, Any]) if text else {}
    except msgspec.MsgspecError as error:
        raise _Refusal(400, "bad_request", f"the body is no JSON object: {error}") from None
