# SPDX-License-Identifier: Apache-2.0
"""What HTTP clients may ask for, and the answers.

Firmware sets the rules here: a length always and no chunks, no redirects, strong validators for a resume, names in any
case and with any number of slashes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import hdrs, web

from dpd.content.library import Content, Library
from dpd.content.manifest import MAX_SOURCE_VERSION
from dpd.errors import ContentError, ContentNotFound, DpdError, MalformedMessage, SessionError
from dpd.protocol.http.conditions import Representation
from dpd.protocol.multicast.geometry import Geometry
from dpd.service.boot_tree import TICKET_DENIALS, BootTree, Denial, NotServed
from dpd.service.http.connections import STALL_S, Connection, error_response
from dpd.service.http.doors import FetchDoor, MulticastDoor, ProbeDoor, TargetDoor
from dpd.service.http.file_answers import FileAnswers, HttpStats, Refusal, Served, address_of, begin, is_secure
from dpd.service.http.leaf_source import LeafSource
from dpd.service.http.miss_answers import MissAnswers
from dpd.service.http.repository_routes import RepositoryAnswers
from dpd.service.http.request_body import read_object
from dpd.service.http.target_routes import TargetAnswers
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
CLOSED_S = 60  # when to ask again in maintenance
CONTENT_KINDS = frozenset({"content", "manifest", "leaves", "repository", "join"})
SCRIPT_NAME = "boot.ipxe"  # what an iPXE is told to fetch

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _refusal_of(error: DpdError) -> Refusal:
    match error:
        case ContentNotFound():
            return Refusal(404, "content_not_found", str(error))
        case SessionError():
            return Refusal(409, "session_refused", str(error))
        case MalformedMessage():
            return Refusal(400, "bad_request", str(error))
        case ContentError():
            return Refusal(500, "content_corrupt", str(error))
    return Refusal(500, "failed", str(error))


class Routes:
    """What is asked for, and the answer. Disk and locks are in worker threads; an index look-up is inline."""

    def __init__(
        self,
        library: Library,
        boot_tree: BootTree,
        multicast: MulticastDoor | None,
        journal: BootJournal,
        stats: HttpStats,
        probe: ProbeDoor | None = None,
        fetch: FetchDoor | None = None,
        closed: Callable[[], str] = lambda: "",
        target: TargetDoor | None = None,
    ) -> None:
        """`closed` tells why no content is given out now; "" where it is."""
        self._closed = closed
        self._library = library
        self._boot_tree = boot_tree
        self._multicast = multicast
        self._stats = stats
        self._files = FileAnswers(journal, stats)
        self._probe = probe
        self._leaves = LeafSource(library)
        self._repository = RepositoryAnswers(library, self._files, fetch)
        self._targets = TargetAnswers(target)
        self._misses = MissAnswers(library, fetch, stats) if fetch is not None else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens; what is not our peer's fault is logged."""
        kind, methods, answer = self._route(request.path)
        bump(self._stats.requests, kind)
        try:
            _check_welcome(request, methods)
            if kind in CONTENT_KINDS and (reason := self._closed()):
                raise Refusal(503, "maintenance", f"maintenance: {reason}", {hdrs.RETRY_AFTER: str(CLOSED_S)})
            response = await answer(request)
        except Refusal as refusal:
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
            case ["content", package_id, version, "files", *parts] if parts:
                return "content", read, partial(self._send_file, package_id, version, "/".join(parts))
            case ["repository", *_] as segments:
                return "repository", read, partial(self._repository.send, "/".join(segments))
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
            case ["target", *verbs]:
                methods, answer = self._targets.find(verbs)
                return "target", methods, answer
            case ["boot", "pin"]:
                return "pin", (hdrs.METH_GET,), self._enter_pin
            case ["healthz"]:
                return "other", read, _tell_health
            case segments:
                return "boot", read, partial(self._send_boot_file, segments)

    async def _send_boot_file(self, segments: list[str], request: web.BaseRequest) -> web.StreamResponse:
        """Below /boot, and below the root for loaders that forget where they came from; /boot/BCD may be boot/BCD."""
        name = "/".join(segments)
        short, address = name.removeprefix("boot/"), address_of(request)
        find = self._boot_tree.find
        found = find(short, address)
        if isinstance(found, NotServed) and short != name and found.reason is Denial.NOT_FOUND:
            found = find(name, address)
        if isinstance(found, NotServed):
            self._files.tell(request, short, step="missing" if found.reason is Denial.NOT_FOUND else "refused")
            bump(self._stats.refused_files, found.reason.value)
            raise Refusal(403 if found.reason in TICKET_DENIALS else 404, found.reason.value, found.message)
        representation = Representation(f'"{found.etag}"', found.mtime_ns // 10**9, found.size_bytes)
        on_sent = partial(self._boot_tree.sent, found, address)
        served = Served("boot", found.name, representation, found.open, on_sent=on_sent, sha256=found.sha256)
        return await self._files.send(request, served)

    async def _enter_pin(self, request: web.BaseRequest) -> web.StreamResponse:
        """A machine that waits sends what was typed at it; whatever it was, the answer is the script it has now."""
        self._boot_tree.enter_pin(address_of(request), request.rel_url.query.get("pin", ""))
        return await self._send_boot_file(["boot", SCRIPT_NAME], request)

    async def _send_content(self, package_id: str, version: str | None, request: web.BaseRequest) -> web.StreamResponse:
        number = _parse_version(version)
        try:
            content = await asyncio.to_thread(self._library.find, package_id, number)
        except ContentNotFound:
            found = None if self._misses is None else await self._misses.find(package_id, number, request)
            if found is None:
                raise
            if not isinstance(found, Content):
                assert self._misses is not None
                return await self._misses.send(found, request)
            content = found
        return await self._files.send(request, self._served(content))

    async def _send_file(
        self, package_id: str, version: str, path: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        """One file of a folder or a split WIM."""

        def find() -> Served:
            content = self._library.find(package_id, _parse_version(version))
            blob = self._library.file(content, path)
            representation = Representation(f'"{blob.sha256}"', int(content.added_at), blob.size_bytes)
            name = path.rpartition("/")[2]
            return Served("content", name, representation, lambda: self._library.open_file(content, path)[0])

        return await self._files.send(request, await asyncio.to_thread(find))

    def _served(self, content: Content) -> Served:
        """Raises Refusal for content of several files."""
        if not content.is_one_file:
            message = f"{content} is a {content.format} of {content.file_count} files; ask for /content/{content.package_id}/{content.source_version}/files/ and a path"
            raise Refusal(409, "several_files", message)
        representation = Representation(f'"{content.sha256}"', int(content.added_at), content.size_bytes)
        location = f"/content/{content.package_id}/{content.source_version}"
        return Served("content", content.name, representation, partial(self._library.open_blob, content), location)

    async def _send_manifest(
        self, package_id: str, version: str | None, request: web.BaseRequest
    ) -> web.StreamResponse:
        def read() -> bytes:
            content = self._library.find(package_id, _parse_version(version))
            if not content.is_one_file:
                raise Refusal(409, "several_files", f"{content} has {content.file_count} files, and no slab manifest")
            return self._library.manifest(content)

        return web.Response(body=await asyncio.to_thread(read), content_type="application/json")

    async def _send_leaves(
        self, package_id: str, version: str, slab: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Where a receiver's slab is damaged: a hash of each symbol, that it keeps the good ones."""
        content = await asyncio.to_thread(self._library.find, package_id, _parse_version(version))
        self._served(content)
        count = Geometry(content.size_bytes).slab_count
        if not (slab.isascii() and slab.isdigit() and len(slab) < 12 and int(slab) < count):
            message = f"{content} has slabs 0 to {count - 1}, and none called {slab[:40]!r}"
            raise Refusal(404, "slab_not_found", message)
        leaves = await self._leaves.leaves(content, int(slab))
        if leaves is None:
            message = "too many wait for leaves of other slabs; try again soon, or fetch the slab itself"
            raise Refusal(503, "leaves_busy", message, {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})
        return web.Response(body=leaves, content_type="application/octet-stream")

    async def _join(self, package_id: str, request: web.BaseRequest) -> web.StreamResponse:
        version = _parse_version(request.rel_url.query.get("source_version"))
        body = await read_object(request)
        join = partial(self._open_door().join, is_secure=is_secure(request))
        return web.json_response(await asyncio.to_thread(join, package_id, version, body, address_of(request)))

    async def _progress(self, session_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await read_object(request)
        return web.json_response(await asyncio.to_thread(self._open_door().progress, session_id, body))

    async def _complete(self, session_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await read_object(request)
        return web.json_response(await asyncio.to_thread(self._open_door().complete, session_id, body))

    def _open_door(self) -> MulticastDoor:
        if self._multicast is None:
            raise SessionError("multicast is off here: [multicast] enabled = false in the settings")
        return self._multicast

    async def _test(self, verb: str, test_id: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await read_object(request) if request.method == hdrs.METH_POST else {}
        door = self._probe_door()
        match verb:
            case "open":
                work = partial(door.open, body, address_of(request))
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


def _check_welcome(request: web.BaseRequest, methods: tuple[str, ...]) -> None:
    if isinstance(request.protocol, Connection) and request.protocol.over_limit:
        request.protocol.close()
        raise Refusal(
            503,
            "too_many_connections",
            "as many connections as [http] max_connections allows are open; try again soon",
            {hdrs.RETRY_AFTER: str(RETRY_AFTER_S), hdrs.CONNECTION: "close"},
        )
    if request.method not in methods:
        allowed = ", ".join(methods)
        message = f"method {request.method} is not allowed here; allowed: {allowed}"
        raise Refusal(405, "method_not_allowed", message, {hdrs.ALLOW: allowed})


async def _tell_health(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"status": "ok"})


async def _send(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """Send what is small, here and not in aiohttp, which would wait for ever for a client that does not read."""
    try:
        async with asyncio.timeout(STALL_S):
            await begin(request, response)
            await response.write_eof()
    except TimeoutError:
        raise ConnectionResetError("the client does not read") from None
    return response


def _parse_version(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= MAX_SOURCE_VERSION:
        return int(text)
    expected = f"expected a whole number from 1 to {MAX_SOURCE_VERSION}"
    raise Refusal(400, "bad_request", f'source_version = "{text[:40]}": {expected}')
