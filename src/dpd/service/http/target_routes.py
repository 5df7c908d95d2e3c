# SPDX-License-Identifier: Apache-2.0
"""What a machine that booted asks below /target: its task sequence, and a place for what becomes of it.

Bodies and answers are `dpd.sequence.exchange`'s messages; a log is text, a piece of a capture is bytes at a Content-Range. Each
refusal has a code for the program and a sentence with the next step for who reads the machine's screen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import TypeAlias, TypeVar

from aiohttp import hdrs, web

from dpd.errors import (
    CaptureNotFound,
    ContentCorrupt,
    DeploymentDiskFull,
    DeploymentError,
    ExecutionNotFound,
    MalformedMessage,
    TargetRefused,
    Unavailable,
)
from dpd.sequence.exchange import (
    MAX_BODY_BYTES,
    MAX_LOG_BYTES,
    CaptureEnd,
    CaptureWish,
    Hello,
    Reports,
    Resume,
    Take,
    decode,
    encode,
)
from dpd.service.http.doors import TargetDoor
from dpd.service.http.file_answers import Refusal, address_of, is_secure
from dpd.service.http.request_body import read_body, read_pieces

RETRY_AFTER_S = 60
LOG_S = 300.0  # 4 MiB at 120 kbit/s
PIECE_BYTES = 1 << 20
STALL_S = 60.0  # between two pieces of a capture
MAX_CAPTURE_BYTES = 1 << 50
# By the code of a TargetRefused; 403 else.
STATUS = {
    "session_unknown": HTTPStatus.UNAUTHORIZED,
    "execution_unknown": HTTPStatus.NOT_FOUND,
    "sequence_missing": HTTPStatus.NOT_FOUND,
    "sequence_damaged": HTTPStatus.UNPROCESSABLE_ENTITY,  # a machine asks again for minutes after a 500
    "wrong_machine": HTTPStatus.CONFLICT,
    "not_offered": HTTPStatus.CONFLICT,
    "already_taken": HTTPStatus.CONFLICT,
    "too_many_variables": HTTPStatus.CONFLICT,
}

_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})")

M = TypeVar("M")
Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class TargetAnswers:
    """Answers to paths below /target; without a door there is nothing there. What blocks is in worker threads."""

    def __init__(self, door: TargetDoor | None) -> None:
        self._door = door

    def find(self, verbs: list[str]) -> tuple[tuple[str, ...], Answer]:
        """The methods and the answer for what is behind /target."""
        post, put = (hdrs.METH_POST,), (hdrs.METH_PUT,)
        if self._door is None:
            return (hdrs.METH_POST, hdrs.METH_PUT), _refuse_all
        match verbs:
            case ["hello"]:
                return post, partial(self._hello, self._door)
            case ["resume"]:
                return post, partial(self._resume, self._door)
            case ["take"]:
                return post, partial(self._take, self._door)
            case ["report"]:
                return post, partial(self._report, self._door)
            case ["log"]:
                return put, partial(self._log, self._door)
            case ["captures"]:
                return post, partial(self._begin_capture, self._door)
            case ["captures", capture]:
                return put, partial(self._write_capture, self._door, capture)
            case ["captures", capture, "finish"]:
                return post, partial(self._finish_capture, self._door, capture)
        return (hdrs.METH_GET, hdrs.METH_HEAD, *post, *put), _refuse_path

    async def _hello(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        hello = await _read(Hello, request)
        return await _answer(door.hello, hello, address_of(request))

    async def _resume(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        resume = await _read(Resume, request)
        return await _answer(door.resume, resume, address_of(request))

    async def _take(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        session, take = _session_of(request), await _read(Take, request)
        return await _answer(partial(door.take, is_secure=is_secure(request)), session, take)

    async def _report(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        session, reports = _session_of(request), await _read(Reports, request)
        return await _answer(door.report, session, reports)

    async def _log(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        session, execution = _session_of(request), request.rel_url.query.get("execution", "")
        text = await read_body(request, MAX_LOG_BYTES, LOG_S)
        await _ask(door.keep_log, session, execution, text)
        return web.json_response({})

    async def _begin_capture(self, door: TargetDoor, request: web.BaseRequest) -> web.StreamResponse:
        session, wish = _session_of(request), await _read(CaptureWish, request)
        return await _answer(door.begin_capture, session, wish)

    async def _write_capture(self, door: TargetDoor, capture: str, request: web.BaseRequest) -> web.StreamResponse:
        """Piece by piece, so that what came before a broken line is kept."""
        session, (offset, end) = _session_of(request), _range_of(request)
        try:
            await self._write_pieces(door, session, capture, offset, end, request)
        except (Refusal, ConnectionError):
            await _ask(door.settle_capture, session, capture)
            raise
        return await _answer(door.settle_capture, session, capture)

    async def _write_pieces(
        self, door: TargetDoor, session: str, capture: str, offset: int, end: int, request: web.BaseRequest
    ) -> None:
        """Raises Refusal."""
        gathered, pieces = bytearray(), aiter(read_pieces(request))
        while piece := await _next(pieces):
            gathered += piece
            if offset + len(gathered) > end:
                raise Refusal(400, "bad_request", f"the body is longer than its Content-Range, which ends at {end - 1}")
            if len(gathered) >= PIECE_BYTES:
                await _ask(door.write_capture, session, capture, offset, bytes(gathered))
                offset, gathered = offset + len(gathered), bytearray()
        if gathered:
            await _ask(door.write_capture, session, capture, offset, bytes(gathered))

    async def _finish_capture(self, door: TargetDoor, capture: str, request: web.BaseRequest) -> web.StreamResponse:
        session, end = _session_of(request), await _read(CaptureEnd, request)
        return await _answer(door.finish_capture, session, capture, end.sha256)


async def _answer(verb: Callable[..., object], *arguments: object) -> web.StreamResponse:
    return web.Response(body=encode(await _ask(verb, *arguments)), content_type="application/json")


async def _ask(verb: Callable[..., M], *arguments: object) -> M:
    """In a worker thread. Raises Refusal."""
    try:
        return await asyncio.to_thread(verb, *arguments)
    except TargetRefused as error:
        raise Refusal(STATUS.get(error.code, HTTPStatus.FORBIDDEN), error.code, str(error)) from None
    except CaptureNotFound as error:
        raise Refusal(404, "capture_unknown", str(error)) from None
    except ExecutionNotFound as error:
        raise Refusal(404, "execution_unknown", str(error)) from None
    except DeploymentDiskFull as error:
        raise Refusal(507, "disk_full", str(error)) from None
    except DeploymentError as error:
        raise Refusal(409, "deployment_refused", str(error)) from None
    except ContentCorrupt as error:  # what was captured is no image, however often it is sent
        raise Refusal(422, "image_wrong", str(error)) from None
    except Unavailable as error:
        raise Refusal(503, "unavailable", str(error), {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)}) from None


async def _read(kind: type[M], request: web.BaseRequest) -> M:
    """Raises Refusal."""
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        return decode(kind, body)
    except MalformedMessage as error:
        raise Refusal(400, "bad_request", str(error)) from None


async def _next(pieces: object) -> bytes:
    """b"" behind the last one. Raises Refusal."""
    try:
        async with asyncio.timeout(STALL_S):
            return await anext(pieces, b"")  # type: ignore[call-overload, no-any-return]
    except TimeoutError:
        raise Refusal(408, "request_timeout", f"nothing of the body came for {STALL_S:.0f} s") from None


def _session_of(request: web.BaseRequest) -> str:
    """Raises Refusal where none is named."""
    scheme, _, session = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not session.strip():
        message = (
            "no session; expected the header Authorization: Bearer, with what /target/hello or /target/resume gave"
        )
        raise Refusal(HTTPStatus.UNAUTHORIZED, "session_unknown", message)
    return session.strip()


def _range_of(request: web.BaseRequest) -> tuple[int, int]:
    """The first byte, and the one behind the last. Raises Refusal."""
    text = request.headers.get(hdrs.CONTENT_RANGE, "")
    found = _RANGE.fullmatch(text)
    first, last, size = map(int, found.groups()) if found else (0, 0, 0)
    if not first <= last < size <= MAX_CAPTURE_BYTES:
        expected = "expected such as Content-Range: bytes 0-1048575/4194304"
        raise Refusal(400, "bad_request", f"Content-Range {text[:60]!r}: {expected}")
    return first, last + 1


async def _refuse_all(request: web.BaseRequest) -> web.StreamResponse:
    raise Refusal(404, "no_sequences", "no task sequences are given out here")


async def _refuse_path(request: web.BaseRequest) -> web.StreamResponse:
    raise Refusal(404, "not_found", f"{request.path[:80]}: nothing of a target's; expected such as /target/hello")
