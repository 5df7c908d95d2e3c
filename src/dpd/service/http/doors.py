# SPDX-License-Identifier: Apache-2.0
"""What HTTP clients reach behind the routes: the sessions, the network tests, content that is not here yet, task sequences."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from dpd.content.description import Description
from dpd.sequence.exchange import (
    Captured,
    CapturePlace,
    CaptureWish,
    Hello,
    Receipt,
    Reports,
    Resume,
    Take,
    Taken,
    Welcome,
)


class MulticastDoor(Protocol):
    """Where receivers join sessions. The verbs may be called from any thread and return soon. They raise
    ContentNotFound, SessionError (why not now), or MalformedMessage that names the field of `request`."""

    def join(
        self,
        package_id: str,
        source_version: int | None,
        request: Mapping[str, Any],
        client_address: str,
        *,
        is_secure: bool = False,
    ) -> dict[str, Any]:
        """`is_secure`: the request came over TLS, so that the answer may carry a key."""

    def progress(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def complete(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...


class ProbeDoor(Protocol):
    """Where `dpd mc-test` has a network tested; called and refused like MulticastDoor."""

    def open(self, request: Mapping[str, Any], client_address: str) -> dict[str, Any]: ...

    def run(self, test_id: str) -> dict[str, Any]: ...

    def status(self, test_id: str) -> dict[str, Any]: ...

    def finish(self, test_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...


class IncomingContent(Protocol):
    """A content on its way here; the answers are those of the moment and block for nothing."""

    @property
    def description(self) -> Description | None:
        """None as long as it is not known."""
        ...

    @property
    def verified(self) -> int:
        """How many bytes from its begin are right and may be given out."""
        ...

    @property
    def failure(self) -> str:
        """Why the rest does not come now; "" as long as it may."""
        ...

    @property
    def is_over(self) -> bool: ...

    def open(self) -> int | None:
        """A descriptor of what is verified, closed by the caller; None where there is none any more, or not yet."""
        ...


class FetchDoor(Protocol):
    """Where content that a client asks for and that is not here is fetched from the sources."""

    def fetch(self, package_id: str, source_version: int | None, via: tuple[str, ...]) -> Future[bool]:
        """See to it that it comes; False where that is switched off. `via` are the dpds that the request came through. The
        future raises ContentNotFound where no source has it, or we ourselves are asking; Unavailable, SourceUnavailable."""
        ...

    def incoming(self, package_id: str, source_version: int | None) -> IncomingContent | None:
        """What is being pulled of it now, or has failed just now."""
        ...


class TargetDoor(Protocol):
    """Where a machine that booted takes its task sequence and tells what becomes of it. The verbs may be called from any thread and
    wait for the disk. `session` is what a welcome gave. They raise TargetRefused with a code, MalformedMessage, DeploymentError and
    its children."""

    def hello(self, hello: Hello, address: str) -> Welcome: ...

    def resume(self, resume: Resume, address: str) -> Welcome: ...

    def take(self, session: str, take: Take, *, is_secure: bool) -> Taken:
        """`is_secure`: the request came over TLS, so that the answer may carry what is secret."""

    def report(self, session: str, reports: Reports) -> Receipt: ...

    def keep_log(self, session: str, execution: str, text: bytes) -> None: ...

    def begin_capture(self, session: str, wish: CaptureWish) -> CapturePlace: ...

    def write_capture(self, session: str, capture: str, offset: int, piece: bytes) -> CapturePlace: ...

    def settle_capture(self, session: str, capture: str) -> CapturePlace:
        """What was written is on disk for certain."""

    def finish_capture(self, session: str, capture: str, sha256: str) -> Captured: ...
