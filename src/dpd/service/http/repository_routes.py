# SPDX-License-Identifier: Apache-2.0
"""This dpd as a source for others: the layout of a repository over HTTP, blobs by sendfile and with ranges.

Who asks for a package that is not here makes us fetch it, where that is switched on, and is told to come again; unless the
request came through ourselves, or through more dpds than any sound order of them has.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.repository import Kind, Name
from dpd.errors import ContentNotFound, SourceUnavailable, Unavailable
from dpd.protocol.http.conditions import Representation
from dpd.service.http.connections import STALL_S
from dpd.service.http.doors import FetchDoor
from dpd.service.http.file_answers import FileAnswers, Refusal, Served, begin

PIECE_BYTES = 256 << 10
RETRY_AFTER_S = 5


class RepositoryAnswers:
    """Answers to paths below /repository/v1. What blocks is in worker threads."""

    def __init__(self, library: Library, files: FileAnswers, door: FetchDoor | None) -> None:
        self._library = library
        self._files = files
        self._door = door

    async def send(self, path: str, request: web.BaseRequest) -> web.StreamResponse:
        """`path` is relative, as the layout names it. Raises Refusal, ContentError."""
        name = repository.parse(path)
        if name is None:
            raise Refusal(
                404, "not_in_repository", f"{path[:200]}: no path of a repository, such as {repository.IDENTITY}"
            )
        if name.kind is Kind.BLOB:
            return await self._send_blob(name.sha256, request)
        try:
            document = await asyncio.to_thread(self._read, name)
        except ContentNotFound as error:
            if self._door is None or not name.package_id:
                raise
            raise await self._fetch(self._door, name, request, error) from None
        return await _send_document(document, request)

    async def _send_blob(self, sha256: str, request: web.BaseRequest) -> web.StreamResponse:
        descriptor, size_bytes = await asyncio.to_thread(self._library.open_hash, sha256)
        try:
            representation = Representation(f'"{sha256}"', int(os.fstat(descriptor).st_mtime), size_bytes)
            served = Served("repository", sha256, representation, partial(os.dup, descriptor), is_told=False)
            return await self._files.send(request, served)
        finally:
            os.close(descriptor)

    def _read(self, name: Name) -> bytes:
        library = self._library
        reads: dict[Kind, Callable[[], bytes]] = {
            Kind.IDENTITY: lambda: repository.encode_identity(library.public_key()),
            Kind.NEWEST: lambda: repository.encode_newest(library.find(name.package_id).source_version),
            Kind.DESCRIPTION: lambda: library.description(library.find(name.package_id, name.source_version)),
            Kind.MANIFEST: lambda: self._manifest(name),
            Kind.CHUNKS: lambda: library.chunk_index(name.sha256),
        }
        return reads[name.kind]()

    def _manifest(self, name: Name) -> bytes:
        content = self._library.find(name.package_id, name.source_version)
        if not content.slab_count:
            raise Refusal(404, "no_manifest", f"{content}: has no slab manifest; its description names its files")
        return self._library.manifest(content)

    async def _fetch(
        self, door: FetchDoor, name: Name, request: web.BaseRequest, missing: ContentNotFound
    ) -> Exception:
        """What to answer where a package is not here."""
        via = repository.decode_via(request.headers.get(repository.VIA_HEADER, ""))
        version = name.source_version or None
        try:
            if not await asyncio.shield(asyncio.wrap_future(door.fetch(name.package_id, version, via))):
                return missing
        except ContentNotFound as error:
            return error
        except (SourceUnavailable, Unavailable) as error:
            return unavailable(str(error))
        return unavailable(f"package {name.package_id} is being fetched here; try again soon")


def unavailable(message: str) -> Refusal:
    """Not now."""
    return Refusal(503, "not_here_yet", message, {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})


async def _send_document(document: bytes, request: web.BaseRequest) -> web.StreamResponse:
    """In pieces, each of which has its own time: descriptions and indexes may have megabytes, and lines be slow."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/octet-stream"})
    response.content_length = len(document)
    await begin(request, response)
    if request.method == hdrs.METH_GET:
        for start in range(0, len(document), PIECE_BYTES):
            try:
                async with asyncio.timeout(STALL_S):
                    await response.write(document[start : start + PIECE_BYTES])
            except TimeoutError:
                raise ConnectionResetError("the client does not read") from None
    return response
