# SPDX-License-Identifier: Apache-2.0
"""A client's GET for content that is not here: it is fetched, and the client gets what is verified of it meanwhile.

The answer's head tells the length as soon as the description is known. If the rest does not come, the connection is cut
short of that length, and the client knows; with If-Range it can go on later.
"""

from __future__ import annotations

import asyncio
import os
import time

from aiohttp import hdrs, web

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.errors import ContentError, ContentNotFound, SourceUnavailable, Unavailable
from dpd.protocol.http.conditions import Representation, select
from dpd.service.http.connections import send_extent
from dpd.service.http.doors import FetchDoor, IncomingContent
from dpd.service.http.file_answers import HttpStats, Served, begin, conditions_of, file_response
from dpd.service.http.repository_routes import unavailable

DESCRIBED_S = 30.0  # how long a client waits for the answer's head
POLL_S = 0.05


class MissAnswers:
    """Answers from what is on its way."""

    def __init__(self, library: Library, door: FetchDoor, stats: HttpStats) -> None:
        self._library = library
        self._door = door
        self._stats = stats

    async def find(
        self, package_id: str, version: int | None, request: web.BaseRequest
    ) -> Content | IncomingContent | None:
        """The content if it has come meanwhile, or what is on its way; None where nothing is fetched. Raises Refusal,
        ContentNotFound."""
        via = repository.decode_via(request.headers.get(repository.VIA_HEADER, ""))
        try:
            if not await asyncio.shield(asyncio.wrap_future(self._door.fetch(package_id, version, via))):
                return None
        except (SourceUnavailable, Unavailable) as error:
            raise unavailable(str(error)) from None
        deadline = time.monotonic() + DESCRIBED_S
        while time.monotonic() < deadline:
            incoming = self._door.incoming(package_id, version)
            if incoming is not None and incoming.failure:
                raise unavailable(incoming.failure)
            if incoming is not None and incoming.description is not None:
                return incoming
            if incoming is None and (found := await asyncio.to_thread(self._look, package_id, version)) is not None:
                return found
            await asyncio.sleep(POLL_S)
        raise unavailable(f"package {package_id} is waited for, but has not begun to come; try again soon")

    async def send(self, incoming: IncomingContent, request: web.BaseRequest) -> web.StreamResponse:
        """All of it, or the range that is asked for, as it comes. Raises Refusal."""
        described = incoming.description
        assert described is not None
        if not described.is_one_file:
            raise unavailable(f"{described} has {len(described.files)} files and is being fetched; try again soon")
        representation = Representation(f'"{described.sha256}"', int(time.time()), described.size_bytes)
        body = request.method == hdrs.METH_GET
        selection = select(conditions_of(request), representation, ranges=body)
        location = f"/content/{described.package_id}/{described.source_version}"
        response = file_response(Served("content", described.name, representation, lambda: -1, location), selection)
        if body and selection.length:
            self._stats.ranges += selection.status == 206
            await begin(request, response)
            await self._stream(incoming, request, selection.offset, selection.offset + selection.length)
        return response

    async def _stream(self, incoming: IncomingContent, request: web.BaseRequest, offset: int, end: int) -> None:
        while offset < end:
            verified = min(incoming.verified, end)
            if verified > offset:
                await self._send_piece(incoming, request, offset, verified)
                offset = verified
            elif incoming.failure or request.transport is None or request.transport.is_closing():
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError(incoming.failure or "the client has gone")
            else:
                await asyncio.sleep(POLL_S)

    async def _send_piece(self, incoming: IncomingContent, request: web.BaseRequest, offset: int, end: int) -> None:
        descriptor = incoming.open()
        if descriptor is None:  # it is over: the library has it
            descriptor = await asyncio.to_thread(self._open, incoming, request)
        try:
            await send_extent(request, descriptor, offset, end - offset, self._stats)
        finally:
            os.close(descriptor)

    def _open(self, incoming: IncomingContent, request: web.BaseRequest) -> int:
        described = incoming.description
        assert described is not None
        try:
            return self._library.open_blob(self._library.find(described.package_id, described.source_version))
        except ContentError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError(str(error)) from None

    def _look(self, package_id: str, version: int | None) -> Content | None:
        try:
            return self._library.find(package_id, version)
        except ContentNotFound:
            return None
