# SPDX-License-Identifier: Apache-2.0
"""A file as the answer to an HTTP request: validators, ranges, and the line in the machine's story."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from dpd.errors import ContentCorrupt
from dpd.protocol.http.conditions import Conditions, Representation, Selection, http_date, select
from dpd.service.http.connections import ConnectionStats, error_response, is_tls, send_extent
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import counter, counts

log = logging.getLogger(__name__)

# UEFI firmware takes the kind of image from the media type or the suffix (UEFI 2.10, 24.7.3.5): both are given.
MEDIA_TYPES = {".efi": "application/efi", ".iso": "application/vnd.efi-iso", ".img": "application/vnd.efi-img"}


@dataclass(slots=True)
class HttpStats(ConnectionStats):
    """What the HTTP service counts."""

    requests: dict[str, int] = counts("Requests by kind", "kind")
    responses: dict[str, int] = counts("Answers by status class", "class")
    ranges: int = counter("Answers that carried a part of a file")
    refused_files: dict[str, int] = counts("Boot files that were asked for and not served", "reason")


class Refusal(Exception):
    """A request that gets an error; carries the answer."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = error_response(status, code, message, headers)


@dataclass(frozen=True, slots=True)
class Served:
    """A file that a request found. `open` blocks and returns a descriptor; `on_sent` is called when the client has its end."""

    kind: str
    name: str
    representation: Representation
    open: Callable[[], int]
    location: str = ""
    on_sent: Callable[[], None] = lambda: None
    sha256: str = ""  # for the machine's story, where it is known
    is_told: bool = True  # False: no story and no line in the log, as where another dpd fetches thousands of files


class FileAnswers:
    """Sends files. What blocks (opening one) is in worker threads."""

    def __init__(self, journal: BootJournal, stats: HttpStats) -> None:
        self._journal = journal
        self._stats = stats

    async def send(self, request: web.BaseRequest, served: Served) -> web.StreamResponse:
        body = request.method == hdrs.METH_GET
        selection = select(conditions_of(request), served.representation, ranges=body)
        response = file_response(served, selection)
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
        served: Served,
        selection: Selection,
        descriptor: int,
    ) -> None:
        self._stats.ranges += selection.status == 206
        fields: dict[str, str | int] = {"kind": served.kind, "offset": selection.offset, "bytes": selection.length}
        if served.sha256:
            fields["sha256"] = served.sha256

        def tell(step: str, **more: str) -> None:
            if served.is_told:
                self.tell(request, served.name, step=step, **more, **fields)

        tell("started")
        await begin(request, response)
        try:
            await send_extent(request, descriptor, selection.offset, selection.length, self._stats)
        except (ConnectionError, asyncio.CancelledError) as error:
            tell("broken", reason=str(error))
            raise
        except ContentCorrupt as error:
            tell("broken", reason=str(error))
            log.error("file cannot be sent whole", extra={"file": served.name, "reason": str(error)})
            raise ConnectionResetError("cut") from None  # the head is out: there is no other way to tell the client
        tell("finished")
        if selection.offset + selection.length == served.representation.size_bytes:
            served.on_sent()

    def tell(self, request: web.BaseRequest, file: str, *, step: str, **fields: str | int) -> None:
        """Into the machine's story, and into the log: one line for each download when it has ended."""
        peer = address_of(request)
        self._journal.note_address(peer, "http", file=file, step=step, **fields)
        level = logging.DEBUG if step == "started" else logging.INFO
        log.log(level, "http download", extra={"peer": peer, "file": file, "step": step, **fields})


def file_response(served: Served, selection: Selection) -> web.StreamResponse:
    """The head, with the validators by which a broken download can be taken up again."""
    size = served.representation.size_bytes
    headers: dict[str, str] = {
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.ETAG: served.representation.etag,
        hdrs.LAST_MODIFIED: http_date(served.representation.modified_s),
    }
    if selection.status == 412:
        raise Refusal(
            412, "precondition_failed", f"{served.name} is not the one that If-Match or the date names", headers
        )
    if selection.status == 416:
        headers[hdrs.CONTENT_RANGE] = f"bytes */{size}"
        raise Refusal(
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


async def begin(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.setdefault(hdrs.SERVER, "dpd")  # or aiohttp tells its own version and Python's
    await response.prepare(request)


def address_of(request: web.BaseRequest) -> str:
    """The client's address as DHCP knows it; a dual-stack listener shows IPv4 as ::ffff:192.0.2.1."""
    return (request.remote or "").removeprefix("::ffff:")


def is_secure(request: web.BaseRequest) -> bool:
    """Whether the connection is TLS. The transport knows; a header such as X-Forwarded-Proto would be the client's word."""
    return request.transport is not None and is_tls(request.transport)


def conditions_of(request: web.BaseRequest) -> Conditions:
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
